from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Producer
from rich.console import Console

from lakehouse.audit.printer import age
from lakehouse.cli.homes import newest
from lakehouse.errors import BrokerUnavailableError, TerminalError
from lakehouse.lake import lag
from lakehouse.lake.batch_log import Batch
from lakehouse.lake.table_io import active_tables, append_rows, ensure_tables
from lakehouse.local_stack.display import View, plain_line
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings, load_settings
from lakehouse.status.snapshot import Snapshot, StatusReader, TableStatus, collect
from lakehouse.status.view import render
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_TRADES,
)
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, message_row, range_row, trade_row, utc

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Three messages, of which Silver has processed two, of which Gold has processed one."""
    settings = empty_lake(tmp_path / ".lakehouse" / "demo")
    append_rows(settings, BRONZE_MESSAGES, [message_row(0), message_row(1)])
    append_rows(settings, BRONZE_MESSAGES, [message_row(2)])
    append_rows(settings, SILVER_TRADES, [trade_row(1)])
    append_rows(settings, SILVER_TRADES, [trade_row(2)])
    bars = [bar_row(NOON_US + n * 60_000_000, close=Decimal(f"11.{n}0")) for n in range(7)]
    append_rows(settings, GOLD_BARS_1M, bars)
    ends = {"crypto.trades": {"0": 3}}
    versions = {"gold/bars_1m": 1, "gold/bars_5m": 0}
    for row in (
        batch_row("bronze", 0, source_end=ends),
        batch_row("silver", 0, source_end={"version": 1}, rows_in=2, rows_out=2),
        batch_row("gold", 0, source_end={"version": 1}, versions=versions),
    ):
        append_rows(settings, OPS_BATCHES, [row])
    return settings


def shown(snapshot: Snapshot) -> str:
    console = Console(width=160, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(render(snapshot))
    return capture.get()


def lakehouse(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from lakehouse.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEHOUSE_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_rows_versions_ages_and_lags(lake: Settings) -> None:
    snapshot = collect(lake)
    assert [table.path for table in snapshot.tables] == [table.path for table in active_tables(lake)]
    bronze, silver = snapshot.table("bronze/messages"), snapshot.table("silver/trades")
    assert (bronze.rows, bronze.version, bronze.lag) == (3, 2, None)
    assert (silver.rows, silver.version, silver.lag) == (2, 2, 1)
    assert snapshot.table("gold/bars_1m").lag == 2  # the one that Silver lacks, and the one that Gold lacks
    assert bronze.committed_at is not None
    assert timedelta() <= snapshot.taken_at - bronze.committed_at < timedelta(minutes=1)
    assert snapshot.trades_per_second is None
    with pytest.raises(KeyError):
        snapshot.table("silver/nothing")


def test_the_newest_bar_of_each_series_is_shown(lake: Settings) -> None:
    (bar,) = collect(lake).bars
    assert bar.bar_start == utc(NOON_US + 6 * 60_000_000)
    assert "11.6 " in shown(collect(lake))
    symbols = [f"S{number}/USDT" for number in range(9)]
    append_rows(
        lake, GOLD_BARS_1M, [bar_row(NOON_US + n * 60_000_000, symbol=symbol) for n, symbol in enumerate(symbols)]
    )
    bars = collect(lake).bars
    assert {bar.symbol: bar.bar_start for bar in bars if bar.symbol in symbols} == {
        symbol: utc(NOON_US + n * 60_000_000) for n, symbol in enumerate(symbols)
    }
    assert [bar.bar_start for bar in bars] == sorted((bar.bar_start for bar in bars), reverse=True)
    text = shown(collect(lake))
    assert all(symbol in text for symbol in symbols)
    assert "more series" not in text


def test_a_series_that_is_left_out_is_counted(lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [range_row(1, 2, symbol=f"S{n}/USDT", trades_version=2) for n in range(4)])
    assert collect(lake).series == 4
    assert "3 more series without a bar in the 60 minutes before the newest, or not shown" in shown(collect(lake))


def test_verdicts_are_shown_with_their_sentence(lake: Settings) -> None:
    assert "No check has been run yet." in shown(collect(lake))
    run_checks(lake)
    text = shown(collect(lake))
    assert re.search(r"FAILED +gold/bars_1m +trades_conserved .* Silver has 1", text)
    assert re.search(r"ok +silver/trades +key_unique +Every trade is there once: 2 rows", text)


def test_before_the_lake_is_started_there_is_a_display_too(tmp_path: Path) -> None:
    snapshot = collect(load_settings(home=tmp_path))
    assert all(table == TableStatus(table.path) for table in snapshot.tables)
    assert (snapshot.bars, snapshot.verdicts, snapshot.simulated) == ((), (), False)
    assert "not yet" in shown(snapshot)
    assert "no Kafka bootstrap servers are set" in snapshot.broker


def test_a_simulated_lake_is_named_so(lake: Settings) -> None:
    assert "simulated exchange" not in shown(collect(lake))
    (lake.home / "simulator").mkdir()
    assert "simulated exchange" in shown(collect(lake))


def test_a_broker_that_is_gone_costs_no_time(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    settings.broker_home.mkdir()
    (settings.broker_home / "endpoint").write_text("127.0.0.1:1", encoding="utf-8")
    snapshot = collect(settings)
    assert snapshot.broker.startswith("no answer: no Kafka broker listens at 127.0.0.1:1")
    with pytest.raises(BrokerUnavailableError, match="listens at nonsense"):
        lag.end_offsets("nonsense", ["t"], 0.2)


def test_trades_per_second_is_the_growth_of_silver(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0, 135.0, 140.0))
    monkeypatch.setattr("lakehouse.status.snapshot.time.monotonic", lambda: next(clock))
    reader = StatusReader(lake)
    assert reader._rate(1000) is None
    assert reader._rate(1500) == 50.0
    assert reader._rate(1500) == pytest.approx(500 / 35)
    assert reader._rate(1800) == 10.0  # of the last 30 s, from the sample at 110


@pytest.mark.kafka
def test_bronze_is_behind_a_real_broker(kafka_settings: Settings) -> None:
    ensure_tables(kafka_settings)
    topic = kafka_settings.topic_trades
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "enable.idempotence": True})
    for number in range(10):
        producer.produce(topic, str(number).encode(), partition=number % 2)
    assert producer.flush(20) == 0
    assert collect(kafka_settings).table("bronze/messages").lag == 10
    append_rows(kafka_settings, OPS_BATCHES, [batch_row("bronze", 0, source_end={topic: {"0": 5, "1": 3}})])
    snapshot = collect(kafka_settings)
    assert snapshot.table("bronze/messages").lag == 2
    assert snapshot.broker == kafka_settings.bootstrap()
    assert "2 messages" in shown(snapshot)


@pytest.mark.parametrize(
    ("ends", "done", "behind"),
    [
        ({"t": {"0": 10, "1": 5}}, {"t": {"0": 7, "1": 5}}, 3),
        ({"t": {"0": 10}, "u": {"0": 2}}, {"t": {"0": 10}}, 2),
        ({"t": {"0": 1}}, {"t": {"0": 4}}, 0),  # the topic was made anew
        ({}, {"t": {"0": 4}}, 0),
    ],
)
def test_kafka_lag(ends: lag.Offsets, done: lag.Offsets, behind: int) -> None:
    batch = Batch("bronze", 0, utc(NOON_US), done, {})
    assert lag.kafka_lag(ends, batch) == behind


def test_kafka_lag_before_the_first_batch() -> None:
    assert lag.kafka_lag({"t": {"0": 10}}, None) == 10


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-3, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages(seconds: int, text: str) -> None:
    assert age(seconds) == text


def test_the_newest_lake_is_that_of_the_newest_commit(lake: Settings, tmp_path: Path) -> None:
    root = tmp_path / ".lakehouse"
    (root / "other" / "lake").mkdir(parents=True)  # newer, but nothing was ever committed to it
    newer = empty_lake(root / "live")
    old = lake.home / "lake"
    for log in (root / "live").glob("lake/*/*/_delta_log"):
        os.utime(log, (1, 1))
    os.utime(root / "other" / "lake", (2, 2))
    assert newest(root) == old.parent
    assert newer.home != old.parent
    with pytest.raises(TerminalError, match="no lake under "):
        newest(tmp_path / "nowhere")


def test_the_commands(lake: Settings, tmp_path: Path) -> None:
    done = lakehouse(tmp_path, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bronze/messages" in done.stdout
    done = lakehouse(tmp_path, "check")
    assert done.returncode == 1
    assert done.stderr == "lakehouse: 7 of 21 checks failed\n"
    assert "FAILED" in done.stdout
    done = lakehouse(tmp_path, "check", "--home", str(empty_lake(tmp_path / "good").home), "--recent")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["status", "check", "audit"])
def test_without_a_lake_the_commands_say_so_in_one_line(tmp_path: Path, command: str) -> None:
    for arguments in ((), ("--home", "nowhere")):
        done = lakehouse(tmp_path, command, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"lakehouse: no lake [^\n]*start `lakehouse demo`[^\n]*\n", done.stderr)


def feed_event(event: str, at: int, symbol: str | None, offset: int, detail: str = "") -> dict[str, object]:
    moment = utc(NOON_US + at * 1_000_000)
    return {
        "venue": "kraken",
        "event": event,
        "ts_event": moment,
        "connection_id": "kraken-1",
        "symbol": symbol,
        "first_id": None,
        "last_id": None,
        "detail": detail,
        "kafka_topic": "crypto.feed_events",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "ts_kafka": moment,
        "event_date": moment.date(),
    }


def test_symbols_that_are_not_subscribed_are_named(lake: Settings) -> None:
    events = [
        feed_event("unsubscribed", 1, "ETH/USDT", 0, "Exceeded msg rate"),
        feed_event("unsubscribed", 1, "SOL/USDT", 1, "EService:Unavailable"),
        feed_event("subscribed", 2, "BTC/USDT", 2),
        feed_event("subscription_refused", 3, "BTC/USDT", 3, "BTC-USDT is delisted"),
        feed_event("connected", 4, None, 4),
        feed_event("unsubscribed", 5, "FOO/USDT", 5, "not of the settings"),
    ]
    append_rows(lake, SILVER_FEED_EVENTS, events)
    reader = StatusReader(lake)
    snapshot = reader.collect()
    assert [(one.symbol, one.is_final, one.words) for one in snapshot.not_subscribed] == [
        ("BTC/USDT", True, "BTC-USDT is delisted"),
        ("ETH/USDT", False, "Exceeded msg rate"),
        ("SOL/USDT", False, "EService:Unavailable"),
    ]
    text = shown(snapshot)
    assert re.search(r"kraken BTC/USDT: refused for good \(.* ago\): BTC-USDT is delisted", text)
    assert re.search(r"kraken ETH/USDT: NOT SUBSCRIBED, asked again \(.* ago\): Exceeded msg rate", text)
    assert "kraken SOL/USDT NOT SUBSCRIBED" in plain_line(View(lake, snapshot=snapshot))
    append_rows(lake, SILVER_FEED_EVENTS, [feed_event("subscribed", 9, "ETH/USDT", 6)])
    assert [one.symbol for one in reader.collect().not_subscribed] == ["BTC/USDT", "SOL/USDT"]


def test_the_url_of_the_api_if_something_listens_there(lake: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = lake.model_copy(update={"serve_port": listener.getsockname()[1]})
        snapshot = collect(settings)
        assert snapshot.api == settings.api_url
        assert f"API: {settings.api_url}" in shown(snapshot)
    assert "API: not running; `lakehouse serve` starts it" in shown(collect(settings))
