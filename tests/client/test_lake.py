"""Scans against the rows that plain Python wrote, and against DuckDB's reading of them."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.client import Lake
from lakehouse.client.scan import Scan
from lakehouse.errors import MissingDependencyError, SettingError, TerminalError
from lakehouse.lake.table_io import arrow_schema, open_table
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES, Table
from tests.support.damage import lose
from tests.support.market_lake import MarketLake, put
from tests.support.rows import NOON_US, empty_lake, trade_row, utc

START, END = utc(NOON_US + 11 * 3_600_000_000), utc(NOON_US + 14 * 3_600_000_000 + 17_000_000)


def test_trades_of_a_market_and_a_range_over_midnight(market: MarketLake, lake: Lake) -> None:
    found = lake.trades("kraken", "eth-usd", start=START, end=END).arrow()
    expected = [one for one in market.of(("kraken", "ETH/USD")) if START <= one["ts_event"] < END]
    assert len({one["event_date"] for one in expected}) == 2
    assert found.equals(pa.Table.from_pylist(expected, arrow_schema(SILVER_TRADES)))


def test_all_trades_without_a_filter(market: MarketLake, lake: Lake) -> None:
    assert lake.trades().count() == len(market.trades) == lake.trades().arrow().num_rows


@pytest.mark.parametrize("edge", ["start", "end"])
def test_start_is_inclusive_and_end_exclusive(market: MarketLake, lake: Lake, edge: str) -> None:
    moment = market.trades[50]["ts_event"]
    found = lake.trades("binance", **{edge: moment}).select("ts_event").arrow().column("ts_event").to_pylist()
    assert (moment in found) is (edge == "start")


def test_bars_of_a_stored_size(market: MarketLake, lake: Lake) -> None:
    expected = [one for one in market.bars(1) if START <= one["bar_start"] < END]
    found = lake.bars(start=START, end=END).arrow()
    assert found.equals(pa.Table.from_pylist(expected, arrow_schema(GOLD_BARS_1M)))


def test_times_as_people_write_them(lake: Lake) -> None:
    texts = lake.trades(start="2026-11-01T23:00", end="2026-11-02").count()
    assert texts == lake.trades(start="2026-11-02T00:00:00+01:00", end=dt.date(2026, 11, 2)).count()
    assert texts == lake.trades(start=dt.datetime(2026, 11, 1, 23), end=dt.datetime(2026, 11, 2, tzinfo=dt.UTC)).count()
    assert texts > 0


def test_a_scan_reads_only_the_files_that_may_match(lake: Lake) -> None:
    """A day's files are not opened if the filter leaves the day out: a missing one is not noticed."""
    whole, first_day = lake.trades(), lake.trades(end="2026-11-02")
    uri = Path(lake.settings.lake) / "silver" / "trades" / "event_date=2026-11-02"
    hidden = uri.with_name("hidden")
    uri.rename(hidden)
    try:
        assert first_day.arrow().num_rows > 0
        with pytest.raises(TerminalError, match="cannot be read"):
            whole.arrow()
    finally:
        hidden.rename(uri)


def test_decimals_stay_decimals_unless_floats_are_asked_for(lake: Lake) -> None:
    exact, rough = lake.bars().arrow(), lake.bars(as_float=True).arrow()
    assert exact.schema.field("close").type == pa.decimal128(38, 18)
    assert rough.schema.field("close").type == pa.float64()
    vwaps: list[Any] = exact.column("vwap").to_pylist()
    right = [float(one) for one in vwaps]
    assert rough.column("vwap").to_pylist() == pytest.approx(right, rel=1e-15)  # Arrow's cast: the last bit may differ


def test_a_version_and_a_time_before_a_change(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    put(settings, SILVER_TRADES, [trade_row(1)])
    lake = Lake.open(settings.home)
    early, before = lake.trades(), dt.datetime.now(dt.UTC)
    put(settings, SILVER_TRADES, [trade_row(2)])
    assert [scan.arrow().column("trade_id").to_pylist() for scan in (early, lake.trades())] == [[1], [2]]
    assert lake.trades(version=early.version).arrow() == lake.trades(at=before).arrow() == early.arrow()
    with pytest.raises(TerminalError, match="version 99 of silver/trades"):
        lake.trades(version=99).arrow()
    with pytest.raises(SettingError, match="both a version and a time"):
        lake.trades(version=1, at=before)


@pytest.mark.parametrize(
    ("table", "scan", "ask"),
    [
        (SILVER_TRADES, lambda lake: lake.trades(), lambda scan: scan.arrow()),
        (SILVER_TRADES, lambda lake: lake.trades(), lambda scan: list(scan.batches())),
        (SILVER_TRADES, lambda lake: lake.trades(), lambda scan: scan.select("price").arrow()),
        (SILVER_TRADES, lambda lake: lake.trades("kraken"), lambda scan: scan.count()),
        (GOLD_BARS_5M, lambda lake: lake.bars(size="10m"), lambda scan: scan.arrow()),
        (GOLD_BARS_5M, lambda lake: lake.bars(size="10m"), lambda scan: scan.count()),
        (GOLD_BARS_1M, lambda lake: lake.bars(fill="forward"), lambda scan: scan.arrow()),
        (SILVER_TRADES, lambda lake: lake.completeness(start=utc(NOON_US + 1)), lambda scan: scan.arrow()),
    ],
)
def test_a_lost_file_is_one_clear_line(
    tmp_path: Path, table: Table, scan: Callable[[Lake], Scan], ask: Callable[[Scan], Any]
) -> None:
    settings = MarketLake.written(tmp_path / "home", hours=3).settings
    found = scan(Lake.open(settings.home))
    lost = lose(settings, table)
    words = rf"^version 1 of {table.path} cannot be read \(({'|'.join(lost)}) is gone\); expected .*; read the newest"
    with pytest.raises(TerminalError, match=words) as caught:
        ask(found)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["polars", "pandas", "duckdb"])
