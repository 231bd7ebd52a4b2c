"""The trade ids of a batch: which rows come first, which ids are known, which ranges they form. No Spark.

Everything here is exact, whatever the order and repetition of the rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lakehouse.market.symbols import MarketKey
from lakehouse.transforms.arrow_numpy import Integers, Mask, coded, differs, integers


class BatchRange(NamedTuple):
    """A contiguous range of trade ids of a (venue, symbol) in one Kafka partition, inclusive.

    `rows` counts all rows, `ids` the first row of each key, `repaired` those among them with source repair. If the ids
    of a range are spread over several partitions, each partition's first_id and last_id lie within the same contiguous
    range, so their union is still right.
    """

    venue: str
    symbol: str
    kafka_topic: str
    kafka_partition: int
    first_id: int
    last_id: int
    rows: int
    ids: int
    repaired: int
    ts_first: dt.datetime  #: event time of the first id
    ts_last: dt.datetime

    @property
    def key(self) -> MarketKey:
        return self.venue, self.symbol

    @property
    def place(self) -> tuple[str, int]:
        return self.kafka_topic, self.kafka_partition


class BatchIds:
    """The trade ids of a batch: which rows repeat an id, which ids lie in given ranges, which ranges they form.

    `trades` has columns of silver/trades, in any order; it is sorted once, for all questions. `files` has for each row
    the number of the file of bronze/messages that it comes from, in the order of the table's log; without it, all come
    from one. The first of the rows with the same id, by file, topic, partition and offset, is the one that is kept.
    """

    def __init__(self, trades: pa.Table, files: Integers | None = None) -> None:
        self.trades = trades
        venues, venue = coded(trades.column("venue"))
        symbols, symbol = coded(trades.column("symbol"))
        topics, topic = coded(trades.column("kafka_topic"))
        self._names = venues, symbols, topics
        self._key: Integers = venue.astype(np.int64) * max(1, len(symbols)) + symbol
        self._topic = topic
        self._id = integers(trades.column("trade_id"))
        self._partition = integers(trades.column("kafka_partition"))
        offset = integers(trades.column("kafka_offset"))
        file = np.zeros(trades.num_rows, np.int64) if files is None else files
        #: Rows by key, id and the order in which they came: the first of a key's repeats is kept.
        self._order = np.lexsort((offset, self._partition, topic, file, self._id, self._key))
        key, ids = self._key[self._order], self._id[self._order]
        new_key, new_id = differs(key), differs(ids)
        self._is_first = new_key | new_id
        self._starts = new_key | (np.diff(ids, prepend=ids[:1]) > 1)
        self._place_of_first = self._order[np.flatnonzero(self._is_first)]

    @property
    def first(self) -> Mask:
        """Mask of the rows that come first of their (venue, symbol, trade id)."""
        return self._back(self._is_first)

    def kept(self) -> Integers:
        """Return for each row the index of the row that comes first of its (venue, symbol, id)."""
        result = np.empty(len(self._order), np.int64)
        result[self._order] = self._place_of_first[np.cumsum(self._is_first) - 1]
        return result

    def within(self, ranges: Callable[[MarketKey, int, int], Iterable[tuple[int, int]]]) -> Mask:
        """Mask of the rows whose ids lie in the ranges that `ranges` returns, ascending and inclusive.

        It is called once for each (venue, symbol), with the lowest and the highest id of the batch.
        """
        found = np.zeros(len(self._order), np.bool_)
        ids = self._id[self._order]
        for key, start, end in self._keys():
            parts = np.array(list(ranges(key, int(ids[start]), int(ids[end - 1]))), np.int64).reshape(-1, 2)
            if len(parts):
                place = np.searchsorted(parts[:, 0], ids[start:end], "right") - 1
                found[start:end] = (place >= 0) & (ids[start:end] <= parts[np.maximum(place, 0), 1])
        return self._back(found)

    def id_ranges(self) -> list[BatchRange]:
        """Return the contiguous ranges of ids of all rows, one per Kafka partition, ordered by key and id."""
        venues, symbols, topics = self._names
        order = self._order
        rows = pa.table(
            {
                "run": np.cumsum(self._starts),
                "topic": self._topic[order],
                "partition": self._partition[order],
                "key": self._key[order],
                "id": self._id[order],
                "ts": self.trades.column("ts_event").combine_chunks().take(order),
                "first": self._is_first.astype(np.int64),
                "repaired": (self._is_first & self._repairs()[order]).astype(np.int64),
            }
        )
        # In one thread a group sees its rows in order, so the first has the lowest id.
        groups = rows.group_by(["run", "topic", "partition"], use_threads=False).aggregate(
            [
                ("key", "first"),
                ("id", "first"),
                ("id", "last"),
                ("id", "count"),
                ("first", "sum"),
                ("repaired", "sum"),
                ("ts", "first"),
                ("ts", "last"),
            ]
        )
        return [
            BatchRange(
                venues[row["key_first"] // len(symbols)],
                symbols[row["key_first"] % len(symbols)],
                topics[row["topic"]],
                row["partition"],
                row["id_first"],
                row["id_last"],
                row["id_count"],
                row["first_sum"],
                row["repaired_sum"],
                row["ts_first"],
                row["ts_last"],
            )
            for row in groups.sort_by([("run", "ascending"), ("id_first", "ascending")]).to_pylist()
        ]

    def _repairs(self) -> Mask:
        sources, source = coded(self.trades.column("source"))
        found: Mask = source == (sources.index("repair") if "repair" in sources else -1)
        return found

    def _keys(self) -> Iterable[tuple[MarketKey, int, int]]:
        """Yield each key, and the start and end of its rows in the sorted order."""
        venues, symbols, _ = self._names
        key = self._key[self._order]
        starts = np.flatnonzero(differs(key))
        for start, end in pairwise([*starts, len(key)]):
            code = int(key[start])
            yield (venues[code // len(symbols)], symbols[code % len(symbols)]), int(start), int(end)

    def _back(self, in_order: Mask) -> Mask:
        result = np.empty(len(in_order), np.bool_)
        result[self._order] = in_order
        return result
