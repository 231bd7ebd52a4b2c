"""Golden figures: what real recorded frames must become in every Gold table, worked out by awk and bc.

`golden/README.md` says how. Skipped where the recordings are not at hand.
"""

from __future__ import annotations

import csv
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from lakehouse.settings import BAR_SIZES, Settings
from lakehouse.tables import BARS, GOLD_INDICATORS_1M, GOLD_MOVES, GOLD_SPREADS_1M, Column, Table
from tests.streams.test_recorded_to_silver import DATA, coinbase_truth, micros, replay
from tests.support.gold_reference import DEFAULT_THRESHOLD, reference
from tests.support.gold_verdict import DERIVED, NOT_COMPARED, rows_of, table_differences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GOLDEN = Path(__file__).parents[1] / "golden"
FRAMES = DATA / "coinbase-2021-04-17.ws"
#: No minute of the recording moves by 2 %; six move by more than this.
LOW_THRESHOLD = Decimal("0.001")

#: Rows of each table: the figures are there, and are the only ones.
ROWS = {
    BARS[1]: 15,
    BARS[5]: 10,
    BARS[15]: 10,
    BARS[60]: 10,
    BARS[1440]: 10,
    GOLD_INDICATORS_1M: 15,
    GOLD_MOVES: 6,
    GOLD_SPREADS_1M: 15,
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded frames are not at hand")


def golden(table: Table, threshold: Decimal = LOW_THRESHOLD) -> list[dict[str, Any]]:
    """The figures of a table, read by the types of its columns."""
    suffix = f"_from_{threshold}" if table is GOLD_MOVES and threshold != DEFAULT_THRESHOLD else ""
    columns = {column.name: column for column in table.columns}
    with (GOLDEN / f"coinbase_{table.name}{suffix}.csv").open(newline="") as file:
        return [{name: _value(columns[name], text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(column: Column, text: str) -> Any:
    if text == "" and column.nullable:
        return None
    if column.type == "timestamp":
        return micros(dt.datetime.fromisoformat(text))
    if column.type == "boolean":
        return {"true": True, "false": False}[text]
    if column.type.startswith("decimal"):
        return Decimal(text)
    return int(text) if column.type in ("int", "bigint") else text


def trades() -> pa.Table:
    rows = [trade._asdict() for trade in coinbase_truth(FRAMES)]
    exact = {name: pa.array([row[name] for row in rows], pa.decimal128(38, 18)) for name in ("price", "size")}
    return pa.table({name: exact.get(name, [row[name] for row in rows]) for name in rows[0]})


@pytest.mark.parametrize("table", ROWS, ids=lambda table: table.name)
def test_every_column_has_its_figure(table: Table) -> None:
    rows = golden(table)
    assert len(rows) == ROWS[table]
    given = set(table.column_names) - {*NOT_COMPARED, "bar_date"}
    assert all(row.keys() == given for row in rows)


def test_the_judge_agrees() -> None:
    """Two ways that share nothing, awk and bc here and DuckDB there, come to the same figures."""
    found = reference(trades(), threshold=LOW_THRESHOLD)
    for table in ROWS:
        figures = [{name: value for name, value in row.items() if name not in DERIVED} for row in golden(table)]
        assert found[table.path] == figures, table.path
    assert reference(trades())[GOLD_MOVES.path] == golden(GOLD_MOVES, DEFAULT_THRESHOLD) == []


@pytest.mark.spark
@pytest.mark.kafka
def test_gold_has_the_golden_figures(spark: SparkSession, kafka_settings: Settings, tmp_path: Path) -> None:
    everything = {"bar_sizes": BAR_SIZES, "move_threshold": LOW_THRESHOLD}
    settings = replay(FRAMES, kafka_settings.model_copy(update=everything), tmp_path / "record")
    for table in ROWS:
        assert table_differences(table, rows_of(settings, table), golden(table)) == [], table.path
