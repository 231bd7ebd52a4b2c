"""A table that is only declared is written by stream and rebuild, whichever Gold table it reads. No Spark."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.rebuild.gold import rebuild_days
from lakehouse.settings import Settings
from lakehouse.streams import gold_write
from lakehouse.tables import BARS, GOLD_BARS_5M, GOLD_INDICATORS_1M, Column, Table
from lakehouse.transforms.arrow_numpy import kept
from lakehouse.transforms.decimal18 import content_schema
from lakehouse.transforms.derived import DERIVED, Derived, windows
from lakehouse.transforms.row_keys import RowKeys
from tests.streams.test_gold_order import DAY, Stream, markets
from tests.support.rows import empty_lake

KEY = ("venue", "symbol", "bar_start")


def copy_of(source: Table, name: str) -> Derived:
    """A table with one column of its source, row for row."""
    columns = {column.name: column for column in source.columns}
    wanted = (*KEY, name, "revision", "updated_at", "bar_date")
    copied: tuple[Column, ...] = tuple(columns[one] for one in wanted)
    table = Table("gold", f"copy_of_{source.name}", "One row per row of its source.", KEY, ("bar_date",), copied)

    def compute(_: Settings, rows: pa.Table, keys: RowKeys) -> pa.Table:
        mine = kept(rows, RowKeys.of(rows, KEY).among(keys))
        return mine.select(content_schema(table).names).cast(content_schema(table))

    origins = {one: one for one in (*KEY, name, "bar_date")}
    minutes = next((minutes for minutes, bars in BARS.items() if bars is source), None)

    def affected(rows: pa.Table, touched: RowKeys) -> RowKeys:
        return windows(touched, minutes).once() if minutes else DERIVED[source.path].affected(rows, touched)

    return Derived(table, source, origins | {"revision": "", "updated_at": ""}, compute, affected)


@pytest.mark.parametrize(("source", "name"), [(GOLD_BARS_5M, "trades"), (GOLD_INDICATORS_1M, "sma_5")])
def test_a_declared_table_is_its_source_row_for_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Table, name: str
) -> None:
    toy = copy_of(source, name)
    monkeypatch.setattr(gold_write, "DEPENDANTS", (*gold_write.DEPENDANTS, toy))
    settings = empty_lake(tmp_path)
    schema = table_io.arrow_schema(toy.table)
    DeltaTable.create(table_io.table_uri(settings, toy.table), schema=schema, partition_by=["bar_date"])

    def rows(table: Table) -> list[dict[str, object]]:
        query = f"SELECT {', '.join((*KEY, name))} FROM t ORDER BY {', '.join(KEY)}"
        return table_io.sql(settings, query, t=table).to_pylist()

    live, missed = markets(range(120))
    stream = Stream(settings)
    for batch in (live[: len(live) // 2], live[len(live) // 2 :], missed):
        stream.batch(batch)
        assert rows(toy.table) == rows(source)
    assert len(rows(toy.table)) >= 48
    table_io.open_table(settings, toy.table).delete("venue = 'kraken'")
    assert {row["venue"] for row in rows(toy.table)} == {"binance"}
    rebuild_days(settings, DAY, DAY)
    assert rows(toy.table) == rows(source)
