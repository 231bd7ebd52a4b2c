"""One feed from a scripted venue on localhost into the real broker: what it does when things go wrong."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.ingest.backfill_queue import BackfillOrder
from lakehouse.ingest.feed import Feed
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.settings import Settings
from tests.support.ingest_tools import Script, messages, until, venue_server

pytestmark = pytest.mark.kafka


def kraken_trade(trade_id: int) -> str:
    return (
        '{"symbol":"BTC/USDT","side":"buy","price":63000.10,"qty":0.010,"ord_type":"limit",'
        f'"trade_id":{trade_id},"timestamp":"2026-01-02T03:04:05.000006Z"}}'
    )


def kraken_frame(*trade_ids: int, kind: str = "update") -> str:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(map(kraken_trade, trade_ids))}]}}'


def kraken_ack(server: ServerConnection) -> None:
    request = json.loads(server.recv())
    for symbol in request["params"]["symbol"]:
        result = {"channel": "trade", "symbol": symbol, "snapshot": True}
        server.send(json.dumps({"method": "subscribe", "result": result, "success": True, "req_id": 1}))


@contextmanager
def running(settings: Settings, venue: str, script: Script, symbols: Sequence[str]) -> Iterator[Feed]:
    sink, counters = KafkaSink(settings.bootstrap(), *settings.topics, partitions=settings.topic_partitions), Counters()
    with venue_server(script) as url:
        orders: list[BackfillOrder] = []
        feed = Feed(find_venue(venue), symbols, url, sink, counters, orders.append, random.Random(1))
        feed.start()
        try:
            yield feed
        finally:
            feed.stop()
            assert feed.join(5)
            assert sink.flush(time.monotonic() + 10) == 0
    assert feed.failure is None
    # Each gap that is told is also ordered.
    told = [event for event in events_of(settings) if event["event"] == "gap_opened"]
    assert [(one.symbol, one.first_id, one.last_id) for one in orders] == [
        (event["symbol"], event["first_id"], event["last_id"]) for event in told
    ]


def events_of(settings: Settings) -> list[dict[str, Any]]:
    return [value for _, value in messages(settings.bootstrap(), settings.topic_feed_events)]


def trades_of(settings: Settings) -> list[int]:
    return [value["trade_id"] for _, value in messages(settings.bootstrap(), settings.topic_trades)]


def after(actions: Sequence[Callable[[ServerConnection], None]]) -> tuple[Script, threading.Event]:
    """A script that does one action a connection, then stays silent; the event tells that the last one is done."""
    left, done = list(actions), threading.Event()

    def script(server: ServerConnection) -> None:
        action = left.pop(0) if left else None
        if action is not None:
            action(server)
        if not left:
            done.set()
            server.recv()  # until the client closes

    return script, done


def test_a_reconnect_shows_what_was_missed_and_a_snapshot_fills_it(kafka_settings: Settings) -> None:
    def first(server: ServerConnection) -> None:
        kraken_ack(server)
        server.send(kraken_frame(10, 11))
        server.close(1001, "maintenance")

    def second(server: ServerConnection) -> None:
        kraken_ack(server)
        server.send(kraken_frame(14, 13, kind="snapshot"))  # newest first; 12 is missing
        server.send(kraken_frame(14))  # again
        server.send(kraken_frame(12))  # late
        server.send(kraken_frame(20))
        server.send("{this is not JSON")

    script, done = after([first, second])
    with running(kafka_settings, "kraken", script, ["BTC/USDT"]) as feed:
        assert done.wait(10)
        flow = feed._counters.symbol("kraken", "BTC/USDT")
        until(lambda: flow.produced == 7)
        until(lambda: feed._venue_counters.rejected.total() == 1)
    assert trades_of(kafka_settings) == [10, 11, 13, 14, 14, 12, 20]
    events = events_of(kafka_settings)
    assert [(event["event"], event["first_id"], event["last_id"]) for event in events] == [
        ("connected", None, None),
        ("subscribed", None, None),
        ("disconnected", None, None),
        ("connected", None, None),
        ("subscribed", None, None),
        ("gap_opened", 12, 12),
        ("gap_opened", 15, 19),
        ("disconnected", None, None),
    ]
    assert events[2]["detail"] == "closed by the venue: code 1001 maintenance"
    assert events[-1]["detail"] == "stopped"
    assert len({event["connection_id"] for event in events}) == 2
    assert (flow.duplicates, flow.late, flow.gaps, flow.missing) == (1, 1, 2, 6)
    ((key, rejected),) = messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected)
    assert (key, rejected["reason"], rejected["raw"]) == ("kraken", "not_json", "{this is not JSON")


def test_a_silent_socket_is_closed_and_opened_again(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.exchanges.kraken.stream.Kraken.silence_seconds", 0.6)

    def silent(server: ServerConnection) -> None:
        kraken_ack(server)
        server.recv()

    def lively(server: ServerConnection) -> None:
        kraken_ack(server)
        server.send(kraken_frame(1))

    script, done = after([lambda server: _ignoring_close(silent, server), lively])
    with running(kafka_settings, "kraken", script, ["BTC/USDT"]) as feed:
        assert done.wait(10)
        until(lambda: feed._counters.symbol("kraken", "BTC/USDT").produced == 1)
    kinds = [event["event"] for event in events_of(kafka_settings)]
    assert kinds[:5] == ["connected", "subscribed", "stale", "disconnected", "connected"]


def _ignoring_close(script: Script, server: ServerConnection) -> None:
    with pytest.raises(Exception, match="close"):
        script(server)


def test_one_refused_symbol_does_not_stop_the_others(kafka_settings: Settings) -> None:
    """Coinbase refuses a whole message for one bad product."""

    def script(server: ServerConnection) -> None:
        assert json.loads(server.recv())["product_ids"] == ["BTC-USDT", "FOO-USDT"]
        server.send(
            json.dumps({"type": "error", "message": "Failed to subscribe", "reason": "FOO-USDT is not a valid product"})
        )
        products = json.loads(server.recv())["product_ids"]
        server.send(json.dumps({"type": "subscriptions", "channels": [{"name": "matches", "product_ids": products}]}))
        for last in (0, 5, 5):
            heartbeat = {"type": "heartbeat", "sequence": 1, "last_trade_id": last, "product_id": "BTC-USDT"}
            server.send(json.dumps(heartbeat | {"time": "2026-01-02T03:04:05.000006Z"}))
        for trade_id, last in ((5, 5), (6, 7), (7, 9), (8, 9)):
            match = {"type": "match", "trade_id": trade_id, "side": "sell", "size": "1", "price": "2.50"}
            match |= {"product_id": "BTC-USDT", "time": "2026-01-02T03:04:05.000006Z"}
            server.send(json.dumps(match))
            server.send(json.dumps(heartbeat | {"last_trade_id": last, "time": "2026-01-02T03:04:05.000006Z"}))
        server.recv()

    with running(kafka_settings, "coinbase", script, ["BTC/USDT", "FOO/USDT"]) as feed:
        until(lambda: feed._counters.symbol("coinbase", "BTC/USDT").gaps == 1)
        assert feed.settled
        assert feed.wanted == ("BTC/USDT",)
        assert feed.subscribed == {"BTC/USDT"}
        assert "FOO-USDT is not a valid product" in feed.refused["FOO/USDT"]
    events = {(event["event"], event["symbol"]): event for event in events_of(kafka_settings)}
    assert set(events) == {
        ("connected", None),
        ("subscription_refused", "FOO/USDT"),
        ("subscribed", "BTC/USDT"),
        ("gap_opened", "BTC/USDT"),
        ("disconnected", None),
    }
    # Two heartbeats named 9 while 8 was the last one received.
    gap = events["gap_opened", "BTC/USDT"]
    assert (gap["first_id"], gap["last_id"]) == (9, 9)
    assert trades_of(kafka_settings) == [5, 6, 7, 8]


def test_a_feed_whose_every_symbol_is_refused_ends_by_itself(kafka_settings: Settings) -> None:
    def script(server: ServerConnection) -> None:
        server.recv()
        error = {"error": "Currency pair not supported FOO/USDT", "method": "subscribe", "success": False}
        server.send(json.dumps(error | {"symbol": "FOO/USDT"}))
        server.recv()

    with running(kafka_settings, "kraken", script, ["FOO/USDT"]) as feed:
        until(lambda: not feed.alive)
        assert feed.wanted == ()
    assert [event["event"] for event in events_of(kafka_settings)] == [
        "connected",
        "subscription_refused",
        "disconnected",
    ]


def test_an_error_of_the_venue_and_an_announced_shutdown_that_is_met_by_a_second_socket(
    kafka_settings: Settings,
) -> None:
    def binance_trade(trade_id: int) -> str:
        trade = {"e": "trade", "E": 1672515782136, "s": "BTCUSDT", "t": trade_id, "p": "1.0", "q": "2.0"}
        trade |= {"T": 1672515782136, "m": True, "M": True}
        return json.dumps({"stream": "btcusdt@trade", "data": trade})

    closed = threading.Event()

    def first(server: ServerConnection) -> None:
        server.recv()
        server.send('{"result":null,"id":1}')
        server.send('{"code":2,"msg":"Invalid request: too fast"}')
        server.send(binance_trade(1))
        server.send('{"e":"serverShutdown","E":1672515782136}')
        server.send(binance_trade(2))  # it goes on delivering
        with pytest.raises(ConnectionClosed):
            server.recv()
        closed.set()

    def second(server: ServerConnection) -> None:
        server.recv()
        server.send('{"result":null,"id":1}')
        assert not closed.wait(0.5)  # nothing has come here yet, so the first one stays
        server.send(binance_trade(4))  # 3 is on its way on the old socket, as far as anybody knows
        server.send(binance_trade(3))
        assert closed.wait(4)
        server.send(binance_trade(5))
        server.recv()

    script, _ = after([first, second])
    with running(kafka_settings, "binance", script, ["BTC/USDT"]) as feed:
        until(lambda: feed._counters.symbol("binance", "BTC/USDT").produced == 5)
        until(lambda: feed._venue_counters.rotations == 1)  # counted once the old socket is gone
        assert feed._venue_counters.reconnects == 0
        assert feed.connected
    events = events_of(kafka_settings)
    assert [event["event"] for event in events] == [
        "connected",
        "subscribed",
        "venue_error",
        "connected",
        "subscribed",
        "disconnected",
        "disconnected",
    ]
    assert "too fast" in events[2]["detail"]
    assert "announced" in events[5]["detail"]
    assert events[5]["connection_id"] == events[0]["connection_id"]
    assert trades_of(kafka_settings) == [1, 2, 4, 3, 5]
