"""Venues that are away and symbols that are not delivered, by the feed events of a lake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from lakehouse.ingest import backoff
from lakehouse.lake.feed_state import NotConnected, not_connected, not_subscribed
from lakehouse.lake.table_io import append_rows
from lakehouse.local_stack.display import View, plain_line
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from lakehouse.status.snapshot import Snapshot, StatusReader
from lakehouse.status.view import render
from lakehouse.streams.materialize import materialize
from lakehouse.tables import SILVER_FEED_EVENTS
from tests.support.ingest_runs import events_of, running
from tests.support.ingest_tools import until
from tests.support.rows import NOON_US, empty_lake, utc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The words of ingest about a refused handshake.
RESTRICTED = (
    "wss://stream.binance.com:9443/stream answered the handshake with HTTP 451: Service unavailable from a restricted "
    "location.; expected 101; the venue serves nobody at this location: take it out of LAKEHOUSE_VENUES, or run where "
    "its terms allow it"
)

#: A word of ingest: event, socket, detail.
Word = tuple[str, str, str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path / "home")


def on(socket: str) -> Word:
    return ("connected", socket, "wss://stream.binance.com:9443/stream")


def off(socket: str, why: str = "connection lost: reset by peer") -> Word:
    return ("disconnected", socket, why)


def tell(
    settings: Settings, *words: Word, venue: str = "binance", at: int = 0, step: int = 60, offset: int = 0
) -> None:
    """Append words, `step` seconds apart by ingest's clock, from `at` seconds after noon on."""
    rows = []
    for number, (event, socket, detail) in enumerate(words):
        moment = utc(NOON_US + (at + number * step) * 1_000_000)
        rows.append(event_row(settings, venue, event, moment, offset + number, socket, None, detail))
    append_rows(settings, SILVER_FEED_EVENTS, rows)


def event_row(
    settings: Settings, venue: str, event: str, moment: Any, offset: int, socket: str, symbol: str | None, detail: str
) -> dict[str, Any]:
    return {
        "venue": venue,
        "event": event,
        "ts_event": moment,
        "connection_id": socket,
        "symbol": symbol,
        "first_id": None,
        "last_id": None,
        "detail": detail,
        "kafka_topic": settings.topic_feed_events,
        "kafka_partition": 0,
        "kafka_offset": offset,
        "ts_kafka": moment,
        "event_date": moment.date(),
    }


