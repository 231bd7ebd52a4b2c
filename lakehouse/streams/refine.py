"""The work that makes Silver of messages: a unit of data files of bronze/messages → files of new trades.

It is the same for a batch of the stream and for one of a rebuild. The new trades go to data files of silver/trades that
no commit names yet; repeats of known trades are compared where they are read. The result is small.
A unit knows the ids of the batches before, and not what other units of its batch find: `unit_claims` settles that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.packed_ids import PackedIds
from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import dedup
from lakehouse.streams.data_files import new_files
from lakehouse.streams.kept_trades import KeptFile, in_all, in_near_files, in_rows, in_silver, with_ids
from lakehouse.streams.silver_rows import refused, rows_of
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.batch_ids import BatchRange


@dataclass(frozen=True)
class Claim:
    """New ids of an earlier unit of the same batch, by `packed_ids`, and the files that hold their trades.

    The files may hold trades of other ids, too, which that unit has to give up.
    """

    ids: bytes
    files: tuple[KeptFile, ...]


@dataclass(frozen=True)
class RefineUnit:
    """Data files of bronze/messages at `paths`, in the log's order, whose trades become files of silver/trades.

    `known` are the ids that the batches before have kept, by `packed_ids`. Their trades lie in silver/trades or, in a
    rebuild, in the files `staged`, which no commit names. `claims` are what earlier units of the batch keep.
    `is_pending` is true if an earlier process planned the batch, and may have run it.
    """

    settings: Settings
    paths: tuple[str, ...]
    known: bytes
    is_pending: bool = False
    staged: tuple[KeptFile, ...] | None = None
    claims: tuple[Claim, ...] = ()


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


def refine(unit: RefineUnit) -> Refined:
    """Sort a unit's messages and write its new trades to files: the first copies of the ids that it does not know.

    Raises OSError if a file cannot be read or written, and what deltalake raises; no file is left then.
    """
    known, claimed = PackedIds(unit.known), [PackedIds(claim.ids) for claim in unit.claims]

    def present(key: MarketKey) -> IdRanges:
        more = [one for ids in claimed for one in ids.of(key)]
        return IdRanges([*known.of(key), *more]) if more else known.of(key)

    settings = unit.settings
    judged, files = rows_of(settings, unit.paths)
    found = dedup.sort_out(judged.trades, files, present)
    verdicts, others = dedup.VERDICTS.empty_table(), judged.quarantine.schema.empty_table()
    if found.doubtful.num_rows:
        before = in_silver(settings) if unit.staged is None else in_near_files(settings, unit.staged)
        claims = zip(unit.claims, claimed, strict=True)
        beside = [with_ids(in_near_files(settings, claim.files), ids) for claim, ids in claims]
        verdicts = dedup.conflicts(found.doubtful, in_all(before, *beside, in_rows(found.new)))
    if verdicts.num_rows:
        others = refused(settings, unit.paths, verdicts)
    with new_files(table_io.table_uri(settings, SILVER_TRADES), SILVER_TRADES) as new:
        new.add(found.new)
        return Refined(
            trades=dedup.by_partition(judged.trades),
            arrived=found.arrived,
            earlier=dedup.inserted_by_partition(judged.trades, settings) if unit.is_pending else {},
            conflicts=dedup.by_partition(verdicts),
            refused=others,
            quarantine=judged.quarantine,
            feed_events=judged.feed_events,
            files=tuple(new.finish()),
            process=os.getpid(),
        )
