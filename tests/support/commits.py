"""Commits of single rows to an empty lake, what is on disk after them, and a commit that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import BRONZE_MESSAGES, Table
from tests.support.rows import message_row


def rows_of(table: Table, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table_io.arrow_schema(table))


def append(settings: Settings, number: int) -> None:
    """A batch of one message, as Bronze appends it."""
    with BulkAppend(settings, BRONZE_MESSAGES) as rows:
        rows.add(rows_of(BRONZE_MESSAGES, message_row(number)))
        rows.commit_alone(Transaction("bronze", number))


def on_disk(settings: Settings, table: Table) -> set[str]:
    folder = Path(table_io.table_uri(settings, table))
    return {file.name for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}


def in_log(settings: Settings, table: Table) -> set[str]:
    return {Path(uri).name for uri in DeltaTable(table_io.table_uri(settings, table)).file_uris()}


def offsets(settings: Settings) -> list[int]:
    found = table_io.sql(settings, 'SELECT "offset" FROM t ORDER BY "offset"', t=BRONZE_MESSAGES)
    return [row["offset"] for row in found.to_pylist()]


def broken(monkeypatch: pytest.MonkeyPatch, call: Callable[[Callable[[], None]], None]) -> None:
    """Put `call` around what deltalake does to commit, once."""
    original = DeltaTable.create_write_transaction
    left = [call]

    def commit(self: DeltaTable, *arguments: Any, **named: Any) -> None:
        done = left.pop() if left else lambda commit: commit()
        done(lambda: original(self, *arguments, **named))

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
