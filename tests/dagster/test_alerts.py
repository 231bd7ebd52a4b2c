"""The sensor `alert_moves`: its decision, and its ticks over a real lake with a real HTTP server as the webhook."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, SensorResult, SkipReason, build_sensor_context
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.broker.ports import free_port
from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import GOLD_MOVES
from sensors import webhook
from sensors.alerts import alert_moves
from sensors.moves import ALERT_FOR, Cursor, Move, decide_alerts
from sensors.webhook import deliver, place
from tests.support.rows import empty_lake

NOW = dt.datetime(2026, 11, 21, 13, 30, 20, tzinfo=dt.UTC)
START = Cursor(NOW - dt.timedelta(hours=5))


def move(minutes_ago: int = 1, venue: str = "binance", now: dt.datetime = NOW, written_ago: float = 0.0) -> Move:
    minute = now.replace(second=0, microsecond=0) - dt.timedelta(minutes=minutes_ago)
    prices = Decimal("100.50"), Decimal("97.485")
    written = now - dt.timedelta(seconds=written_ago)
    return Move(venue, "BTC/USDT", minute, "down", *prices, Decimal("-0.03"), 7, written)


def row(one: Move, revision: int = 1) -> dict[str, Any]:
    names = ("venue", "symbol", "direction", "from_price", "to_price", "change", "trades", "updated_at")
    rest = {"bar_start": one.minute, "volume": Decimal(1), "revision": revision, "bar_date": one.minute.date()}
    return {name: getattr(one, name) for name in names} | rest


# ------------------------------------------------------------------------------------------------ the decision


def test_new_moves_are_alerted_once_in_order() -> None:
    early, late = move(5), move(2)
    decision = decide_alerts([late, early], START, NOW)
    assert decision.to_log == decision.to_send == (early, late)
    after = decision.cursor.with_logged(early, to_send=True).with_logged(late, to_send=True).with_sent([early, late])
    again = decide_alerts([late, early], Cursor.loads(after.dumps()), NOW + dt.timedelta(minutes=1))
    assert (again.to_log, again.to_send, again.too_old) == ((), (), 0)


def test_a_late_move_before_an_alerted_one_is_new() -> None:
    cursor = START.with_logged(move(2), to_send=False)
    assert decide_alerts([move(2), move(9, venue="kraken")], cursor, NOW).to_log == (move(9, venue="kraken"),)


def test_a_rewritten_move_is_not_new() -> None:
    cursor = decide_alerts([], START.with_logged(move(3, written_ago=60), to_send=False), NOW).cursor
    rewritten = decide_alerts([move(3, written_ago=0)], cursor, NOW)
    assert (rewritten.to_log, rewritten.too_old) == ((), 0)


def test_old_moves_are_counted_once_and_not_alerted() -> None:
    old = [move(61), move(3000)]
    decision = decide_alerts([*old, move(60)], START, NOW.replace(second=0))
    assert (decision.to_log, decision.too_old) == ((move(60),), 2)
    assert decide_alerts(old, decision.cursor, NOW).too_old == 0


def test_the_first_look_alerts_nothing_of_what_is_there() -> None:
    first = decide_alerts([move(1), move(2), move(500)], None, NOW)
    assert (first.to_log, first.to_send, first.too_old) == ((), (), 3)
    second = decide_alerts([move(0), move(1), move(2)], first.cursor, NOW)
    assert second.to_log == (move(0),)


def test_what_the_webhook_did_not_take_is_sent_again_until_it_is_too_old() -> None:
    cursor = START.with_logged(move(2), to_send=True)
    again = decide_alerts([move(2), move(1)], cursor, NOW)
    assert (again.to_log, again.to_send) == ((move(1),), (move(2), move(1)))
    later = decide_alerts([move(2)], cursor, NOW + ALERT_FOR)
    assert (later.to_send, later.given_up, later.cursor.unsent) == ((), 1, frozenset())
    assert decide_alerts([move(2)], later.cursor, NOW + ALERT_FOR).given_up == 0


def test_a_move_that_was_taken_back_is_not_sent_after_all() -> None:
    assert decide_alerts([], START.with_logged(move(2), to_send=True), NOW).cursor.unsent == frozenset()


moves = st.builds(move, st.integers(0, 180), st.sampled_from(["binance", "kraken"]), st.just(NOW), st.floats(0, 7000))


@given(st.lists(st.lists(moves, max_size=6), max_size=6))
def test_no_move_is_logged_twice_and_the_cursor_stays_small(ticks: list[list[Move]]) -> None:
    cursor: Cursor | None = START
    logged: list[Move] = []
    for number, rows in enumerate(ticks):
        decision = decide_alerts(rows, cursor, NOW + dt.timedelta(minutes=10 * number))
        cursor = decision.cursor
        for one in decision.to_log:
            cursor = cursor.with_logged(one, to_send=False)
        logged += decision.to_log
        cursor = Cursor.loads(cursor.dumps())
    keys = [one.key for one in logged]
    assert len(keys) == len(set(keys))
    assert cursor is not None
    assert cursor.logged <= set(keys)


# ------------------------------------------------------------------------------------------------ the webhook


class Receiver(ThreadingHTTPServer):
    """Answers each POST with `status`, after `wait` seconds, and keeps what came."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.status, self.wait = 204, 0.0
        self.bodies: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.wait)
        if self.server.status < 300:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(free_port()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(receiver: Receiver) -> str:
    return f"http://127.0.0.1:{receiver.server_address[1]}/hooks/SECRET"


def test_deliveries_in_order(receiver: Receiver) -> None:
    bodies = [{"number": number} for number in range(5)]
    assert deliver(url(receiver), bodies, 10) == webhook.Delivery(5)
    assert receiver.bodies == bodies


def test_a_refusal_ends_the_series_with_one_line(receiver: Receiver) -> None:
    receiver.status = 503
    delivery = deliver(url(receiver), [{}, {}], 10)
    assert delivery.delivered == 0
    assert delivery.problem.endswith("answered 503, expected 2xx")
    assert "SECRET" not in delivery.problem


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "nonsense", "http://[", "ftp://somewhere/"])
def test_what_cannot_be_reached_is_one_line(target: str) -> None:
    delivery = deliver(target.replace("{port}", str(free_port())), [{}], 10)
    assert delivery.delivered == 0
    assert "cannot be reached" in delivery.problem
    assert "\n" not in delivery.problem


