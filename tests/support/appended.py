"""Rows appended to a table, and the data files that this makes. No test module."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import Table


def append(settings: Settings, table: Table, rows: list[dict[str, Any]]) -> list[str]:
    """Append rows; returns the paths of the new files, relative to the table's root."""
    before = files(settings, table)
    table_io.append_rows(settings, table, rows)
    return sorted(files(settings, table) - before)


def files(settings: Settings, table: Table) -> set[str]:
    root = table_io.table_uri(settings, table)
    return {unquote(uri).removeprefix(f"{root}/") for uri in table_io.open_table(settings, table).file_uris()}
