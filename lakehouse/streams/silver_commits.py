"""Commits of rows to Silver's tables, by deltalake: new trades, all trades anew, and rows that a table lacks.

Guarantee: no commit here adds a row that another writer has added meanwhile. All commits of trades share one Delta
transaction id, so the second of two writers that know the same state of silver/trades fails; `merge_by_offset` commits
only to the version of the table in which it has looked for the rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io, transactions
from lakehouse.settings import Settings
from lakehouse.streams.batch_plan import rows_in
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import SILVER_TRADES, Table
from lakehouse.transforms.arrow_numpy import Mask, kept

#: Delta's application id of every commit of rows to silver/trades, by whatever writer.
APPENDS = "lakehouse/silver/trades"

#: How often `merge_by_offset` looks and commits. Each further time needs another writer's commit within milliseconds.
MOST_MERGES = 10


class OtherWriterError(RetriableError):
    """Raised if another writer has written to the same table of Silver meanwhile."""


def append_trades(new: pa.Table | Sequence[AddAction], settings: Settings, known: int) -> None:
    """Append trades to silver/trades, in one commit, that its version `known`, the ledger's, does not have.

    They are rows, or files that are deleted if they are not committed. Raises OtherWriterError if another writer has
    appended rows since, or does so at the same moment.
    """
    count = new.num_rows if isinstance(new, pa.Table) else _rows_in(new)
    with BulkAppend(settings, SILVER_TRADES) as append:
        if not isinstance(new, pa.Table):
            append.adopt(new)
        number = transactions.taken(table_io.table_uri(settings, SILVER_TRADES), append.delta, APPENDS) or 0
        if append.delta.version() != known and number != _appends_at(settings, known):
            raise _other_writer("somebody else's rows since its ledger was written", count)
        if isinstance(new, pa.Table):
            append.add(new)
        try:
            append.commit(Transaction(APPENDS, number + 1))
        except CommitFailedError:
            raise _other_writer("somebody else's commit in the place of this batch's", count) from None


def _appends_at(settings: Settings, version: int) -> int:
    return 0 if version < 0 else table_io.open_table(settings, SILVER_TRADES, version).transaction_version(APPENDS) or 0


def replace_all(files: Sequence[AddAction], table: Table, settings: Settings) -> None:
    """Replace all rows of a table of Silver by those of new files, in one commit.

    The files are deleted if they are not committed. Raises OtherWriterError if another writer commits in this moment.
    """
    with BulkAppend(settings, table) as append:
        append.adopt(files)
        transaction = None
        if table is SILVER_TRADES:
            transaction = Transaction(APPENDS, (append.delta.transaction_version(APPENDS) or 0) + 1)
        try:
            append.commit(transaction, instead=True)
        except CommitFailedError:
            raise _other_writer(
                "somebody else's commit in the place of this rebuild's", _rows_in(files), table
            ) from None


def _rows_in(files: Sequence[AddAction]) -> int:
    return sum(rows_in(file.stats) for file in files)


def _other_writer(found: str, expected: int, table: Table = SILVER_TRADES) -> OtherWriterError:
    return OtherWriterError(
        f"{table.path} took {found}",
        f"{expected:,} rows in one commit; another stream writes the same table",
        "stop one of them; this one can be started again",
    )


def merge_by_offset(rows: pa.Table, table: Table, settings: Settings) -> None:
    """Insert the rows whose key, a message's position in Kafka, a table lacks: for the tables that seldom get a row.

    Nothing is committed if it lacks none. Raises RetriableError if other writers are faster again and again.
    """
    for left in reversed(range(MOST_MERGES)):
        with BulkAppend(settings, table) as append:
            # Looked for in the version on which the commit is based: if somebody else commits rows first, look again.
            missing = kept(rows, ~_among(rows, append.delta, table, settings))
            if not missing.num_rows:
                return
            append.add(missing)
            if not left:
                append.commit_alone()
                return
            with contextlib.suppress(CommitFailedError):
                append.commit()
                return


def _among(rows: pa.Table, there: DeltaTable, table: Table, settings: Settings) -> Mask:
    """Return a mask of the rows whose key a table has. Only files that may have one by their statistics are read."""
    topic, partition, offset = table.key
    (day,) = table.partition_by
    keys = rows.select(table.key).append_column("row", pa.array(np.arange(rows.num_rows)))
    bounds = rows.group_by([topic, partition, day]).aggregate([(offset, "min"), (offset, "max")]).to_pylist()
    where = " OR ".join(
        f"({topic} = '{one[topic]}' AND {partition} = {one[partition]} AND {day} = DATE '{one[day]}' "
        f"AND {offset} BETWEEN {one[f'{offset}_min']} AND {one[f'{offset}_max']})"
        for one in bounds
    )
    found = np.zeros(rows.num_rows, np.bool_)
    if where:
        query = f"SELECT {', '.join(table.key)} FROM t WHERE {where}"
        its = table_io.sql(settings, query, t=there).cast(keys.schema.remove(len(table.key)))
        found[keys.join(its, list(table.key), join_type="left semi").column("row").to_numpy()] = True
    return found
