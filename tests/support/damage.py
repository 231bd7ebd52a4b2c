"""Loss of data files that a table's log still names. No test module."""

from __future__ import annotations

from pathlib import Path

from lakehouse.lake.table_io import open_table
from lakehouse.settings import Settings
from lakehouse.tables import Table


def data_files(settings: Settings, table: Table) -> list[Path]:
    """The files of a table's newest version."""
    opened = open_table(settings, table)
    return [Path(uri.removeprefix("file://")) for uri in sorted(opened.file_uris())]


def lose(settings: Settings, table: Table) -> list[str]:
    """Delete the files of a table's newest version, and return their names."""
    files = data_files(settings, table)
    assert files
    for file in files:
        file.unlink()
    return [file.name for file in files]
