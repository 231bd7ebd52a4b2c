"""The job `repair` and the command `lakehouse repair`: a simulated exchange, a real Kafka, a ledger with open gaps."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, DagsterRunStatus, ExecuteInProcessResult

from jobs import repair
from jobs.managed_runs import GAPS_TAG, NAME_TAG, TERMINAL_TAG
from lakehouse.continuity.gaps import MOST_AGAIN, gaps_to_repair, open_gaps
from lakehouse.lake.lease import Lease
from lakehouse.lake.table_io import append_rows, ensure_tables, open_table
from lakehouse.local_stack import home_folder
from lakehouse.repair.run import RepairReport, digest, repair_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from lakehouse.tables import SILVER_CONTINUITY
from tests.status.test_snapshot import lakehouse
from tests.support.ingest_tools import messages, until
from tests.support.rows import empty_lake, utc
from tests.support.simulator_support import Client, running

VENUES = ("binance", "kraken", "coinbase")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """On disk, as in a real Dagster: SQLite in memory locks its tables when two threads meet."""
    with DagsterInstance.local_temp(str(tmp_path)) as on_disk:
        yield on_disk


def run_repair(instance: DagsterInstance, settings: Settings, **config: Any) -> ExecuteInProcessResult:
    return repair.execute_in_process(
        run_config={"ops": {"mend_open_holes": {"config": config}}},
        resources={"settings": settings},
        instance=instance,
        raise_on_error=False,
    )


def tags(instance: DagsterInstance, result: ExecuteInProcessResult) -> dict[str, str]:
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return dict(run.tags)


def failure_line(result: ExecuteInProcessResult) -> str:
    failure = result.failure_data_for_node("mend_open_holes")
    assert failure is not None
    assert failure.user_failure_data is not None  # a dagster.Failure, not a bug's trace
    return failure.user_failure_data.description or ""


def figures(result: ExecuteInProcessResult) -> dict[str, object]:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def gap_row(venue: str, symbol: str, first: int, last: int, age: float = 600.0, **columns: Any) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    row = {
        "venue": venue,
        "symbol": symbol,
        "first_id": first,
        "last_id": last,
        "state": "open",
        "ts_first": None,
        "ts_last": None,
        "since": now - dt.timedelta(seconds=age),
        "repaired": 0,
        "trades_version": 0,
    }
    return row | columns


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
    """A market that has traded for a moment and is paused."""
    with running(tmp_path / "record", symbols=("BTC/USDT",), rate=600.0) as server:
        clients = [
            Client(server, "/binance/stream?streams=btcusdt@trade"),
            Client(server, "/kraken/v2"),
            Client(server, "/coinbase"),
        ]
        clients[1].send({"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USDT"]}})
        clients[2].send({"type": "subscribe", "product_ids": ["BTC-USDT"], "channels": ["matches"]})
        until(lambda: all(len(traded(server, venue)) > 100 for venue in VENUES), 30)
        for client in clients:
            client.socket.close()
        yield server


def traded(server: SimulatorServer, venue: str) -> Sequence[TrueTrade]:
    record = server.record
    return list(record.iter(venue, "BTC/USDT")) if (venue, "BTC/USDT") in record.keys() else []  # noqa: SIM118


def gap_of(trades: Sequence[TrueTrade], first: int, last: int) -> dict[str, Any]:
    """The ledger's row of a gap over some places of the record."""
    return gap_row(
        trades[0].venue,
        trades[0].symbol,
        trades[first].trade_id,
        trades[last].trade_id,
        ts_first=utc(trades[first - 1].ts_event),
        ts_last=utc(trades[last + 1].ts_event),
    )


def sent(settings: Settings) -> list[tuple[str, int, str, str, str]]:
    found = [value for _, value in messages(settings.bootstrap(), settings.topic_trades)]
    return sorted((one["venue"], one["trade_id"], one["price"], one["size"], one["source"]) for one in found)


def true(trades: Sequence[TrueTrade], first: int, last: int) -> list[tuple[str, int]]:
    return [(one.venue, one.trade_id) for one in trades[first : last + 1]]


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
    """Of a venue that never answers."""
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


# What the venues lacked.


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
