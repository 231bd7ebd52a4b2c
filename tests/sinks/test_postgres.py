"""Bars in a real PostgreSQL, through changes of Gold and kills of the server: equal to Gold afterwards."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import RetriableError, SettingError, TerminalError
from lakehouse.lake.table_io import open_table
from lakehouse.settings import Settings
from lakehouse.sinks.postgres import PostgresSink
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M
from tests.support.market_lake import put
from tests.support.postgres_server import PostgresServer, programs
from tests.support.rows import NOON_US, bar_row, empty_lake
from tests.support.sinks import execute, postgres_equals_gold, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(programs() is None, reason="no PostgreSQL server here")]
DAY = 86_400_000_000
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    one = PostgresServer()
    yield one
    one.remove()


@pytest.fixture
def settings(tmp_path: Path, server: PostgresServer) -> Settings:
    execute(server.url, "DROP TABLE IF EXISTS bars, lakehouse_sinks")
    return empty_lake(tmp_path / "home")


def bar(number: int, **columns: Any) -> dict[str, Any]:
    return bar_row(NOON_US + number * MINUTE, close=Decimal("0.00000001"), first_trade_id=number, **columns)


def test_rows_arrive_exactly_and_once(server: PostgresServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(one, venue=venue) for one in range(3) for venue in ("binance", "kraken")])
    put(settings, GOLD_BARS_5M, [bar(0)])
    with PostgresSink(settings, server.url) as sink:
        assert sink.look() == {"1m": 6, "5m": 1}
        assert postgres_equals_gold(server.url, settings)
        assert sink.look() == {}


def test_changed_new_and_deleted_rows(server: PostgresServer, settings: Settings) -> None:
    rows = [bar(one) for one in range(3)] + [bar(one + DAY // MINUTE) for one in range(2)]
    put(settings, GOLD_BARS_1M, rows)
    with PostgresSink(settings, server.url) as sink:
        sink.look()
        changed = bar(1, revision=2, high=Decimal(99), updated_at=dt.datetime(2026, 11, 2, tzinfo=dt.UTC))
        put(settings, GOLD_BARS_1M, [rows[0], changed, rows[3], bar(9 + DAY // MINUTE)])  # rows 2 and 4 are gone
        sink.look()
        assert postgres_equals_gold(server.url, settings)
        open_table(settings, GOLD_BARS_1M).delete("bar_date = '2026-11-02'")
        sink.look()
        assert postgres_equals_gold(server.url, settings)


def test_a_bar_that_becomes_final_is_taken(server: PostgresServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(1), bar(2)])
    with PostgresSink(settings, server.url) as sink:
        sink.look()
        put(settings, GOLD_BARS_1M, [bar(1, is_final=True), bar(2)])  # as Gold writes it, with the same revision
        sink.look()
    assert postgres_equals_gold(server.url, settings)


def test_a_revision_that_starts_anew_is_taken(server: PostgresServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(1, revision=7)])
    with PostgresSink(settings, server.url) as sink:
        sink.look()
        put(settings, GOLD_BARS_1M, [bar(1, revision=1, low=Decimal(1))])
        sink.look()
    assert postgres_equals_gold(server.url, settings)


@pytest.mark.parametrize("gone", ["log", "lake"])
def test_a_version_that_is_gone_and_a_lake_made_anew(
    server: PostgresServer, settings: Settings, tmp_path: Path, gone: str
) -> None:
    put(settings, GOLD_BARS_1M, [bar(1), bar(2)])
    with PostgresSink(settings, server.url) as sink:
        sink.look()
    if gone == "lake":
        settings = empty_lake(tmp_path / "other")
        put(settings, GOLD_BARS_1M, [bar(2)])
    else:
        put(settings, GOLD_BARS_1M, [bar(3)])
        opened = open_table(settings, GOLD_BARS_1M)
        opened.create_checkpoint()
        log = Path(settings.lake) / "gold" / "bars_1m" / "_delta_log"
        for version in range(opened.version()):
            (log / f"{version:020}.json").unlink()
    with PostgresSink(settings, server.url) as sink:
        sink.look()
    assert postgres_equals_gold(server.url, settings)


def test_kills_of_the_server_lose_and_double_nothing(server: PostgresServer, settings: Settings) -> None:
    with PostgresSink(settings, server.url) as sink:
        for number in range(6):
            put(settings, GOLD_BARS_1M, [bar(one, revision=number) for one in range(number * 500)])
            if number % 2:
                server.kill()
                with pytest.raises(RetriableError, match="PostgreSQL does not answer"):
                    sink.look()
                server.start()
            sink.look()
            assert postgres_equals_gold(server.url, settings)


def test_a_transaction_that_is_cut_leaves_what_was(
    server: PostgresServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    with PostgresSink(settings, server.url) as sink:
        sink.look()
        put(settings, GOLD_BARS_1M, [bar(1, revision=2), bar(2)])
        with monkeypatch.context() as patch:
            patch.setattr(PostgresSink, "_delete", lambda *_: server.kill())
            with pytest.raises(RetriableError):
                sink.look()
        server.start()
        assert execute(server.url, "SELECT count(*), max(revision) FROM bars") == [(1, 1)]
        sink.look()
    assert postgres_equals_gold(server.url, settings)


def test_no_server_and_another_table_are_one_line_without_the_password(
    server: PostgresServer, settings: Settings
) -> None:
    with PostgresSink(settings, "postgresql://u:secret@127.0.0.1:1/x") as sink, pytest.raises(RetriableError) as caught:
        sink.look()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    for url in ("postgres//u:secret@h/d", "postgresql://u:se@cret@h/d"):
        with pytest.raises(SettingError) as refused:
            PostgresSink(settings, url)
        assert "cret" not in str(refused.value)
    execute(server.url, "CREATE TABLE bars (x int)")
    with PostgresSink(settings, server.url) as sink, pytest.raises(TerminalError, match="PostgreSQL refused"):
        sink.look()


def test_the_command_follows_gold_through_an_outage(server: PostgresServer, settings: Settings, tmp_path: Path) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    environment = os.environ | {"LAKEHOUSE_POSTGRES_URL": server.url}
    command = [sys.executable, "-m", "lakehouse", "sink", "postgres", "--home", str(settings.home)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as child:
        try:
            until(lambda: postgres_equals_gold(server.url, settings))
            server.kill()
            put(settings, GOLD_BARS_1M, [bar(1), bar(2)])
            until(lambda: b"does not answer" in (tmp_path / "log").read_bytes())
            server.start()
            until(lambda: postgres_equals_gold(server.url, settings))
        finally:
            child.terminate()
    assert child.returncode == 0
    assert (tmp_path / "log").read_bytes().count(b"does not answer") == 1
