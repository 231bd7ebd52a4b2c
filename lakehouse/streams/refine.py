"""The work that makes Silver of messages: a unit of data files of bronze/messages → files of new trades.

`sort_messages` says what becomes of messages: of a unit of a batch, of a unit of a rebuild. `refine` is the work of a
batch: the new trades go to data files of silver/trades that no commit names yet; repeats of known trades are compared
where they are read. The result is small.
A unit knows the ids that silver/trades has, and not what other units of its batch find: `unit_claims` settles that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.packed_ids import PackedIds, packed
from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, dedup
from lakehouse.streams.batch_plan import DataFile
from lakehouse.streams.data_files import new_files
from lakehouse.streams.kept_trades import Kept, in_all, in_files, in_rows, in_silver
from lakehouse.streams.silver_rows import refused, rows_of
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.batch_ids import BatchRange


@dataclass(frozen=True)
class RefineUnit:
    """Data files of bronze/messages at `paths`, in the log's order, whose trades become files of silver/trades.

    `known` are the ids in silver/trades, `claimed` those that earlier units of the batch have put into the files
    `claimed_in`; both by `packed_ids`. `is_pending` is true if an earlier process planned the batch, and may have run
    it.
    """

    settings: Settings
    paths: tuple[str, ...]
    known: bytes
    is_pending: bool
    claimed: bytes = packed(())
    claimed_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refined:
    """The result of a unit: where each of its messages ended. Counts are by Kafka topic and partition.

    `trades` counts good trades, repeats included; `earlier` those that an earlier run of a pending batch put into
    silver/trades; `conflicts` the repeats with other content, whose rows of silver/quarantine are `refused`.
    `quarantine` and `feed_events` are rows of these tables. `files` holds the new trades, whose ids are `arrived`;
    no commit names it yet. `process` has written it.
    """

    trades: dict[PartitionKey, int]
    arrived: Sequence[BatchRange]
    earlier: dict[PartitionKey, int]
    conflicts: dict[PartitionKey, int]
    refused: pa.Table
    quarantine: pa.Table
    feed_events: pa.Table
    files: tuple[AddAction, ...] = ()
    process: int = 0


def units_of(
    settings: Settings, files: Sequence[DataFile], known: bytes, is_pending: bool, most: int
) -> list[list[RefineUnit]]:
    """Divide the files of a batch into lists of units, each in the order of the files.

    Files with the same partitions of Kafka come into units of one list, so that copies of an id, which lie in one
    partition, are in a unit, or in two units of a list. If the files are not more than a unit, there is one.
    """
    return [in_order(settings, some, known, is_pending, most) for some in batch_plan.by_places(files, most)]


def in_order(
    settings: Settings, files: Sequence[DataFile], known: bytes, is_pending: bool, most: int
) -> list[RefineUnit]:
    """Divide the files of a batch, in their order, into units of up to `most` messages, or of one file."""
    mine = settings.for_executors()
    return [RefineUnit(mine, tuple(paths), known, is_pending) for paths in batch_plan.units(files, most)]


def sort_messages(
    settings: Settings,
    paths: Sequence[str],
    present: Callable[[MarketKey], IdRanges],
    kept: Kept,
    is_pending: bool = False,
) -> tuple[pa.Table, Refined]:
    """Return the new trades among the messages of data files, and what became of all messages, without `files`.

    The new trades are the first copies of ids that are not in `present`. `kept` reads the trades of the ids in
    `present`, with which their repeats are compared. `earlier` is counted only if `is_pending`.
    """
    judged, files = rows_of(settings, paths)
    found = dedup.sort_out(judged.trades, files, present)
    verdicts, others = dedup.VERDICTS.empty_table(), judged.quarantine.schema.empty_table()
    if found.doubtful.num_rows:
        verdicts = dedup.conflicts(found.doubtful, in_all(kept, in_rows(found.new)))
    if verdicts.num_rows:
        others = refused(settings, paths, verdicts)
    return found.new, Refined(
        trades=dedup.by_partition(judged.trades),
        arrived=found.arrived,
        earlier=dedup.inserted_by_partition(judged.trades, settings) if is_pending else {},
        conflicts=dedup.by_partition(verdicts),
        refused=others,
        quarantine=judged.quarantine,
        feed_events=judged.feed_events,
    )


def refine(unit: RefineUnit) -> Refined:
    """Sort a unit's messages and write its new trades to files.

    Raises OSError if a file cannot be read or written, and what deltalake raises; no file is left then.
    """
    known, claimed = PackedIds(unit.known), PackedIds(unit.claimed)

    def present(key: MarketKey) -> IdRanges:
        more = claimed.of(key)
        return IdRanges([*known.of(key), *more]) if more else known.of(key)

    settings = unit.settings
    kept = in_all(in_silver(settings), in_files(settings, unit.claimed_in))
    new, refined = sort_messages(settings, unit.paths, present, kept, unit.is_pending)
    with new_files(table_io.table_uri(settings, SILVER_TRADES), SILVER_TRADES) as files:
        files.add(new)
        return replace(refined, files=tuple(files.finish()), process=os.getpid())
