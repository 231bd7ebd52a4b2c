"""An ingest in a test, as a service or as a process, and what it must have brought: the simulator's own record."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from lakehouse.broker.topics import end_offsets
from lakehouse.ingest.service import IngestService
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_tools import messages, until

Truth = Counter[tuple[str, str, int, str, str, str, int]]


@contextmanager
def running(settings: Settings, simulator: SimulatorServer, **choices: object) -> Iterator[IngestService]:
    """A started service; at the end Kafka must have acknowledged everything."""
    service = IngestService(settings.model_copy(update={"simulator_url": simulator.url}), **choices)  # type: ignore[arg-type]
    service.start()
    try:
        yield service
    finally:
        assert service.stop(10) == 0


def keys_of(simulator: SimulatorServer) -> list[tuple[str, str]]:
    """(venue, symbol) of everything that has traded."""
    return simulator.record.keys()


def truth_of(simulator: SimulatorServer) -> Truth:
    """Every trade that the exchange has made, once."""
    return Counter(
        (true.venue, true.symbol, true.trade_id, f"{true.price:f}", f"{true.size:f}", true.side, true.ts_event)
        for key in keys_of(simulator)
        for true in simulator.record.iter(*key)
    )


def kafka_of(settings: Settings) -> Truth:
    """Every trade in the topic, as often as it is there."""
    found: Truth = Counter()
    for key, value in messages(settings.bootstrap(), settings.topic_trades):
        assert key == value["symbol"]
        price, size = (f"{Decimal(value[name]):f}" for name in ("price", "size"))
        found[value["venue"], key, value["trade_id"], price, size, value["side"], value["ts_event"]] += 1
    return found


def same(settings: Settings, simulator: SimulatorServer) -> None:
    """The topic holds every true trade at least once, and nothing else.

    Some venues' REST writes more zeros than the socket, and cuts or rounds a time: by up to a millisecond.
    """
    truth = {row[:3]: row[3:] for row in truth_of(simulator)}
    found = kafka_of(settings)
    assert {row[:3] for row in found} == truth.keys()
    for row in found:
        price, size, side, ts_event = truth[row[:3]]
        assert (Decimal(row[3]), Decimal(row[4]), row[5]) == (Decimal(price), Decimal(size), side), row
        assert abs(row[6] - ts_event) < 1000, (row, ts_event)


def events_of(settings: Settings, *kinds: str) -> list[dict[str, Any]]:
    """The feed events, of some kinds or all."""
    values = (value for _, value in messages(settings.bootstrap(), settings.topic_feed_events))
    return [value for value in values if not kinds or value["event"] in kinds]


def ids_of(events: list[dict[str, Any]]) -> set[tuple[str, str, int]]:
    """(venue, symbol, id) of the ranges that events name."""
    return {
        (event["venue"], event["symbol"], trade_id)
        for event in events
        for trade_id in range(event["first_id"], event["last_id"] + 1)
    }


def recorded(simulator: SimulatorServer) -> int:
    """How many trades the exchange has made."""
    return sum(simulator.record.count(*key) for key in keys_of(simulator))


def in_kafka(settings: Settings) -> int:
    """How many messages the topic of trades holds."""
    return sum(end_offsets(settings.bootstrap(), [settings.topic_trades])[settings.topic_trades].values())


def until_whole(settings: Settings, simulator: SimulatorServer, service: IngestService, seconds: float = 30.0) -> None:
    """Wait until a paused exchange's every trade is in Kafka; fail with what is missing."""
    keys = {row[:3] for row in truth_of(simulator)}

    def ids() -> set[tuple[str, str, int]]:
        return {row[:3] for row in kafka_of(settings)} if in_kafka(settings) >= len(keys) else set()

    def is_whole() -> bool:
        service.check()
        stats = service.stats()
        return not stats.unacknowledged and not any(one.open_ids for one in stats.venues) and ids() == keys

    try:
        until(is_whole, seconds)
    except AssertionError:
        missing = keys - {row[:3] for row in kafka_of(settings)}
        raise AssertionError(f"{len(missing)} trades are missing: {sorted(missing)[:20]}; {service.stats()}") from None


@contextmanager
def ingest(settings: Settings, simulator_url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`lakehouse ingest` as a process; killed at the end, if it has not ended."""
    command = [sys.executable, "-m", "lakehouse", "ingest", "--bootstrap", settings.bootstrap(), "--url", simulator_url]
    environment = {**os.environ, **settings.environment()}
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
