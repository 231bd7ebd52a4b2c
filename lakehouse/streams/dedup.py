"""Repeats among the trades of a batch, and the conflicts among them: repeats of an id with other content.

`transforms/batch_ids.py` and the ledger tell which trades are new. Repeats are compared with the trades that are kept
(`kept_trades`). Only those around the repeats' own times are read, because a repeat whose time differs is not the same
trade. The verdicts do not depend on what else is in a batch, so that a rebuild, whose batches are others, comes to the
same.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.exchanges.registry import COARSEST_TIME_MICROS
from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams.kept_trades import Kept, in_silver
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from lakehouse.transforms.arrow_numpy import Integers, integers
from lakehouse.transforms.batch_ids import BatchIds, BatchRange
from lakehouse.transforms.time_ranges import TimeRange, ranges_around

#: The columns that name a trade's message in Kafka.
POSITION = ("kafka_topic", "kafka_partition", "kafka_offset")

#: Times of the same trade may differ by less than this, in microseconds: a venue's REST history may give milliseconds
#: and its socket microseconds, so an exact comparison would call repairs conflicts.
SAME_TIME_MICROS = COARSEST_TIME_MICROS

#: Length of a window in minutes: the kept trades are read in the windows that have a repeat.
WINDOW_MINUTES = 5
_WINDOW_MICROS = WINDOW_MINUTES * 60_000_000
_WINDOW = dt.timedelta(minutes=WINDOW_MINUTES)
_SLACK = dt.timedelta(microseconds=SAME_TIME_MICROS)

#: The columns that must agree in a repeat and its trade. The time is the last: it is compared in another way.
_CONTENT = ("price", "size", "side", "ts_event")

#: The rule that a repeat with other content does not meet.
CONFLICT = "conflict"

#: Schema of the verdicts that `conflicts` returns: the columns of silver/quarantine that it knows.
VERDICTS = pa.schema([table_io.arrow_schema(SILVER_QUARANTINE).field(name) for name in (*POSITION, "rule", "detail")])


@dataclass(frozen=True)
class Copies:
    """The trades of a batch: those that are new, their ids, and the other copies whose content may differ."""

    new: pa.Table
    arrived: Sequence[BatchRange]
    doubtful: pa.Table


def sort_out(trades: pa.Table, files: Integers, present: Callable[[MarketKey], IdRanges]) -> Copies:
    """Divide trades, repeats included: new are the first copies of the ids that are not `present`.

    `files` has for each trade the number of its file (`BatchIds`). Left out are repeats of new trades that say the same
    as these; copies of an id that is present are all doubtful.
    """
    ids = BatchIds(trades, files)
    seen = ids.within(lambda key, first, last: present(key).within(first, last))
    new = ids.first & ~seen
    if new.all():
        return Copies(trades, ids.id_ranges(), trades.schema.empty_table())
    fresh = trades.filter(pa.array(new))
    doubtful = ~new & (seen | ~same_as_kept(trades, ids.kept()))
    return Copies(fresh, BatchIds(fresh).id_ranges() if fresh.num_rows else (), trades.filter(pa.array(doubtful)))


def same_as_kept(trades: pa.Table, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the trades whose content equals, as in `conflicts`, that of the row whose number is in `kept`.

    `kept` has for each trade the number of the row with the same key that is kept.
    """
    same = np.ones(trades.num_rows, np.bool_)
    for name in _CONTENT[:-1]:
        values = trades.column(name)
        same &= pc.equal(values, values.take(kept)).to_numpy()
    times = trades.column("ts_event").cast(pa.int64()).to_numpy()
    found: npt.NDArray[np.bool_] = same & (np.abs(times - times[kept]) < SAME_TIME_MICROS)
    return found


