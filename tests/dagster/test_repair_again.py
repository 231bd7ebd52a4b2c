"""The job `repair` and the command `lakehouse repair` ask again for what the venues lacked."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance

from lakehouse.continuity.gaps import MOST_AGAIN, gaps_to_repair
from lakehouse.lake.lease import Lease
from lakehouse.lake.table_io import append_rows, ensure_tables, open_table
from lakehouse.local_stack import home_folder
from lakehouse.repair.run import repair_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from lakehouse.tables import SILVER_CONTINUITY
from tests.status.test_snapshot import lakehouse
from tests.support.ingest_tools import messages
from tests.support.repair_runs import (
    figures,
    gap_of,
    gap_row,
    run_repair,
    sent,
    traded,
    traded_exchange,
    true,
)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[SimulatorServer]:
    with traded_exchange(tmp_path / "record") as server:
        yield server


@pytest.mark.kafka
def test_ids_that_are_due_again_are_asked_for_and_the_young_ones_are_not(
    instance: DagsterInstance, kafka_settings: Settings, exchange: SimulatorServer
) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    lacked = {"state": "unavailable", "tries": None, "last_try": None}  # by a ledger of before tries were counted
    binance, kraken = (traded(exchange, venue) for venue in ("binance", "kraken"))
    rows = [
        gap_of(binance, 20, 29) | lacked,
        gap_of(kraken, 20, 29) | lacked,
        gap_of(binance, 40, 49) | lacked | {"since": dt.datetime.now(dt.UTC) - dt.timedelta(seconds=60)},
        gap_row("coinbase", "BTC/USDT", 1, 3) | lacked,  # from before its history
        gap_row("coinbase", "LOOM/USDT", 7, 8) | lacked,  # delisted since
    ]
    append_rows(settings, SILVER_CONTINUITY, rows)

    found = figures(run_repair(instance, settings))

    names = ("holes", "ids", "again", "repaired", "unavailable", "left")
    assert {name: found[name] for name in names} == dict(zip(names, (4, 25, 25, 20, 5, 0), strict=True))
    expected = sorted([*true(binance, 20, 29), *true(kraken, 20, 29)])
    assert [(venue, trade_id) for venue, trade_id, *_ in sent(settings)] == expected
    events = [value for _, value in messages(settings.bootstrap(), settings.topic_feed_events)]
    gone = {one["symbol"]: one for one in events if one["event"] == "gap_unavailable"}
    assert [(one["venue"], one["first_id"], one["last_id"]) for _, one in sorted(gone.items())] == [
        ("coinbase", 1, 3),
        ("coinbase", 7, 8),
    ]
    assert "knows no symbol LOOM/USDT" in gone["LOOM/USDT"]["detail"]
    assert {one["event"] for one in events} == {"gap_repaired", "gap_unavailable"}

    found = figures(run_repair(instance, settings, unavailable=True))
    assert (found["again"], found["repaired"]) == (35, 30)


@pytest.mark.kafka
def test_beside_a_live_stream_it_waits_until_the_try_is_counted(
    kafka_settings: Settings, exchange: SimulatorServer
) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    lacked = {"state": "unavailable", "tries": 1, "last_try": dt.datetime.now(dt.UTC) - dt.timedelta(seconds=600)}
    append_rows(settings, SILVER_CONTINUITY, [gap_row("coinbase", "BTC/USDT", 1, 3) | lacked])
    waits: list[float] = []

    def hold(seconds: float) -> None:
        """In place of the stream, which counts a while after the venue has answered."""
        waits.append(seconds)
        if waits.count(1.0) == 3:
            open_table(settings, SILVER_CONTINUITY).update({"tries": "2", "last_try": "now()"})
        time.sleep(min(seconds, 0.2))

    with Lease(settings, ("silver",), "a stream"):
        report = repair_gaps(settings, gaps_to_repair(settings), hold=hold)
        assert (report.again, report.unavailable, report.still_open, report.done) == (3, 3, 0, True)
        assert waits.count(1.0) == 3
        assert gaps_to_repair(settings) == []
        late = repair_gaps(settings, gaps_to_repair(settings, all_unavailable=True), settle=0.5)
        assert (late.unavailable, late.still_open, late.done) == (3, 3, False)


@pytest.mark.kafka
def test_the_command_asks_for_so_many_ranges_and_says_what_is_left(
    kafka_settings: Settings, exchange: SimulatorServer
) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    rows = [gap_row("coinbase", "BTC/USDT", 2 * n, 2 * n, 9e6, state="unavailable") for n in range(MOST_AGAIN + 10)]
    append_rows(settings, SILVER_CONTINUITY, rows)
    home_folder.save_environment(settings.home, settings.environment())

    done = lakehouse(settings.home, "repair", "--unavailable", "--home", str(settings.home))

    assert (done.returncode, done.stderr) == (0, "")
    first, _, last = done.stdout.splitlines()
    assert first.startswith(
        "500 gaps of 500 trade ids, 500 of them unavailable before: 0 repaired, 500 unavailable upstream, 0 left; "
    )
    assert last == "10 more unavailable ranges were not asked for: say `lakehouse repair --unavailable` again"
