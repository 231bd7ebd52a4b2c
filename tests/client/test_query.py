"""SQL over the tables, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.client.query import query
from lakehouse.errors import SettingError, TerminalError
from lakehouse.lake.table_io import table_uri
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.support.damage import lose
from tests.support.market_lake import MarketLake


def run(market: MarketLake, sql: str) -> pa.Table:
    schema, batches = query(market.settings, sql)
    return pa.Table.from_batches(list(batches), schema)


def test_both_names_of_a_table(market: MarketLake) -> None:
    sql = "SELECT a.bar_start FROM gold.bars_1m a JOIN bars_1m b USING (venue, symbol, bar_start)"
    assert run(market, sql).num_rows == len(market.bars(1))


def test_a_sum_of_decimals_is_exact(market: MarketLake) -> None:
    found = run(market, "SELECT sum(size) AS total FROM trades").column("total")[0].as_py()
    assert found == sum(one["size"] for one in market.trades)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH t AS (SELECT 1 AS a) SELECT * FROM t",
        "VALUES (1), (2)",
        "EXPLAIN SELECT * FROM trades",
        "DESCRIBE trades",
        "  select\n1 -- comment",
        "SELECT 'DROP TABLE trades; INSERT INTO trades'",
        "(SELECT 1) UNION ALL (SELECT 2)",
    ],
)
def test_what_reads_is_run(market: MarketLake, sql: str) -> None:
    assert run(market, sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO bars_1m SELECT * FROM bars_1m",
        "WITH a AS (SELECT * FROM bars_1m) INSERT INTO bars_1m SELECT * FROM a",
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "explain  analyze verbose COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "EXPLAIN /* x */ ANALYZE -- y\nCOPY (SELECT 1) TO '{folder}/stolen.csv'",
        "CREATE TABLE x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/hostname'",
        "DROP TABLE bars_1m",
        "DELETE FROM bars_1m",
        "UPDATE bars_1m SET close = 1",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; DROP TABLE bars_1m",
        "/* SELECT */ INSERT INTO bars_1m SELECT * FROM bars_1m",
    ],
)
def test_what_changes_something_is_refused(market: MarketLake, sql: str, tmp_path: object) -> None:
    uri = table_uri(market.settings, GOLD_BARS_1M)
    before = DeltaTable(uri).version()
    with pytest.raises(SettingError) as caught:
        run(market, sql.format(folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert DeltaTable(uri).version() == before
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT clos FROM gold.bars_1m", "no column 'clos'; expected one of venue, symbol"),
        ("SELECT b.clos FROM bars_1m b", "did you mean close"),
        ('SELECT "Close" FROM bars_1m', "no column 'Close'"),
        ("SELECT * FROM bars_1", "no table 'bars_1'"),
        ("SELECT * FROM gold.bar_1m", "did you mean gold.bars_1m"),
        ("SELEC 1", "query failed"),
        ("", "query failed"),
        ("SELECT nope(1)", "nope"),
        ("SELECT sum(venue) FROM trades", "query failed"),
        ("SELECT 1 / (trade_id - trade_id) FROM trades", "query failed"),
    ],
)
def test_a_wrong_query_is_one_clear_line(market: MarketLake, sql: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        run(market, sql)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM trades", "SELECT b.close, t.price FROM gold.bars_1m b, silver.trades t ORDER BY 1"]
)
def test_a_lost_file_is_one_clear_line(tmp_path: Path, sql: str) -> None:
    market = MarketLake.written(tmp_path / "home", hours=3)
    [lost] = lose(market.settings, SILVER_TRADES)
    with pytest.raises(
        TerminalError, match=rf"^version 1 of silver/trades cannot be read \({lost} is gone\)"
    ) as caught:
        run(market, sql)
    assert not isinstance(caught.value, SettingError)
    assert "\n" not in str(caught.value)