def shown(snapshot: Snapshot) -> str:
    console = Console(width=400, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(render(snapshot))
    return capture.get()


@pytest.mark.parametrize(
    ("words", "minute", "why"),
    [
        ([off("a", RESTRICTED)], 0, RESTRICTED),
        # Away since the first attempt, in the words of the last.
        (
            [off("a", RESTRICTED), off("b", "HTTP 403: Forbidden"), off("c", "HTTP 429: error code: 1015")],
            0,
            "HTTP 429",
        ),
        ([on("a"), off("a"), off("b", "HTTP 503"), off("c", "HTTP 451")], 1, "HTTP 451"),
        ([on("a"), off("a", "closed by the venue: code 1001\ngoing\taway")], 1, "code 1001 going away"),
        ([off("a", "HTTP 451"), on("b"), off("b"), on("c"), off("c", "no connection to it: no route")], 4, "no route"),
        # Stopped, and refused when it was started again.
        (
            [on("a"), off("a", "stopped"), off("b", "HTTP 418: IP banned until 7"), off("c", "HTTP 418: IP")],
            2,
            "418: IP",
        ),
        # A killed process says no farewell of its sockets.
        ([on("a"), on("b"), off("c", "HTTP 451")], 2, "HTTP 451"),
        ([on("a"), off("b", "HTTP 451"), on("c"), off("c", "no frame for 60 s"), off("d", "HTTP 403")], 3, "HTTP 403"),
        # Both sockets of a rotation are lost.
        ([on("a"), on("b"), off("b", "no successor: it brought no trade"), off("a", "lost")], 2, "lost"),
    ],
)
def test_a_venue_that_is_away(settings: Settings, words: list[Word], minute: int, why: str) -> None:
    tell(settings, *words)
    (away,) = not_connected(settings)
    assert (away.venue, away.since) == ("binance", utc(NOON_US + minute * 60_000_000))
    assert why in away.words
    assert "\n" not in away.words


@pytest.mark.parametrize(
    "words",
    [
        [],
        [on("a")],
        [off("a", RESTRICTED), off("b", RESTRICTED), on("c")],
        [on("a"), off("a"), on("b")],
        # A socket that is changed for another, and a successor that was not taken.
        [on("a"), on("b"), off("a", "rotated: its time is up")],
        [on("a"), on("b"), off("b", "no successor: it brought no trade of BTC/USDT")],
        [off("z", "HTTP 451"), on("a"), on("b"), off("b", "closed by the venue: no code")],
        # Stopped while it was connected: no venue is to blame.
        [on("a"), off("a", "stopped")],
        [off("z", "HTTP 451"), on("a"), off("a", "stopped")],
        # Another killed process, and a start.
        [on("a"), off("b", "HTTP 451"), on("c")],
        # A second socket that was refused, beside one that stands.
        [on("a"), ("venue_error", "b", f"no second socket: {RESTRICTED}")],
    ],
)
def test_a_venue_that_is_not_away(settings: Settings, words: list[Word]) -> None:
    tell(settings, *words)
    assert not_connected(settings) == ()


def test_a_clock_that_was_set_back_shows_no_older_state(settings: Settings) -> None:
    hour = 3600
    tell(settings, off("a", "HTTP 451"), on("b"), at=hour)
    tell(settings, off("b"), off("c", "HTTP 403"), at=0, offset=2)
    assert not_connected(settings) == (NotConnected("binance", "HTTP 403", utc(NOON_US)),)
    tell(settings, off("d", "HTTP 451"), at=hour, offset=4)
    tell(settings, on("e"), at=60, offset=5)
    assert not_connected(settings) == ()
    words = [("unsubscribed", hour, "ETH/USDT"), ("subscribed", 0, "ETH/USDT"), ("unsubscribed", 60, "SOL/USDT")]
    words += [("subscribed", hour, "BTC/USDT"), ("subscription_refused", 60, "BTC/USDT")]
    rows = [
        event_row(settings, "kraken", event, utc(NOON_US + at * 1_000_000), number, "a", symbol, "")
        for number, (event, at, symbol) in enumerate(words)
    ]
    append_rows(settings, SILVER_FEED_EVENTS, rows)
    assert [one.symbol for one in not_subscribed(settings)] == ["BTC/USDT", "SOL/USDT"]


def test_venues_of_the_settings_and_the_topic_of_today(settings: Settings) -> None:
    tell(settings, off("a", "HTTP 451"), venue="kraken", offset=7)
    tell(settings, on("a"), off("b", "HTTP 403"), venue="coinbase", offset=8)
    other = settings.model_copy(update={"venues": ("binance", "kraken")})
    assert [one.venue for one in not_connected(settings)] == ["coinbase", "kraken"]
    assert [one.venue for one in not_connected(other)] == ["kraken"]
    assert not_connected(settings.model_copy(update={"topic_feed_events": "other"})) == ()


def test_status_and_the_live_line_name_it_until_it_is_connected(settings: Settings) -> None:
    reader = StatusReader(settings, is_supervised=False)
    assert "NOT CONNECTED" not in shown(reader.collect())
    tell(settings, off("a", RESTRICTED), off("b", RESTRICTED))
    tell(settings, on("a"), off("a"), venue="kraken")
    snapshot = reader.collect()
    lines = [line.rstrip() for line in shown(snapshot).splitlines() if "NOT CONNECTED" in line]
    assert len(lines) == 2
    assert re.fullmatch(rf"binance: NOT CONNECTED for \d+ \w+, tried again: {re.escape(RESTRICTED)}", lines[0])
    assert re.fullmatch(r"kraken: NOT CONNECTED for \d+ \w+, tried again: connection lost: reset by peer", lines[1])
    assert "; binance NOT CONNECTED; kraken NOT CONNECTED; " in plain_line(View(settings, snapshot=snapshot))
    tell(settings, on("c"), offset=2)
    assert [one.venue for one in reader.collect().not_connected] == ["kraken"]
    assert "binance NOT CONNECTED" not in plain_line(View(settings, snapshot=reader.collect()))


@pytest.mark.kafka
def test_a_successor_that_is_refused_leaves_the_venue_connected(kafka_settings: Settings, tmp_path: Path) -> None:
    with (
        SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=100)) as simulator,
        running(kafka_settings, simulator, venues=["binance"]) as service,
    ):
        assert service.wait_subscribed(10) == {}
        simulator.fault("handshake_refused", venue="binance", status="451", form="none", seconds=60, cut=False)
        (rotation,) = service.rotate()
        assert rotation.done.wait(15)
        assert "restricted location" in rotation.problem
        assert service.stats().venues[0].connected
        until(lambda: bool(events_of(kafka_settings, "venue_error")))
    (error,) = events_of(kafka_settings, "venue_error")
    assert re.match(r"no second socket: ws://[^ ]+ answered the handshake with HTTP 451: Service unav", error["detail"])
    assert [one["detail"] for one in events_of(kafka_settings, "disconnected")] == ["stopped"]


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.kafka
@pytest.mark.parametrize("status", ["451", "503"])
def test_refused_by_the_simulated_exchange_and_then_accepted(
    spark: SparkSession, kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setitem(backoff._STEPS, 451, backoff.Steps(2.0, 2.0))  # in place of minutes
    reader = StatusReader(kafka_settings, is_supervised=False)
    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=100)) as simulator:
        simulator.fault("handshake_refused", venue="binance", status=status, form="none", seconds=600)
        with running(kafka_settings, simulator) as service:
            until(lambda: [one.connected for one in service.stats().venues] == [False, True, True], 60)
            until(lambda: len(events_of(kafka_settings, "disconnected")) > 1, 60)
            materialize(kafka_settings)
            snapshot = reader.collect()
            (line,) = [line for line in shown(snapshot).splitlines() if "NOT CONNECTED" in line]
            assert re.match(
                rf"binance: NOT CONNECTED for \d+ s, tried again: ws://\S+ answered the handshake with HTTP {status}",
                line,
            )
            assert status != "451" or "take it out of LAKEHOUSE_VENUES" in line
            assert "; binance NOT CONNECTED; " in plain_line(View(kafka_settings, snapshot=snapshot))
            simulator.end_faults()
            until(lambda: all(one.connected for one in service.stats().venues), 60)
            until(lambda: len(events_of(kafka_settings, "connected")) == 3, 60)
            materialize(kafka_settings)
            snapshot = reader.collect()
            assert snapshot.not_connected == ()
            assert "NOT CONNECTED" not in shown(snapshot) + plain_line(View(kafka_settings, snapshot=snapshot))
