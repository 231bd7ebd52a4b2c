"""One-minute bars from Silver, at one of its versions: the only part of Gold that reads trades. No Spark.

A part of a bar is the fold over some of its trades; parts can be joined.
Guarantee: a bar is the fold over all trades of its minute that silver/trades holds at a version. If a batch is known to
hold all rows between two versions, they are not read a second time: its own parts of bars are joined with those of the
trades before it. The stream still has these from the batch before, or reads them; for a new minute Delta's statistics
let it open no file.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse.id_ranges import IdRange
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_files
from lakehouse.streams.gold_complete import IdGroup, ranges_of
from lakehouse.streams.gold_rows import only, places_of
from lakehouse.streams.handover import Made
from lakehouse.streams.side_by_side import in_order
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from lakehouse.transforms.arrow_numpy import differs, integers
from lakehouse.transforms.bars import PARTS, TRADE_COLUMNS, fold, joined
from lakehouse.transforms.decimal18 import MINUTE_US
from lakehouse.transforms.row_keys import RowKeys
from lakehouse.transforms.time_ranges import TimeRange, ranges_around, sql_in_ranges

MINUTE = dt.timedelta(minutes=1)

#: Number of minutes whose parts of bars a stream keeps: the trades of most batches are of the newest two.
KEPT_MINUTES = 3

#: Number of parts of bars from which on they are joined: few enough for memory, enough to be worth it.
_JOIN_ROWS = 200_000


@dataclass(frozen=True)
class Since:
    """All trades that silver/trades has got since a version of it, as parts of bars."""

    version: int
    parts: pa.Table


class Touched:
    """The trades of a batch as parts of one-minute bars, with their places, ids and newest times."""

    def __init__(self, settings: Settings, files: Sequence[str]) -> None:
        """Read the batch, which consists of the data files `files` of silver/trades."""
        self._settings, self._files = settings, files
        #: One part for each bar that the batch touches.
        made = batch_files.made_of(settings, SILVER_TRADES, files, TRADE_COLUMNS, folded)
        self.parts = _joined(parts for _, parts in made)
        self.places = places_of(GOLD_BARS_1M, self.parts)

    @property
    def trades(self) -> int:
        """The number of the batch's trades."""
        return int(integers(self.parts.column("trades")).sum())

    @property
    def newest(self) -> dict[MarketKey, int]:
        """The time of each symbol's newest trade, in microseconds since the epoch."""
        keys, key = self.places.pairs()
        found = np.full(len(keys), np.iinfo(np.int64).min)
        np.maximum.at(found, key, integers(self.parts.column("newest_ts")))
        return dict(zip(keys, found.tolist(), strict=True))

    def ids(self) -> dict[MarketKey, list[IdRange]]:
        """Return the ranges of the batch's trade ids for each symbol.

        If a symbol's parts leave no id out, their counts tell the ranges; else its ids are read again from the files.
        """
        keys, key = self.places.pairs()
        lowest, highest, ids = (
            integers(self.parts.column(name)) for name in ("first_trade_id", "last_trade_id", "trades")
        )
        order = np.lexsort((lowest, key))
        key, lowest, highest, ids = key[order], lowest[order], highest[order], ids[order]
        begins, behind = differs(key), np.ones(len(key), np.int64)
        behind[1:] = lowest[1:] - highest[:-1]  # 1 if a bar's ids go on from those of the bar before
        plain = (ids == highest - lowest + 1) & (begins | (behind > 0))
        unclear = np.unique(key[~plain])
        first = np.flatnonzero(begins | (behind != 1))
        last = np.append(first[1:], len(key))[: len(first)] - 1
        found: dict[MarketKey, list[IdRange]] = {}
        runs = zip(key[first].tolist(), lowest[first].tolist(), highest[last].tolist(), strict=True)
        for number, low, high in runs:
            found.setdefault(keys[number], []).append((low, high))
        unsure: set[MarketKey] = set()
        for number in unclear.tolist():  # bars whose ids lie across each other, or that lack some
            rows = slice(*np.searchsorted(key, (number, number + 1)))
            ranges = ranges_of(map(IdGroup, lowest[rows].tolist(), highest[rows].tolist(), ids[rows].tolist()))
            if ranges is None:
                unsure.add(keys[number])
            else:
                found[keys[number]] = ranges
        return found | self._ids_of(unsure) if unsure else found

    def _ids_of(self, keys: Collection[MarketKey]) -> dict[MarketKey, list[IdRange]]:
        ids: dict[MarketKey, list[np.ndarray[tuple[int], np.dtype[np.int64]]]] = {key: [] for key in keys}
        wanted = ("venue", "symbol", "trade_id")
        for chunk in batch_files.read_chunks(self._settings, SILVER_TRADES, self._files, wanted):
            groups = chunk.group_by(["venue", "symbol"]).aggregate([("trade_id", "list")])
            columns = (groups.column(name).combine_chunks() for name in ("venue", "symbol", "trade_id_list"))
            for venue, symbol, values in zip(*columns, strict=True):
                if (key := (venue.as_py(), symbol.as_py())) in ids:
                    ids[key].append(values.values.to_numpy())
        found: dict[MarketKey, list[IdRange]] = {}
        for key, pieces in ids.items():
            ordered = np.unique(np.concatenate(pieces))
            ends = np.flatnonzero(np.diff(ordered) > 1)
            firsts, lasts = ordered[np.r_[0, ends + 1]], ordered[np.r_[ends, len(ordered) - 1]]
            found[key] = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
        return found


