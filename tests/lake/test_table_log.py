"""A commit of ours looked for in the log of a real table."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from lakehouse.lake.table_io import append_rows, arrow_schema, table_uri
from lakehouse.lake.table_log import Commit, Found
from lakehouse.tables import SILVER_TRADES
from tests.support.rows import empty_lake, trade_row


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(
    ("others", "maintained"),
    [([], False), (["properties"], True), (["properties", "rows"], False), (["rows", "properties"], False)],
)
def test_what_others_have_committed(tmp_path: Path, committed: bool, others: list[str], maintained: bool) -> None:
    """It is told without our own commit, which is no maintenance and no one else's."""
    settings = empty_lake(tmp_path)
    uri = table_uri(settings, SILVER_TRADES)
    commit = Commit(uri, 0, retries=10)
    for number, other in enumerate(others):
        if other == "rows":
            append_rows(settings, SILVER_TRADES, [trade_row(number)])
        else:
            DeltaTable(uri).alter.set_table_properties({"delta.checkpointInterval": f"{60 + number}"})
    if committed:
        rows = arrow_schema(SILVER_TRADES).empty_table()
        write_deltalake(uri, rows, mode="append", commit_properties=commit.properties)
    assert commit.find() == Found(committed, maintained, frozenset())
