"""The trades of a batch of silver/trades as parts of one-minute bars: data files → parts and ranges of trade ids.

`fold_files` is the work. Silver holds each id
once, so the ids of two units have none in common, and their ranges add up to those of the batch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from lakehouse.continuity.known_ids import KnownIds
from lakehouse.id_ranges import IdRange
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_files, batch_plan
from lakehouse.streams.batch_plan import UNIT_MESSAGES, DataFile, paths_of
from lakehouse.streams.gold_bars import one_a_bar
from lakehouse.streams.gold_complete import IdGroup, ranges_of
from lakehouse.streams.gold_rows import places_of
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from lakehouse.transforms.arrow_numpy import differs, integers
from lakehouse.transforms.bars import TRADE_COLUMNS, fold
from lakehouse.transforms.row_keys import RowKeys


@dataclass(frozen=True)
class FoldUnit:
    """Data files of silver/trades, at `paths` below its root, whose trades are folded.

    `has_new_ids` is true if the ranges of their ids are wanted.
    """

    settings: Settings
    paths: tuple[str, ...]
    has_new_ids: bool


@dataclass(frozen=True)
class Touched:
    """The trades of a unit or of a batch: one part for each bar, and the ascending ranges of each symbol's trade ids.

    `ids` is empty if nobody wants the ids. `process` has folded the trades.
    """

    parts: pa.Table
    ids: dict[MarketKey, list[IdRange]] = field(default_factory=dict)
    process: int = field(default_factory=os.getpid)

    @cached_property
    def places(self) -> RowKeys:
        """The places of the bars, in the order of the parts."""
        return places_of(GOLD_BARS_1M, self.parts)

    @property
    def trades(self) -> int:
        """The number of trades."""
        return int(integers(self.parts.column("trades")).sum())

    @property
    def newest(self) -> dict[MarketKey, int]:
        """The time of each symbol's newest trade, in microseconds since the epoch."""
        keys, key = self.places.pairs()
        found = np.full(len(keys), np.iinfo(np.int64).min)
        np.maximum.at(found, key, integers(self.parts.column("newest_ts")))
        return dict(zip(keys, found.tolist(), strict=True))


def read_batch(settings: Settings, files: Sequence[DataFile], has_new_ids: bool, tasks: Tasks) -> Touched:
    """Read a batch, which consists of data files of silver/trades; ranges of its ids only if it `has_new_ids`.

    Raises what a work raises.
    """
    mine = settings.for_executors()
    units = [FoldUnit(mine, paths_of(some), has_new_ids) for some in batch_plan.units(files, UNIT_MESSAGES)]
    return together(tasks.run(units, fold_files))


def fold_files(unit: FoldUnit) -> Touched:
    """Fold a unit's trades. Raises OSError if a file cannot be read."""
    trades = batch_files.read_chunks(unit.settings, SILVER_TRADES, unit.paths, TRADE_COLUMNS)
    touched = Touched(one_a_bar(map(fold, trades)))
    return Touched(touched.parts, _ids(unit, touched)) if unit.has_new_ids else touched


def together(units: Sequence[Touched]) -> Touched:
    """Join the results of a batch's units; no id may be in two of them."""
    ids = KnownIds()
    for unit in units:
        for key, ranges in unit.ids.items():
            for first, last in ranges:
                ids.add(key, first, last)
    return Touched(one_a_bar(unit.parts for unit in units), {key: list(ranges) for key, ranges in ids.items()})


def _ids(unit: FoldUnit, touched: Touched) -> dict[MarketKey, list[IdRange]]:
    """Return the ranges of a unit's trade ids for each symbol.

    If a symbol's parts leave no id out, their counts tell the ranges; else its ids are read again from the files.
    """
    keys, key = touched.places.pairs()
    lowest, highest, ids = (
        integers(touched.parts.column(name)) for name in ("first_trade_id", "last_trade_id", "trades")
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
    return found | _ids_of(unit, unsure) if unsure else found


def _ids_of(unit: FoldUnit, keys: Collection[MarketKey]) -> dict[MarketKey, list[IdRange]]:
    """Read the ranges of the trade ids of some symbols from a unit's files."""
    ids: dict[MarketKey, list[np.ndarray[tuple[int], np.dtype[np.int64]]]] = {key: [] for key in keys}
    wanted = ("venue", "symbol", "trade_id")
    for chunk in batch_files.read_chunks(unit.settings, SILVER_TRADES, unit.paths, wanted):
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
