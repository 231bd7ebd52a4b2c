"""Joins the small files of a Gold table's days, so that an upsert costs in the evening what it cost in the morning.

Every minute of every symbol comes in a file of its own, and deltalake's merge looks at each file of the days that it
touches: 30 ms with ten of them, 300 ms with three hundred. Only Gold's tables: nobody streams from them.
Guarantee: rows stay as they are; the commit says that no data changed. It is made by the query that writes the table,
between two of its own commits, so that it meets no other writer.
"""

from __future__ import annotations

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Files of one day that are joined to one when there are more.
MOST_FILES = 12


def compact(settings: Settings, table: Table) -> None:
    """Join the files of the days that have more than MOST_FILES."""
    for day, there in lake.days(settings, table).items():
        if there.files > MOST_FILES:
            which = [(table.partition_by[0], "=", str(day))]
            lake.open_table(settings, table).optimize.compact(which, writer_properties=lake.WRITER)
