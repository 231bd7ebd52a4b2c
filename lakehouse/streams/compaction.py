"""Joins the small files of a Gold table's days, so that an upsert costs in the evening what it cost in the morning.

Every minute of every symbol comes in a file of its own, and deltalake's merge looks at each file of the days that it
touches: 30 ms with ten of them, 300 ms with three hundred. Only Gold's tables: nobody streams from them.
Guarantee: rows stay as they are; the commit says that no data changed. It is made by the query that writes the table,
between two of its own commits, so that it meets no other writer.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Files of one day that are joined to one when there are more.
MOST_FILES = 12


def compact(settings: Settings, table: Table) -> None:
    """Join the files of the days that have more than MOST_FILES."""
    day = table.partition_by[0]
    there = lake.open_table(settings, table)
    actions = pa.table(there.get_add_actions(flatten=True))
    if actions.num_rows <= MOST_FILES:
        return
    files = Counter(str(value) for value in actions.column(f"partition.{day}").to_pylist())
    for value, count in files.items():
        if count > MOST_FILES:
            there.optimize.compact([(day, "=", value)], writer_properties=lake.WRITER)
