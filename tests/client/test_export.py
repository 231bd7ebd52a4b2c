"""Exports read back by other programs, cut in the middle, and begun again."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from lakehouse.client import Lake
from lakehouse.client.export import Choice, export
from lakehouse.errors import SettingError, TerminalError
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES, Table
from tests.support.damage import lose
from tests.support.market_lake import MarketLake, put
from tests.support.rows import NOON_US, empty_lake, trade_row

DAY = 86_400_000_000


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow"])
def test_one_file_holds_all_rows(lake: Lake, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"trades.{form}"
    done = list(export(lake, Choice("trades", "binance"), out))
    right = lake.trades("binance").arrow()
    assert sum(one.rows for one in done) == right.num_rows
    assert [one.name for one in tmp_path.iterdir()] == [out.name]
    if form == "parquet":
        found = pyarrow.parquet.read_table(out)
    elif form == "arrow":
        found = pyarrow.feather.read_table(out)
    else:
        types = "{'trade_id': 'BIGINT', 'price': 'VARCHAR', 'size': 'VARCHAR', 'ts_event': 'VARCHAR'}"
        read = f"read_csv('{out}', all_varchar=true)" if form == "csv" else f"read_json('{out}', columns={types})"
        query = f"SELECT trade_id, price::DECIMAL(38,18) price, size::DECIMAL(38,18) size, ts_event FROM {read}"
        ours = [(row["trade_id"], row["price"], row["size"], row["ts_event"]) for row in right.to_pylist()]
        theirs = (
            duckdb.connect()
            .execute(f"SELECT trade_id::BIGINT, price, size, epoch_us(ts_event::TIMESTAMPTZ) FROM ({query})")
            .fetchall()
        )
        assert theirs == [(*row[:3], round(row[3].timestamp() * 1e6)) for row in ours]
        return
    assert found.equals(right)


def test_a_folder_gets_a_file_a_day(market: MarketLake, lake: Lake, tmp_path: Path) -> None:
    out = tmp_path / "bars"
    done = list(export(lake, Choice("bars", size="15m"), out, "parquet"))
    days = sorted({bar["bar_date"].isoformat() for bar in market.bars(15)})
    assert sorted(file.stem for file in out.glob("*.parquet")) == [f"bars-{day}" for day in days]
    assert [one.number for one in done] == list(range(1, len(days) + 1))
    found = pa.concat_tables(pyarrow.parquet.read_table(file) for file in sorted(out.glob("*.parquet")))
    key: Any = [("venue", "ascending"), ("symbol", "ascending"), ("bar_start", "ascending")]
    assert found.sort_by(key).equals(lake.bars(size="15m").arrow())


def test_an_export_that_was_cut_goes_on(lake: Lake, tmp_path: Path) -> None:
    out = tmp_path / "days"
    first = export(lake, Choice("trades"), out, "csv")
    next(first)
    del first
    again = list(export(lake, Choice("trades"), out, "csv"))
    assert [one.skipped for one in again] == [True, *([False] * (len(again) - 1))]
    assert sum(one.rows for one in again) == lake.trades().count()
    assert all(one.skipped for one in export(lake, Choice("trades"), out, "csv"))


def test_a_changed_day_and_a_lost_file_are_written_again(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    rows = [trade_row(1), trade_row(2, NOON_US + DAY), trade_row(3, NOON_US + 2 * DAY)]
    put(settings, SILVER_TRADES, rows)
    lake, out = Lake.open(settings.home), tmp_path / "out"
    list(export(lake, Choice("trades"), out, "jsonl"))
    from lakehouse.lake.table_io import append_rows

    append_rows(settings, SILVER_TRADES, [trade_row(4, NOON_US + DAY + 1)])
    (out / "trades-2026-11-03.jsonl").unlink()
    done = list(export(lake, Choice("trades"), out, "jsonl"))
    assert [(one.rows, one.skipped) for one in done] == [(1, True), (2, False), (1, False)]
    ids = [
        json.loads(line)["trade_id"] for file in sorted(out.glob("*.jsonl")) for line in file.read_text().splitlines()
    ]
    assert ids == [1, 2, 4, 3]


def test_a_range_inside_days(market: MarketLake, lake: Lake, tmp_path: Path) -> None:
    from lakehouse.client.time_range import TimeRange

    wanted = TimeRange.of("2026-11-01T20:00", "2026-11-02T03:30")
    choice = Choice("trades", start=wanted.start, end=wanted.end)
    list(export(lake, choice, tmp_path / "x.parquet"))
    found = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert found.num_rows == lake.trades(start=wanted.start, end=wanted.end).count() > 0


@pytest.mark.parametrize(
    ("choice", "out", "form", "words"),
    [
        (Choice("candles"), "x.csv", None, "export of 'candles'; expected one of trades"),
        (Choice("trades"), "x.csv", "xls", "format 'xls'"),
        (Choice("spreads", "kraken"), "x.csv", None, "spreads of one venue"),
        (Choice("trades", "krakn"), "x.csv", None, "unknown venue"),
        (Choice("bars", size="7m"), "x.csv", None, "bar size '7m'"),
    ],
)
def test_bad_choices(lake: Lake, tmp_path: Path, choice: Choice, out: str, form: str | None, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        list(export(lake, choice, tmp_path / out, form))
    assert words in str(caught.value)


def test_another_export_in_the_folder_is_refused(lake: Lake, tmp_path: Path) -> None:
    list(export(lake, Choice("trades", "binance"), tmp_path / "out"))
    with pytest.raises(SettingError, match=r"another export \(venue differ\)"):
        list(export(lake, Choice("trades", "kraken"), tmp_path / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("hello")
    with pytest.raises(SettingError, match=r"holds letter\.txt"):
        list(export(lake, Choice("trades"), tmp_path / "mine"))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "hello"


def test_a_place_that_cannot_be_written(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((TerminalError, SettingError)) as caught:
        list(export(lake, Choice("trades"), tmp_path / "file" / "x.csv"))
    assert "\n" not in str(caught.value)


def test_an_old_file_stays_until_the_new_one_is_whole(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"
    out.write_text("old")
    cut = export(lake, Choice("trades"), out)
    next(cut)
    assert out.read_text() == "old"
    list(cut)
    assert out.read_text() != "old"


def test_decimals_of_csv_have_no_exponent(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    put(settings, SILVER_TRADES, [trade_row(1, size=Decimal("0.00000001"), price=Decimal("100"))])
    list(export(Lake.open(settings.home), Choice("trades"), tmp_path / "x.csv"))
    line = (tmp_path / "x.csv").read_text().splitlines()[1]
    assert '"100"' in line
    assert '"0.00000001"' in line


@pytest.mark.parametrize(
    ("kind", "size", "table"),
    [("trades", "1m", SILVER_TRADES), ("bars", "1m", GOLD_BARS_1M), ("bars", "10m", GOLD_BARS_5M)],
)
def test_a_lost_file_is_one_clear_line(tmp_path: Path, kind: str, size: str, table: Table) -> None:
    settings = MarketLake.written(tmp_path / "home", hours=3).settings
    [lost] = lose(settings, table)
    words = rf"^version 1 of {table.path} cannot be read \({lost} is gone\)"
    with pytest.raises(TerminalError, match=words) as caught:
        list(export(Lake.open(settings.home), Choice(kind, size=size), tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert {file.name for file in (tmp_path / "out").iterdir()} <= {"export.json"}