def conflicts(repeated: pa.Table, kept: Kept) -> pa.Table:
    """Return the repeats that differ from the trade that was kept, as POSITION with rule and detail for quarantine.

    Price, size and side are compared by value; times are the same if they differ by less than SAME_TIME_MICROS. Reads
    the kept trades in the windows of the repeats, widened by SAME_TIME_MICROS.
    """
    names = (*SILVER_TRADES.key, *_CONTENT)
    rows = repeated.select(names).append_column("row", pa.array(np.arange(repeated.num_rows)))
    unlike = np.ones(repeated.num_rows, np.bool_)
    others: dict[int, dict[str, Any]] = {}  #: number of a repeat → the trade of its id, if that has other content
    for some in kept(_windows(repeated), names):
        its = some.rename_columns([name if name in SILVER_TRADES.key else f"its_{name}" for name in names])
        pairs = rows.join(its, list(SILVER_TRADES.key), join_type="inner")
        same = np.ones(pairs.num_rows, np.bool_)
        for name in _CONTENT[:-1]:
            same &= pc.equal(pairs.column(name), pairs.column(f"its_{name}")).to_numpy()
        time = integers(pairs.column("ts_event"))
        distance = integers(pairs.column("its_ts_event")) - time
        same &= np.abs(distance) < SAME_TIME_MICROS
        unlike[pairs.column("row").to_numpy()[same]] = False
        # Only trades that are read for this repeat alone, so that the detail does not depend on other repeats.
        into_window = distance + time % _WINDOW_MICROS
        is_near = (into_window >= -SAME_TIME_MICROS) & (into_window < _WINDOW_MICROS + SAME_TIME_MICROS)
        for other in pairs.filter(pa.array(~same & is_near)).to_pylist():
            others[other["row"]] = {name: other[f"its_{name}"] for name in _CONTENT}
    numbers = np.flatnonzero(unlike)
    found = repeated.take(numbers).select((*POSITION, *_CONTENT))
    detail = [
        f"found {_in_words(trade)}; the trade of this id is "
        f"{_in_words(others[number]) if number in others else 'another time'}"
        for number, trade in zip(numbers.tolist(), found.to_pylist(), strict=True)
    ]
    verdicts = found.select(POSITION).append_column("rule", pa.array([CONFLICT] * len(detail), pa.string()))
    return verdicts.append_column("detail", pa.array(detail, pa.string())).cast(VERDICTS)


def inserted_by_partition(trades: pa.Table, settings: Settings) -> dict[PartitionKey, int]:
    """Count the trades of these messages that are in silver/trades, by Kafka topic and partition."""
    rows = trades.select(POSITION)
    counts: Counter[PartitionKey] = Counter()
    for there in in_silver(settings)(_windows(trades), POSITION):
        counts.update(by_partition(rows.join(there, list(POSITION), join_type="left semi")))
    return dict(counts)


def ids_by_partition(arrived: Iterable[BatchRange]) -> dict[PartitionKey, int]:
    """Count the ids of ranges by Kafka topic and partition."""
    counts: Counter[PartitionKey] = Counter()
    for island in arrived:
        counts[island.place] += island.ids
    return dict(counts)


def by_partition(rows: pa.Table) -> dict[PartitionKey, int]:
    """Count rows by Kafka topic and partition."""
    counts = rows.group_by(["kafka_topic", "kafka_partition"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["kafka_topic"], row["kafka_partition"]): row["count_all"] for row in counts}


def _windows(trades: pa.Table) -> list[TimeRange]:
    """Return the windows of the trades' times, widened by SAME_TIME_MICROS, as a few ranges."""
    starts = integers(trades.column("ts_event")) // _WINDOW_MICROS * _WINDOW_MICROS
    return ranges_around(starts, _WINDOW, _SLACK)


def _in_words(trade: dict[str, Any]) -> str:
    return f"{trade['side']} {_plain(trade['size'])} at {_plain(trade['price'])} {_time(trade['ts_event'])}"


def _plain(value: Decimal) -> str:
    """Return a number as people write it, without an exponent and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time(at: dt.datetime) -> str:
    """Return a UTC time as people write it, its fraction of a second without trailing zeros."""
    text = at.replace(tzinfo=None).isoformat(sep=" ")
    return text.rstrip("0") if "." in text else text
