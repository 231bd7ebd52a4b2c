"""Joins the small files of a table's days, so that a commit costs in the evening what it cost in the morning.

Every minute of every symbol comes in a file of its own, and each batch adds one to ops/batches. An append and a look
cost with the files: 12 and 13 ms of CPU with 300, 24 and 23 ms with 3,000.
Gold's tables and the ops tables: nobody streams from them.
Guarantee: rows stay as they are; the commit says that no data changed. Gold's is made by the query that writes the
table, between two of its own commits, so that it meets no other writer. To an ops table others may append meanwhile:
their commits and this one are of different files, and Delta lets both through.
"""

from __future__ import annotations

import pyarrow as pa
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.lake.table_log import NO_HOOK
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: What upkeep of tables may raise, on a full disk or beside another writer; nothing that stops a stream.
UPKEEP_ERRORS = (LakehouseError, DeltaError, OSError, ValueError, pa.ArrowException)

#: Files of one day that are joined to one when there are more.
MOST_FILES = 12


def compact(settings: Settings, table: Table, most: int = MOST_FILES) -> None:
    """Join the files of the days that have more than so many."""
    for day, there in table_io.days(settings, table).items():
        if there.files > most:
            which = [(table.partition_by[0], "=", str(day))]
            table_io.open_table(settings, table).optimize.compact(
                which, writer_properties=table_io.WRITER, post_commithook_properties=NO_HOOK
            )
