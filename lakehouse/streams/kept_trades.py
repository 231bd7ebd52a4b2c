"""Readers of the trades that are kept, with which repeats are compared (`dedup.conflicts`).

They lie in silver/trades, in files that no commit names yet, or in memory.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.continuity.packed_ids import PackedIds
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.batch_files import read_chunks
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.arrow_numpy import integers, kept
from lakehouse.transforms.batch_ids import BatchIds
from lakehouse.transforms.time_ranges import TimeRange, sql_in_ranges, within

#: Number of kept trades that repeats are compared with at a time.
_JOIN_ROWS = 65_536

#: Columns by which a trade's id is looked up.
_ID_COLUMNS = (*SILVER_TRADES.key, "kafka_topic", "kafka_partition", "kafka_offset")

#: Reads columns of the kept trades whose times lie in some ranges, in the types of silver/trades, a chunk at a time.
Kept = Callable[[Sequence[TimeRange], Sequence[str]], Iterator[pa.Table]]


class KeptFile(NamedTuple):
    """A data file of silver/trades at `path`, whose trades lie in `times`, which may be some milliseconds wider."""

    path: str
    times: TimeRange

    @classmethod
    def of(cls, file: AddAction) -> KeptFile:
        """Return what the log's entry of a file says, which has to have statistics as `data_files` writes them."""
        stats = json.loads(file.stats or "")
        first, last = (dt.datetime.fromisoformat(stats[end]["ts_event"]) for end in ("minValues", "maxValues"))
        return cls(file.path, TimeRange(first, last + dt.timedelta(milliseconds=1)))

    def is_near(self, ranges: Sequence[TimeRange]) -> bool:
        """Return True if a trade of the file may lie in one of some ranges."""
        return any(one.start < self.times.end and self.times.start < one.end for one in ranges)


def in_silver(settings: Settings) -> Kept:
    """Return the reader of the trades in silver/trades, at its newest version."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        query = f"SELECT {', '.join(columns)} FROM t WHERE {sql_in_ranges(ranges)}"
        return _chunks(table_io.sql_batches(settings, query, t=SILVER_TRADES))

    return read


def in_files(settings: Settings, paths: Sequence[str]) -> Kept:
    """Return the reader of the trades in data files of silver/trades, whether a commit names them or not."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        names = list(dict.fromkeys((*columns, "ts_event")))
        for chunk in read_chunks(settings, SILVER_TRADES, paths, names):
            yield from in_rows(chunk)(ranges, columns)

    return read


def in_near_files(settings: Settings, files: Sequence[KeptFile]) -> Kept:
    """Return the reader of the trades in those of some files that may have trades of the ranges asked for."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from in_files(settings, [file.path for file in files if file.is_near(ranges)])(ranges, columns)

    return read


def in_rows(trades: pa.Table) -> Kept:
    """Return a reader of the rows of `trades`, which are in memory."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        rows = kept(trades, within(ranges, integers(trades.column("ts_event"))))
        if rows.num_rows:
            yield rows.select(columns)

    return read


def with_ids(kept: Kept, ids: PackedIds) -> Kept:
    """Return a reader of those trades of another reader that have some ids."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        for chunk in kept(ranges, list(dict.fromkeys((*columns, *_ID_COLUMNS)))):
            asked = BatchIds(chunk).within(lambda key, first, last: ids.of(key).within(first, last))
            if asked.any():
                yield chunk.filter(pa.array(asked)).select(columns)

    return read


def in_all(*readers: Kept) -> Kept:
    """Return a reader of the trades of several readers, one reader after the other."""

    def read(ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        for one in readers:
            yield from one(ranges, columns)

    return read


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join record batches to tables of at least _JOIN_ROWS rows, but for the last, in the types of silver/trades."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _JOIN_ROWS:
            yield _typed(waiting)
            waiting, rows = [], 0
    if rows:
        yield _typed(waiting)


def _typed(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    schema = table_io.arrow_schema(SILVER_TRADES)
    return table.cast(pa.schema([schema.field(name) for name in table.column_names]))
