"""A handshake that a venue refuses: its words, the remedy, and how long a feed stays away."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from jobs.ingest import _troubles
from lakehouse.cli.ingest import _status
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.exchanges.retry_after import LONGEST_SECONDS, retry_after
from lakehouse.ingest.away import Away
from lakehouse.ingest.backoff import BAN_SECONDS, BLOCKED, FIRST_SECONDS, LIMITED, Pauses, Steps
from lakehouse.ingest.connection import Connection, HandshakeRefusedError, refusal_remedy, refusal_words
from lakehouse.ingest.feed import Feed
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import running
from tests.support.ingest_tools import messages, until, venue_server

NOON = 1_445_428_800.0  # Wed, 21 Oct 2015 12:00:00 GMT
RESTRICTED = b'{"code":0,"msg":"Service unavailable from a restricted location."}'
FIREWALL = (
    b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title><style>p { color: red }</style>"
    b"<script>if (1 < 2) alert('x')</script></head>\n"
    + b" \n" * 400
    + b"<body><p>You are blocked &amp; logged</p></body></html>"
)

Refuse = Callable[[ServerConnection, Request], Response]


def answer(status: int, body: bytes = b"", reason: str = "Refused", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, reason, Headers({**named, "Content-Length": str(len(body))}), body)


def refused(response: Response) -> HandshakeRefusedError:
    with venue_server(lambda _: None, refuse=lambda *_: response) as url:
        connection = Connection(f"{url}/stream?streams=btcusdt@trade", 5.0, None, 0.0)
        with pytest.raises(HandshakeRefusedError) as caught:
            connection.open()
        connection.close()
    return caught.value


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 0.25 ", 0.25),
        ("Wed, 21 Oct 2015 12:00:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 12:01:00 GMT", 60.0),
        ("Wed Oct 21 12:02:00 2015", 120.0),
        ("Wed, 21 Oct 2015 13:00:30 +0100", 30.0),
        ("Wed, 21 Oct 2015 11:59:00 GMT", 0.0),
        ("99999999999", LONGEST_SECONDS),
        ("Thu, 21 Oct 2055 12:00:00 GMT", LONGEST_SECONDS),
        *((bad, None) for bad in ("", "soon", "-1", "1e9", "nan", "٣", "1, 2", "Wed, 99 Oct 2015 12:00:00 GMT")),
    ],
)
def test_retry_after_in_every_form(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, now=NOON) == seconds


def test_a_date_counts_from_the_answers_own_date() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2015 12:00:30 GMT", "date": "Wed, 21 Oct 2015 12:00:20 GMT"}
    assert retry_after(headers, now=NOON - 3600) == 10.0  # a machine that is an hour slow
    assert retry_after({**headers, "date": "today"}, now=NOON) == 30.0
    assert retry_after({}) is None


@given(st.text(max_size=60), st.text(max_size=40))
def test_no_header_is_beyond_understanding(value: str, date: str) -> None:
    seconds = retry_after({"retry-after": value, "date": date})
    assert seconds is None or 0 <= seconds <= LONGEST_SECONDS


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (RESTRICTED, "Service unavailable from a restricted location."),
        (b'{"message":"Forbidden"}', "Forbidden"),
        (b'{"error":["EGeneral:Temporary lockout"]}', "EGeneral:Temporary lockout"),
        (b'{"error":{"code":1,"message":"slow down"}}', "slow down"),
        (b"error code: 1015", "error code: 1015"),
        (FIREWALL, "403 Forbidden You are blocked & logged"),
        (b'{"code":7}', "HTTP's own"),
        (b"", "HTTP's own"),
        (None, "HTTP's own"),
        (b"\x1f\x8b\x08\x00\xff\xfe\xfd", "HTTP's own"),
        ("zu viele Anfragen\n\x1b[31mÜberlast".encode(), "zu viele Anfragen [31mÜberlast"),
    ],
)
def test_the_venues_own_words(body: bytes | None, said: str) -> None:
    assert refusal_words(body, "HTTP's own") == said


@given(st.binary(max_size=300), st.none() | st.text(max_size=20))
def test_words_are_one_short_printable_line(body: bytes, reason: str | None) -> None:
    said = refusal_words(body, reason)
    assert len(said) <= 121
    assert said.isprintable()


def test_the_line_has_status_words_and_remedy() -> None:
    error = refused(answer(451, RESTRICTED, content_type="application/json"))
    assert (error.status, error.retry_after) == (451, None)
    assert re.fullmatch(
        r"ws://127\.0\.0\.1:\d+/stream answered the handshake with HTTP 451: Service unavailable from a restricted "
        r"location\.; expected 101; the venue serves nobody at this location: take it out of LAKEHOUSE_VENUES, or run "
        r"where its terms allow it",
        str(error),
    )
    assert "HTTP 403: 403 Forbidden You are blocked & logged; expected 101; the venue or a fire" in str(
        refused(answer(403, FIREWALL))
    )
    assert str(refused(answer(503, b"", "Service Unavailable"))).endswith("HTTP 503: Service Unavailable; expected 101")
    for status in (403, 418, 429, 451):
        assert refusal_remedy(status)


@pytest.mark.parametrize("status", [418, 429, 451, 503])
def test_retry_after_of_a_handshake(status: int) -> None:
    assert refused(answer(status, retry_after="12.5")).retry_after == 12.5
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert refused(answer(status, retry_after=date)).retry_after == pytest.approx(600, abs=5)


@pytest.mark.parametrize("status", [403, 451])
def test_a_blocked_address_knocks_after_minutes_and_ever_more_rarely(status: int) -> None:
    pauses = Pauses(random.Random(1), Steps(0.5, 30.0))
    waits = [pauses.after(status) for _ in range(8)]
    for number, wait in enumerate(waits):
        step = min(BLOCKED.first * 2**number, BLOCKED.longest)
        assert step / 2 <= wait <= step
    assert waits[0] >= 120
    assert pauses.after(status, named=7200) == 7200
    assert pauses.after(503) <= 0.5, "a series of its own"
    pauses.reset()
    assert pauses.after(status) <= BLOCKED.first


def test_a_ban_and_a_limit_without_a_time_are_met_as_over_rest() -> None:
    pauses = Pauses(random.Random(1), Steps(0.5, 30.0))
    assert pauses.after(418) == BAN_SECONDS
    assert pauses.after(418, named=17.25) == 17.25
    assert pauses.after(429, named=300) == 300
    pauses.reset()
    for number in range(9):
        step = min(LIMITED.first * 2**number, LIMITED.longest)
        assert step / 2 <= pauses.after(429) <= step


def test_a_refused_successor_is_not_forgotten_by_the_end_of_the_old_socket() -> None:
    away = Away("binance", random.Random(1))
    away.begin(0.0, refused(answer(429, retry_after="50")))
    assert 49 < away.left <= 50
    assert "HTTP 429: Refused; expected 101; this address makes too many requests" in away.words
    assert re.search(r"; next attempt at \d\d:\d\d:\d\d UTC$", away.words)
    away.begin(600.0, None)
    assert 49 < away.left <= 50
    assert away.words
    fresh = Away("binance", random.Random(1))
    fresh.begin(600.0, None)
    assert fresh.left <= FIRST_SECONDS
    assert not fresh.words


@pytest.mark.kafka
def test_a_feed_at_a_restricted_location_knocks_once_tells_and_stops_at_once(kafka_settings: Settings) -> None:
    knocks: list[float] = []

    def refuse(*_: object) -> Response:
        knocks.append(time.monotonic())
        return answer(451, RESTRICTED)

    sink = KafkaSink(kafka_settings.bootstrap(), *kafka_settings.topics, partitions=kafka_settings.topic_partitions)
    with venue_server(lambda _: None, refuse=refuse) as url:
        feed = Feed(find_venue("binance"), ["BTC/USDT"], url, sink, Counters(), lambda _: None, random.Random(1))
        feed.start()
        until(lambda: "next attempt at" in feed.last_error)
        time.sleep(3.0)  # today's backoff would knock three times more
        asked = feed.rotate()
        assert asked.done.wait(1.0)
        assert asked.problem == "there is no connection to change"
        assert not feed.settled
        began = time.monotonic()
        feed.stop()
        assert feed.join(2.0)
        assert time.monotonic() - began < 1.0
    assert len(knocks) == 1
    assert "Service unavailable from a restricted location." in feed.last_error
    assert "LAKEHOUSE_VENUES" in feed.last_error
    assert sink.flush(time.monotonic() + 10) == 0
    events = [value for _, value in messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)]
    assert [event["event"] for event in events] == ["disconnected"]
    assert "HTTP 451: Service unavailable from a restricted location." in events[0]["detail"]
    assert feed.rotate().problem == "the feed has ended"


@pytest.mark.kafka
@pytest.mark.parametrize("form", ["decimals", "date"])
def test_a_limited_feed_comes_back_when_the_venue_said_and_not_before(kafka_settings: Settings, form: str) -> None:
    knocks: list[float] = []

    def refuse(*_: object) -> Response | None:
        knocks.append(time.monotonic())
        if len(knocks) > 2:
            return None
        later = datetime.now(UTC) + timedelta(seconds=3)
        value = "2.25" if form == "decimals" else format_datetime(later, usegmt=True)
        return answer(429 if len(knocks) == 1 else 418, b"error code: 1015", retry_after=value)

    def script(server: ServerConnection) -> None:
        for _ in server:  # until the client closes
            pass

    sink = KafkaSink(kafka_settings.bootstrap(), *kafka_settings.topics, partitions=kafka_settings.topic_partitions)
    with venue_server(script, refuse=refuse) as url:
        feed = Feed(find_venue("binance"), ["BTC/USDT"], url, sink, Counters(), lambda _: None, random.Random(1))
        feed.start()
        until(lambda: feed.connected, 15.0)
        feed.stop()
        assert feed.join(5)
    assert len(knocks) == 3
    for before, after in pairwise(knocks):
        assert 2.0 <= after - before < 5.0
    assert sink.flush(time.monotonic() + 10) == 0


@pytest.mark.kafka
def test_refused_by_the_simulated_exchange_and_back_without_a_loss(kafka_settings: Settings, tmp_path: Path) -> None:
    with (
        SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=300)) as simulator,
        running(kafka_settings, simulator) as service,
    ):
        assert service.wait_subscribed(10) == {}
        until(lambda: service.stats().acked > 200, 20)
        simulator.fault("handshake_refused", venue="binance", status="451", seconds=60, form="none")
        simulator.fault("handshake_refused", venue="kraken", status="429", seconds=4, form="date")
        simulator.fault("handshake_refused", venue="coinbase", status="418", seconds=4, form="decimals")
        until(lambda: not any(venue.connected for venue in service.stats().venues))
        until(lambda: all("next attempt at" in venue.last_error for venue in service.stats().venues))
        before = service.stats()
        binance, kraken, coinbase = before.venues
        assert "HTTP 451: Service unavailable from a restricted location.; expected 101; " in binance.last_error
        assert "HTTP 429: error code: 1015; expected 101; this address makes too many requests" in kraken.last_error
        assert "IP banned until" in coinbase.last_error
        assert "binance DOWN" in (line := _status(before, before, 5.0))
        assert "Service unavailable from a restricted location." in line
        assert "take it out of LAKEHOUSE_VENUES" in line
        assert "restricted location" in _troubles(before)["down"]
        until(lambda: [venue.connected for venue in service.stats().venues] == [False, True, True], 20)
        assert service.wait_subscribed(0.0) == {}
        assert not service.settled
        until(lambda: simulator.status()["faults"]["active"] == 1)
        attempts = simulator.status()["attempts"]["binance"]["made"]
        assert attempts == 2, "one at the start, one refused"
        began = time.monotonic()
    assert time.monotonic() - began < 6, "the end does not wait for the next attempt"
