"""The job `repair` and the command `lakehouse repair`: a simulated exchange, a real Kafka, a ledger with open gaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, DagsterRunStatus

from jobs.managed_runs import GAPS_TAG, NAME_TAG, TERMINAL_TAG
from lakehouse.continuity.gaps import open_gaps
from lakehouse.lake.lease import Lease
from lakehouse.lake.table_io import append_rows, ensure_tables, open_table
from lakehouse.local_stack import home_folder
from lakehouse.repair.run import RepairReport, digest, repair_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from lakehouse.tables import SILVER_CONTINUITY
from tests.status.test_snapshot import lakehouse
from tests.support.ingest_tools import messages, until
from tests.support.repair_runs import (
    VENUES,
    failure_line,
    figures,
    gap_of,
    gap_row,
    run_repair,
    sent,
    tags,
    traded,
    traded_exchange,
    true,
)
from tests.support.rows import empty_lake
from tests.support.simulator_support import running

# Without a broker.


def test_with_nothing_to_repair_it_ends_at_once(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, SILVER_CONTINUITY, [gap_row("binance", "BTC/USDT", 5, 9, age=60)])
    result = run_repair(instance, settings)
    assert result.success
    names = {*RepairReport.__dataclass_fields__, "holes"} - {"gaps"}
    assert figures(result) == dict.fromkeys(names, 0)
    found = tags(instance, result)
    assert (found[NAME_TAG], found[GAPS_TAG], found[TERMINAL_TAG]) == ("repair", digest([]), "")


def test_an_unknown_venue_is_terminal(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, SILVER_CONTINUITY, [gap_row("mtgox", "BTC/USDT", 5, 9)])
    result = run_repair(instance, settings)
    assert failure_line(result).startswith("unknown venue 'mtgox'; expected one of ")
    found = tags(instance, result)
    assert found[TERMINAL_TAG] == failure_line(result)
    assert found[GAPS_TAG] == digest(open_gaps(settings))


def test_without_a_broker_it_may_be_tried_again(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, SILVER_CONTINUITY, [gap_row("binance", "BTC/USDT", 5, 9)])
    result = run_repair(instance, settings)
    assert failure_line(result).startswith("no Kafka bootstrap servers are set")
    assert tags(instance, result)[TERMINAL_TAG] == ""


def test_the_command_asks_no_live_venue_for_simulated_trades(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / ".lakehouse" / "demo")
    assert lakehouse(tmp_path, "repair").stdout == "no open gap to repair\n"
    append_rows(settings, SILVER_CONTINUITY, [gap_row("binance", "BTC/USDT", 5, 9, age=10)])
    done = lakehouse(tmp_path, "repair")
    assert (done.returncode, done.stdout) == (75, "no open gap to repair\n")
    chosen, error = done.stderr.splitlines()
    assert chosen == "lakehouse: .lakehouse/demo"
    assert error.startswith("lakehouse: 5 trade ids are missing for less than 120 s; expected none; ")
    (settings.home / "simulator").mkdir()
    done = lakehouse(tmp_path, "repair", "--older-than", "0")
    assert (done.returncode, done.stdout) == (64, "")
    assert "are simulated, and no simulator is known" in done.stderr


# With a simulated exchange and Kafka.


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[SimulatorServer]:
    with traded_exchange(tmp_path / "record") as server:
        yield server


@pytest.mark.kafka
def test_the_trades_of_the_gaps_are_in_the_topic(
    instance: DagsterInstance, kafka_settings: Settings, exchange: SimulatorServer
) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    markets = {venue: traded(exchange, venue) for venue in VENUES}
    gaps = [gap_of(trades, 20, 59) for trades in markets.values()]
    append_rows(settings, SILVER_CONTINUITY, [*gaps, gap_row("binance", "BTC/USDT", 10**12, 10**12 + 9, age=10)])

    result = run_repair(instance, settings)

    assert result.success
    expected = sorted(one for trades in markets.values() for one in true(trades, 20, 59))
    assert [(venue, trade_id) for venue, trade_id, *_ in sent(settings)] == expected
    assert {source for *_, source in sent(settings)} == {"repair"}
    found = figures(result)
    assert {name: found[name] for name in ("holes", "ids", "repaired", "unavailable", "left")} == {
        "holes": 3,
        "ids": 120,
        "repaired": 120,
        "unavailable": 0,
        "left": 0,
    }
    assert isinstance(found["requests"], int)
    assert 3 <= found["requests"] <= 12
    assert found["still_open"] == "not known: no Silver stream is live"
    events = [value["event"] for _, value in messages(settings.bootstrap(), settings.topic_feed_events)]
    assert events == ["gap_repaired"] * 3
    observed = instance.fetch_observations(AssetRecordsFilter(AssetKey(["silver", "continuity"])), limit=1).records
    assert observed[0].asset_observation is not None
    assert observed[0].asset_observation.metadata["repaired"].value == 120


@pytest.mark.kafka
def test_beside_a_live_stream_it_waits_for_the_ledger(kafka_settings: Settings, exchange: SimulatorServer) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    append_rows(settings, SILVER_CONTINUITY, [gap_of(traded(exchange, "binance"), 20, 59)])
    gaps, waits = open_gaps(settings), []

    def hold(seconds: float) -> None:
        """In place of the stream, which closes the gap a while after the trades were sent."""
        waits.append(seconds)
        if waits.count(1.0) == 3:
            open_table(settings, SILVER_CONTINUITY).update({"state": "'present'"})
        time.sleep(min(seconds, 0.2))

    with Lease(settings, ("silver",), "a stream"):
        report = repair_gaps(settings, gaps, hold=hold)
        assert (report.repaired, report.still_open, report.done) == (40, 0, True)
        assert waits.count(1.0) == 3
        append_rows(settings, SILVER_CONTINUITY, [gap_of(traded(exchange, "binance"), 70, 79)])
        late = repair_gaps(settings, open_gaps(settings), settle=0.5, hold=time.sleep)
        assert (late.repaired, late.left, late.still_open, late.done) == (10, 0, 10, False)


@pytest.mark.kafka
def test_a_canceled_run_ends_the_repair(instance: DagsterInstance, kafka_settings: Settings, tmp_path: Path) -> None:
    """Repair from a venue that never answers."""
    with running(tmp_path / "record", symbols=("BTC/USDT",)) as server:
        dead = server.url
    settings = kafka_settings.model_copy(update={"simulator_url": dead, "heartbeat_seconds": 0.1})
    ensure_tables(settings)
    append_rows(settings, SILVER_CONTINUITY, [gap_row("binance", "BTC/USDT", 5, 9)])

    def cancel() -> None:
        until(lambda: bool(instance.get_runs()) and GAPS_TAG in instance.get_runs()[0].tags, 30)
        time.sleep(1.0)
        instance.report_run_canceled(instance.get_runs()[0])

    person = threading.Thread(target=cancel)
    person.start()
    began = time.monotonic()
    result = run_repair(instance, settings)
    person.join()
    assert not result.success
    assert time.monotonic() - began < 60
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status is DagsterRunStatus.CANCELED
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("repair")]


@pytest.mark.kafka
def test_the_command_repairs(kafka_settings: Settings, exchange: SimulatorServer) -> None:
    settings = kafka_settings.model_copy(update={"simulator_url": exchange.url})
    ensure_tables(settings)
    trades = traded(exchange, "coinbase")
    append_rows(settings, SILVER_CONTINUITY, [gap_of(trades, 30, 39)])
    home_folder.save_environment(settings.home, settings.environment())

    done = lakehouse(settings.home, "repair", "--home", str(settings.home))

    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("1 gaps of 10 trade ids: 10 repaired, 0 unavailable upstream, 0 left; ")
    assert second == "no Silver stream runs: the next one closes them in silver/continuity"
    assert [(venue, trade_id) for venue, trade_id, *_ in sent(settings)] == true(trades, 30, 39)
