"""Compaction: the small files of a day are joined, so that a commit costs as much in the evening as in the morning.

Each batch adds files to Gold's tables and to ops/batches, and the cost of an append and of a look grows with their
number: 12 and 13 ms of CPU with 300 files, 24 and 23 ms with 3,000. It is for Gold's tables and the ops tables, from
which nobody streams.
Guarantee: rows stay as they are; the commit says that no data changed. Gold's files are joined by the query that writes
the table, between two of its own commits, so that it meets no other writer. Others may append to an ops table
meanwhile: their commits and this one are about different files, and Delta accepts both.
"""

from __future__ import annotations

import pyarrow as pa
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.lake.table_log import NO_HOOK
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Errors that upkeep of tables may raise on a full disk or beside another writer; none of them stops a stream.
UPKEEP_ERRORS = (LakehouseError, DeltaError, OSError, ValueError, pa.ArrowException)

#: Most files of one day; if there are more, they are joined.
MOST_FILES = 12


def compact(settings: Settings, table: Table, most: int = MOST_FILES) -> None:
    """Join the files of each day of a table that has more than `most` of them.

    Raises one of UPKEEP_ERRORS if that fails; no row is lost then.
    """
    for day, there in table_io.days(settings, table).items():
        if there.files > most:
            which = [(table.partition_by[0], "=", str(day))]
            table_io.open_table(settings, table).optimize.compact(
                which, writer_properties=table_io.WRITER, post_commithook_properties=NO_HOOK
            )
