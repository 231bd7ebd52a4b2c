"""Repair given gaps once: fetch their trades over REST, send them to Kafka, wait a bounded time for the ledger.

Works with or without Dagster. Does not compare the given gaps with the ledger first; `gaps_to_repair` reads which gaps
are open or due. Guarantee: Silver takes each trade once, so a repair beside another repair, or beside ingest's own,
doubles nothing. Limit: without a running Silver stream there is no wait. The trades that were sent are in Kafka; the
next stream closes the gaps in the ledger and counts the tries.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lakehouse.continuity.gaps import LedgerGap, open_gaps, unavailable_gaps
from lakehouse.errors import LeaseHeldError
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.lease import Lease
from lakehouse.market.symbols import MarketKey
from lakehouse.repair.fetch import FetchReport, fetch_gaps
from lakehouse.settings import Settings

#: Most seconds for which one repair fetches; ids that are left then are for the next repair.
REPAIR_SECONDS = 300.0
#: Most seconds for the streams to take the trades that were sent: several of their triggers, also on a busy machine.
SETTLE_SECONDS = 90.0
#: Seconds between two checks whether the repair has ended, and between two readings of the ledger.
POLL_SECONDS, LEDGER_SECONDS = 0.2, 1.0
#: Most seconds for an interrupted repair to end, Kafka's acknowledgements included.
STOP_SECONDS = 10.0

Hold = Callable[[float], None]


@dataclass(frozen=True)
class RepairReport:
    """The result of one repair, as numbers of trade ids except for `gaps` and `requests`.

    `ids` counts all ids of the gaps. After the REST requests each of them is `repaired`, `unavailable` or `left`.
    """

    gaps: int = 0
    ids: int = 0
    again: int = 0  #: ids that were unavailable in the ledger before
    repaired: int = 0
    unavailable: int = 0
    left: int = 0  #: neither repaired nor unavailable: REST lags, a limit, an error, or the time was up
    requests: int = 0
    #: Ids that are still open in the ledger after the repair, or unavailable without a new try; None if no Silver
    #: stream is running, which could update it.
    still_open: int | None = 0

    @property
    def done(self) -> bool:
        """True if no id is `left`, and the ledger holds none of them open or no Silver stream updates it."""
        return not self.left and not self.still_open


def repair_gaps(
    settings: Settings,
    gaps: Sequence[LedgerGap],
    timeout: float = REPAIR_SECONDS,
    settle: float = SETTLE_SECONDS,
    hold: Hold = time.sleep,
) -> RepairReport:
    """Fetch the trades of `gaps` for at most `timeout` seconds, then wait up to `settle` seconds for the ledger.

    `hold(seconds)` waits; it may raise to end the repair early. Raises the errors of `fetch_gaps`.
    """
    if not gaps:
        return RepairReport()
    began = dt.datetime.now(dt.UTC)
    report = _repair(settings, gaps, timeout, hold)
    return RepairReport(
        gaps=len(gaps),
        ids=sum(len(gap) for gap in gaps),
        again=sum(len(gap) for gap in gaps if gap.tries),
        repaired=report.repaired,
        unavailable=report.unavailable,
        left=report.left,
        requests=report.requests,
        still_open=_settled(settings, gaps, began, report.left, time.monotonic() + settle, hold),
    )


def digest(gaps: Sequence[LedgerGap]) -> str:
    """Return a hash of 16 hexadecimal digits that identifies a set of gaps by their ids, whatever their order."""
    lines = sorted(f"{gap.venue} {gap.symbol} {gap.first_id} {gap.last_id}" for gap in gaps)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def ids_still_open(asked: Sequence[LedgerGap], now_open: Sequence[LedgerGap]) -> int:
    """Return how many ids of the gaps `asked` also lie in the gaps `now_open`."""
    ranges: dict[MarketKey, IdRanges] = {}
    for gap in now_open:
        ranges.setdefault((gap.venue, gap.symbol), IdRanges()).add(gap.first_id, gap.last_id)
    parts = [
        part
        for gap in asked
        for part in ranges.get((gap.venue, gap.symbol), IdRanges()).within(gap.first_id, gap.last_id)
    ]
    return sum(last - first + 1 for first, last in parts)


def _repair(settings: Settings, gaps: Sequence[LedgerGap], timeout: float, hold: Hold) -> FetchReport:
    """Repair in a thread, so that `hold` can end it at any moment."""
    stop, done = threading.Event(), threading.Event()
    outcome: list[FetchReport | BaseException] = []

    def body() -> None:
        try:
            outcome.append(fetch_gaps(settings, gaps, stop, timeout))
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=body, name="repair", daemon=True)
    thread.start()
    try:
        while not done.is_set():
            hold(POLL_SECONDS)
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _settled(
    settings: Settings, gaps: Sequence[LedgerGap], began: dt.datetime, left: int, deadline: float, hold: Hold
) -> int | None:
    """How many ids the ledger still holds open once it shows what was sent, or at the deadline; None: nobody writes it.

    So it does those that are unavailable without a try since this repair `began`. The repair has left `left` of them
    all as they were, so there is no use in waiting for less.
    """
    while True:
        still_open = ids_still_open(gaps, [*open_gaps(settings), *unavailable_gaps(settings, tried_before=began)])
        if still_open <= left or time.monotonic() >= deadline:
            return still_open
        if not _silver_is_live(settings):
            return None
        hold(LEDGER_SECONDS)


def _silver_is_live(settings: Settings) -> bool:
    probe = Lease(settings, ("silver",), "probe")
    try:
        probe.acquire()
    except LeaseHeldError:
        return True
    probe.release()
    return False
