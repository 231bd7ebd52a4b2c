"""Check this machine's clock: compare event and receipt times of live trades, in Silver and in quarantine.

If this machine's clock is behind by more than the tolerance, every trade goes into quarantine, so both tables are read.
The check is about the present: it always looks at the last minutes in which trades were received.
Limit: it cannot judge a market so quiet that fewer than ten trades come in those minutes.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake.receipt_times import received, refused
from lakehouse.lake.table_io import open_table
from lakehouse.market.clock_offset import Offset, cause, offset_of, without_history
from lakehouse.quality.model import CheckResult, Figure, Look, always_a_verdict, newest, recent_span
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES

#: Most time by which a broker's clock may be ahead of ours.
A_MINUTE = timedelta(minutes=1)
#: Microseconds: if Kafka's time goes back by more from one message to the next, a clock was set back. NTP slews less.
SET_BACK = 1_000_000


@always_a_verdict
def clock_agrees(settings: Settings, look: Look) -> CheckResult:  # noqa: ARG001  (always the last minutes)
    """Check for each venue that its live trades of the last minutes are received neither early nor much too late.

    It fails if three quarters of a venue's trades were, by this machine's clock, received too early or too late;
    `lakehouse.market.clock_offset` has the limits.
    """
    delays = _delays(settings)
    found = {venue: offset for venue in sorted(delays) if (offset := offset_of(delays[venue])) is not None}
    # Only the simulator plays recordings; two of one time look like two venues that agree.
    offsets = without_history(found) if settings.simulator_url is None else _recent(found)
    trades = sum(map(len, delays.values()))
    figures: dict[str, Figure] = {"trades": trades, "venues": len(offsets)}
    figures |= {f"offset_seconds_{venue}": round(offset.seconds, 3) for venue, offset in offsets.items()}
    off = [venue for venue, offset in offsets.items() if offset.is_off]
    if off:
        return CheckResult(False, f"{'; '.join(_causes(off, offsets))}.", figures)
    said = ", ".join(_median(venue, offset, venue in offsets) for venue, offset in found.items())
    said = said or "too few for a word"
    return CheckResult(
        True, f"From event to receipt of {trades:,} live trades of the last minutes, median: {said}.", figures
    )


def _recent(found: dict[str, Offset]) -> dict[str, Offset]:
    return {venue: offset for venue, offset in found.items() if not offset.may_be_history}


def _median(venue: str, offset: Offset, counts: bool) -> str:
    note = "" if counts else " (a recording that is played, or this machine's clock: no other venue is as late)"
    return f"{venue} {offset.seconds:.1f} s{note}"


def _causes(off: list[str], offsets: dict[str, Offset]) -> list[str]:
    """Write one sentence for all venues that show the same clock error."""
    said: list[str] = []
    told: list[Offset] = []
    for venue in off:
        if not any(offsets[venue].is_like(one) for one in told):
            told.append(offsets[venue])
            said.append(cause(venue, offsets))
    return said


def _delays(settings: Settings) -> dict[str, list[int]]:
    """Map each venue to the delays from event to receipt of its last minutes' live trades, in microseconds."""
    now = datetime.now(UTC)
    tables = (open_table(settings, SILVER_TRADES), open_table(settings, SILVER_QUARANTINE))
    known = [at for table in tables if (at := newest(table, "ts_kafka")) is not None]
    since = min(max(known, default=now), now) - recent_span(settings)
    within = f"ts_kafka >= TIMESTAMP '{since.isoformat()}' AND ts_kafka <= TIMESTAMP '{(now + A_MINUTE).isoformat()}'"
    rows = _since_set_back(pa.concat_tables([received(settings, within), refused(settings, within)]))
    found: dict[str, list[int]] = defaultdict(list)
    columns: list[list[Any]] = [rows["venue"].to_pylist(), pc.subtract(rows["ingest"], rows["event"]).to_pylist()]
    for venue, delay in zip(*columns, strict=True):
        found[venue].append(delay)
    return found


def _since_set_back(trades: pa.Table) -> pa.Table:
    """Keep the trades that came after the clock was last set back: earlier ones may have the same times.

    Kafka's offsets give the order in which they came.
    """
    ordered = trades.sort_by([("venue", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
    if ordered.num_rows < 2:
        return ordered
    venues = ordered["venue"].combine_chunks().dictionary_encode().indices.to_numpy()
    partitions, kafka = ordered["partition"].to_numpy(), ordered["kafka"].to_numpy()
    is_new = np.append(True, (np.diff(venues) != 0) | (np.diff(partitions) != 0))
    places = np.arange(len(kafka))
    begins = np.where(is_new | np.append(False, np.diff(kafka) < -SET_BACK), places, 0)
    group = np.cumsum(is_new) - 1
    last = np.maximum.reduceat(begins, np.flatnonzero(is_new))
    return ordered.filter(pa.array(places >= last[group]))