def test_a_slow_receiver_does_not_hold_the_tick(receiver: Receiver) -> None:
    receiver.wait = 2.0
    begun = time.monotonic()
    delivery = deliver(url(receiver), [{}, {}], 0.3)
    assert time.monotonic() - begun < 1.5
    assert delivery.delivered == 0
    assert "took longer than 0.3 s" in delivery.problem


def test_the_place_of_a_url_holds_no_secret() -> None:
    assert place("https://user:word@hooks.example.com:8443/T0/SECRET?key=1") == "https://hooks.example.com:8443"


# ------------------------------------------------------------------------------------------------ the sensor


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def tick(instance: DagsterInstance, settings: Settings, cursor: str | None) -> tuple[str, str]:
    """The tick's message and its cursor."""
    context = build_sensor_context(instance=instance, cursor=cursor, sensor_name="alert_moves")
    result = alert_moves(settings)(context)
    assert isinstance(result, SensorResult)
    assert isinstance(result.skip_reason, SkipReason)
    assert result.cursor is not None
    return result.skip_reason.skip_message or "", result.cursor


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_without_a_webhook_moves_are_lines(instance: DagsterInstance, tmp_path: Path) -> None:
    missing = load_settings(home=tmp_path / "home")
    said, cursor = tick(instance, missing, None)
    assert said == "no table gold/moves yet"
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, GOLD_MOVES, [row(move(2, now=now())), row(move(600, now=now()))])
    said, cursor = tick(instance, settings, cursor)
    line, _, rest = said.partition("; ")
    assert line.startswith("binance BTC/USDT down -3.00% in ")
    assert line.endswith(" UTC: 100.5 to 97.485, 7 trades")
    assert rest == "1 moves not alerted: older than 1:00:00"
    assert tick(instance, settings, cursor)[0] == "no new move"


def test_the_first_tick_on_a_lake_does_not_flood(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, GOLD_MOVES, [row(move(ago, now=now())) for ago in range(5, 90)])
    said, cursor = tick(instance, settings, None)
    assert said == "85 moves not alerted: there at the first look"
    append_rows(settings, GOLD_MOVES, [row(move(1, now=now()))])
    assert tick(instance, settings, cursor)[0].startswith("binance BTC/USDT down")


def test_a_failing_webhook_gets_every_alert_once_it_recovers(
    instance: DagsterInstance, tmp_path: Path, receiver: Receiver
) -> None:
    settings = empty_lake(tmp_path / "home").model_copy(update={"alert_webhook_url": url(receiver)})
    cursor = tick(instance, settings, None)[1]
    older, newer = move(4, now=now()), move(3, now=now())
    append_rows(settings, GOLD_MOVES, [row(older)])
    receiver.status = 500
    said, cursor = tick(instance, settings, cursor)
    assert "answered 500, expected 2xx; 1 alerts wait for the next tick" in said
    append_rows(settings, GOLD_MOVES, [row(newer)])
    said, cursor = tick(instance, settings, cursor)
    assert said.count("binance BTC/USDT down") == 1  # the first has had its line
    assert "2 alerts wait for the next tick" in said

    receiver.status = 200
    said, cursor = tick(instance, settings, cursor)
    assert said == "no new move"
    assert [body["minute"] for body in receiver.bodies] == [older.minute.isoformat(), newer.minute.isoformat()]
    first = dict(receiver.bodies[0])
    assert dt.datetime.fromisoformat(first.pop("minute")).utcoffset() == dt.timedelta(0)
    assert "100.5 to 97.485" in first.pop("text")
    assert first == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "direction": "down",
        "from_price": "100.5",
        "to_price": "97.485",
        "change": "-0.03",
        "trades": 7,
    }

    # A move that a rebuild writes again is no second alert.
    open_table(settings, GOLD_MOVES).delete()
    rewritten = [replace(one, updated_at=now()) for one in (older, newer)]
    append_rows(settings, GOLD_MOVES, [row(one, revision=2) for one in rewritten])
    assert tick(instance, settings, cursor)[0] == "no new move"
    assert len(receiver.bodies) == 2


def test_a_broken_cursor_counts_as_none(instance: DagsterInstance, tmp_path: Path) -> None:
    said, _ = tick(instance, empty_lake(tmp_path / "home"), "{}")
    assert said == "no new move"