def minute_parts(
    settings: Settings, version: int, ranges: Sequence[TimeRange], places: RowKeys | None = None
) -> pa.Table:
    """Fold the trades in some ranges of time, of Silver at a version, to one part for each one-minute bar.

    If `places` are given, return those of these bars only.
    """
    parts = _joined(in_order(folded, _trades_in(settings, version, ranges)))
    return parts if places is None else only(GOLD_BARS_1M, parts, places)


class KeptParts:
    """Parts of a stream's newest bars, so that a minute's trades are not read again with each of its batches.

    Guarantee: the parts are used only if they are of the very version of Silver that is asked for. If they are not (a
    batch in between failed, or ended inside a version), they are dropped, and Silver is read.
    """

    def __init__(self) -> None:
        self._version: int | None = None
        self._parts = PARTS.empty_table()

    def after(self, settings: Settings, since: Since, version: int, places: RowKeys) -> pa.Table:
        """Return one part for each bar of some places at `version` of Silver, and keep those of the newest minutes.

        `since` holds all trades that came after `since.version`, up to `version`; its bars are among the places.
        """
        if self._version != since.version:
            self._parts = PARTS.empty_table()
        asked = places_of(GOLD_BARS_1M, self._parts).among(places)
        known, others = (self._parts.filter(pa.array(which)) for which in (asked, ~asked))
        unknown = places.at(~places.among(places_of(GOLD_BARS_1M, known)))
        ranges = ranges_around(unknown.start, MINUTE, dt.timedelta(0))
        read = minute_parts(settings, since.version, ranges, unknown)
        # All three are of bars among the places, and each has at most one part of a bar.
        parts = joined([known, read, since.parts]) if known.num_rows or read.num_rows else since.parts
        self._parts = _newest(pa.concat_tables([others, parts]))
        self._version = version
        return parts


def _newest(parts: pa.Table) -> pa.Table:
    """Return the parts of the last KEPT_MINUTES minutes that there are."""
    starts = integers(parts.column("bar_start"))
    return parts.filter(pa.array(starts > starts.max() - KEPT_MINUTES * MINUTE_US)) if len(starts) else parts


def _trades_in(settings: Settings, version: int, ranges: Sequence[TimeRange]) -> Iterator[pa.Table]:
    if version < 0 or not ranges:
        return
    query = f"SELECT {', '.join(TRADE_COLUMNS)} FROM t WHERE {sql_in_ranges(ranges)}"
    schema = pa.schema([table_io.arrow_schema(SILVER_TRADES).field(name) for name in TRADE_COLUMNS])
    for batch in table_io.sql_batches(settings, query, t=table_io.open_table(settings, SILVER_TRADES, version)):
        yield pa.table(batch).cast(schema)


def folded(trades: pa.Table) -> Made:
    """Fold some trades to parts of one-minute bars, in the form of the handover's work."""
    return (fold(trades),)


def _joined(made: Iterable[Made]) -> pa.Table:
    """Join parts of bars to one for each bar."""
    parts: list[pa.Table] = [PARTS.empty_table()]
    rows = 0
    for (part,) in made:
        parts.append(part)
        rows += part.num_rows
        if rows > _JOIN_ROWS:
            parts = [joined(parts)]
            rows = 0
    return joined(parts)