def test_other_libraries_get_the_same_rows(lake: Lake, name: str) -> None:
    scan = lake.bars("binance", "BTC/USDT", start=START, end=END)
    made: Any = getattr(scan, name)()
    ways = {"polars": "to_arrow", "duckdb": "to_arrow_table"}
    rows = pa.Table.from_pandas(made) if name == "pandas" else getattr(made, ways[name])()
    assert rows.select(scan.schema.names).cast(scan.schema).equals(scan.arrow())


@pytest.mark.parametrize("name", ["polars", "pandas", "duckdb"])
def test_a_missing_library_is_one_clear_line(lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf"no {name} in this .*; install it: pip install"):
        getattr(lake.moves(), name)()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"venue": "krakn"}, "unknown venue 'krakn'; expected one of binance, kraken, coinbase; did you mean kraken?"),
        ({"symbol": "BTC"}, "symbol 'BTC'; expected BASE/QUOTE"),
        ({"start": "yesterday"}, "time 'yesterday'; expected ISO 8601"),
        ({"start": "2026-11-02", "end": "2026-11-01"}, "an end that is not before its start"),
        ({"symbol": "x' OR 1=1 --/USD"}, "symbol"),
    ],
)
def test_bad_arguments_are_one_clear_line(lake: Lake, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError) as caught:
        lake.trades(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "fill"), [("7m", "none"), ("", "none"), ("2d", "none"), ("1m", "zero"), ("0m", "none")]
)
def test_bad_sizes_and_fills(lake: Lake, size: str, fill: Any) -> None:
    with pytest.raises(SettingError):
        lake.bars(size=size, fill=fill)


def test_a_column_that_is_not_there(lake: Lake) -> None:
    with pytest.raises(SettingError, match="no column 'prize' in silver/trades"):
        lake.trades().select("prize")


def test_no_lake(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match=r"no lake at .*; expected the home of a lakehouse"):
        Lake.open(tmp_path)


def test_markets(lake: Lake) -> None:
    assert lake.markets().to_pylist() == [
        {"venue": "binance", "symbol": "BTC/USDT"},
        {"venue": "kraken", "symbol": "ETH/USD"},
    ]


def test_duckdb_agrees_on_a_sum(market: MarketLake, lake: Lake) -> None:
    total = lake.trades("binance").duckdb().aggregate("sum(size)").fetchall()[0]
    assert total == (sum((one["size"] for one in market.of(("binance", "BTC/USDT"))), Decimal(0)),)


@pytest.mark.parametrize("kind", ["trades", "bars"])
def test_pages_by_key_are_the_whole(lake: Lake, kind: str) -> None:
    scan = getattr(lake, kind)(start=START, end=END)
    whole = scan.arrow()
    parts: list[pa.Table] = []
    after: tuple[Any, ...] = ()
    while True:
        page = scan.page(after, 97)
        parts.append(page.arrow())
        assert page.count() == parts[-1].num_rows
        if parts[-1].num_rows < 97:
            break
        after = tuple(parts[-1].column(name)[-1].as_py() for name in scan.order)
    assert len(parts) > 2
    assert pa.concat_tables(parts).equals(whole)


def test_computed_rows_have_no_pages(lake: Lake) -> None:
    with pytest.raises(SettingError, match="a page of computed rows; expected the whole of them"):
        lake.bars(size="10m").page((), 5)


def test_a_caller_may_keep_tables_open(market: MarketLake) -> None:
    asked: list[tuple[str, int]] = []

    def open_at(table: Table, version: int) -> DeltaTable:
        asked.append((table.path, version))
        return open_table(market.settings, table, version)

    kept = Lake(market.settings, open_at)
    assert kept.trades(version=1).count() == len(market.trades)
    assert kept.completeness(start=START, end=END, version=1).arrow().num_rows == 2
    assert asked == [("silver/trades", 1), ("silver/continuity", 1), ("silver/trades", 1)]
