"""A lake and a topic of before, whose trades lay in the partition of their key: ingest and streams go on with both."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lakehouse.audit.run import audit
from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.partitions import partition_of
from lakehouse.broker.topics import add_partitions, ensure_topics
from lakehouse.ingest.renewable_producer import BY_KEY
from lakehouse.quality.checks import run_checks
from lakehouse.rebuild.silver import rebuild_silver
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from lakehouse.streams.materialize import materialize
from tests.conftest import SettingsFactory
from tests.support.ingest_runs import in_kafka, keys_of, recorded, running, same, until_whole
from tests.support.ingest_tools import messages, partitions_of, until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


def exact(settings: Settings, trades: int, duplicates: int) -> None:
    report = audit(settings)
    assert report.faults == []
    assert [report.total(name) for name in ("trades", "duplicates", "unaccounted", "missing")] == [
        *(trades, duplicates, 0, 0)
    ]
    assert report.holes.total("open") == 0


@pytest.mark.parametrize("count", [4, 6])
def test_markets_that_move_lose_and_repeat_nothing(
    spark: SparkSession,
    broker: EmbeddedBroker,
    topics: dict[str, str],
    settings_factory: SettingsFactory,
    simulator: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """From the key's partition of four to the market's, of four or six; ingest is restarted, and once more after it."""
    settings = settings_factory(bootstrap_servers=broker.bootstrap, topic_partitions=4, **topics)
    ensure_topics(settings)
    with monkeypatch.context() as before:
        before.setattr("lakehouse.ingest.producer.partition_of", lambda *_: BY_KEY)
        with running(settings, simulator) as service:
            until(lambda: service.stats().acked > 1000, 20)
            simulator.pause()
            until_whole(settings, simulator, service)
    markets = keys_of(simulator)
    old = {(venue, symbol): zlib.crc32(symbol.encode()) % 4 for venue, symbol in markets}
    assert partitions_of(settings.bootstrap(), settings.topic_trades) == {key: {at} for key, at in old.items()}
    materialize(settings)
    stored = in_kafka(settings)
    exact(settings, stored, 0)

    simulator.resume()
    until(lambda: recorded(simulator) > stored + 500, 20)  # trades that nobody hears
    add_partitions(settings, count)
    with running(settings, simulator) as service:
        until(lambda: in_kafka(settings) > stored + 1500, 40)
        simulator.pause()
        until_whole(settings, simulator, service)  # what is still being repaired at a stop is fetched again
    simulator.resume()
    with running(settings, simulator) as service:
        until(lambda: service.stats().acked > 500, 20)
        simulator.pause()
        until_whole(settings, simulator, service)
    new = {key: partition_of(*key, count) for key in markets}
    found = partitions_of(settings.bootstrap(), settings.topic_trades)
    assert found == {key: {old[key], new[key]} for key in markets}
    assert sum(old[key] != new[key] for key in markets) >= 5
    same(settings, simulator)
    sent = Counter(
        (value["venue"], value["symbol"], value["trade_id"])
        for _, value in messages(settings.bootstrap(), settings.topic_trades)
        if value["source"] != "snapshot"  # Kraken's last trades at each subscription, in hand or not
    )
    assert {key: times for key, times in sent.items() if times > 1} == {}

    materialize(settings)
    exact(settings, recorded(simulator), in_kafka(settings) - recorded(simulator))
    assert [check.name for check, result in run_checks(settings) if result.passed is False] == []
    assert rebuild_silver(settings).identical
