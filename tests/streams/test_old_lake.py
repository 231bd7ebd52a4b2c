"""A lake, its checkpoints and Kafka data of before, and the code of now: `tests/golden/README.md` says of which."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.partitions import partition_of
from lakehouse.broker.topics import end_offsets
from lakehouse.rebuild.silver import rebuild_silver
from lakehouse.settings import Settings
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.streams.materialize import materialize
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    LAYERS,
    OPS_BATCHES,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from tests.conftest import SettingsFactory
from tests.support.bar_fold import BAR_VALUES
from tests.support.message_fold import assert_lake_is, batches, by_key, fold, lax_fields, rules
from tests.support.record_lake import LAX, RECORDED, STOPS, TRADES, Market, Message, Sent, send
from tests.support.recorded_lake import unpack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

ARCHIVE = Path(__file__).parents[1] / "golden" / "old_lake.tar.xz"
#: Tables whose rows are never changed once they are written.
KEPT = (BRONZE_MESSAGES, SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, OPS_BATCHES)
#: Silver of the recording had read the stages before this one, by a reader that took lax JSON.
STRICT_FROM = 4


@pytest.fixture(params=STOPS)
def recorded(
    request: pytest.FixtureRequest, settings_factory: SettingsFactory
) -> Iterator[tuple[Settings, list[Sent]]]:
    """Settings of a home with the recording, its Kafka running, and the messages in it."""
    settings = settings_factory()
    messages = unpack(ARCHIVE, settings.home, request.param)
    with EmbeddedBroker(settings):
        yield settings, messages


def at_market(settings: Settings, message: Message) -> int:
    """The partition to which the code of now sends a message; -1 leaves it to the key."""
    partitions = len(end_offsets(settings.bootstrap(), [TRADES])[TRADES])
    if message.topic != TRADES or message.expected not in ("trade", "conflict"):
        return -1
    fields = lax_fields(message.value or b"")
    return partition_of(fields["venue"], fields["symbol"], partitions)


def test_an_old_lake_goes_on(spark: SparkSession, recorded: tuple[Settings, list[Sent]]) -> None:
    settings, messages = recorded
    market = Market()
    for number in range(1, RECORDED + 1):
        there = [one.message for one in messages if one.message.stage == number]
        assert market.next_stage() == there, "the recording is of other messages: record it again"
    before = {table: by_key(settings, table) for table in (*KEPT, GOLD_BARS_1M)}
    generations = {(layer, Checkpoint(f"{settings.checkpoints}/{layer}").generation()) for layer in LAYERS}
    assert set(known := batches(settings)) == generations
    assert len(before[BRONZE_MESSAGES]) > len(before[SILVER_TRADES]) > 0

    # 1. Up to the end of what is in Kafka. The streams go on where they stood; what was written stays.
    materialize(settings)
    truth = assert_lake_is(settings, messages, STRICT_FROM)
    assert min(rules(truth)[name] for name in ("conflict", "not_json", "event_in_the_future", "bad_gap")) > 1
    for table in KEPT:
        now = by_key(settings, table)
        assert {key: now[key] for key in before[table]} == before[table], table.path
    for key, bar in by_key(settings, GOLD_BARS_1M).items():
        old = before[GOLD_BARS_1M].get(key)
        if old and all(old[name] == bar[name] for name in (*BAR_VALUES, "is_final")):
            assert bar == old
    assert set(batches(settings)) == generations
    assert all(len(rows) > len(known[key]) for key, rows in batches(settings).items())

    # 2. New messages, in the partitions of their markets, of the old number of partitions.
    old_places = {one.partition for one in messages if one.message.topic == TRADES}
    messages += send(settings, market.next_stage(), lambda one: at_market(settings, one))
    assert {one.partition for one in messages if one.message.topic == TRADES} > old_places
    materialize(settings)
    assert_lake_is(settings, messages, STRICT_FROM)

    # 3. And with more partitions.
    command = [sys.executable, "-m", "lakehouse", "topics", "--partitions", "6", "--home", str(settings.home)]
    assert subprocess.run(command, check=True, timeout=60, capture_output=True).returncode == 0
    messages += send(settings, market.next_stage(), lambda one: at_market(settings, one))
    assert len({one.partition for one in messages if one.message.topic == TRADES}) == 6
    materialize(settings)
    assert_lake_is(settings, messages, STRICT_FROM)
    assert set(batches(settings)) == generations

    # 4. A rebuild: only what a lax reader took for JSON has changed, as CHANGELOG.md says.
    lax, strict = fold(messages, STRICT_FROM), fold(messages, 0)
    old_rows = {table: by_key(settings, table) for table in (SILVER_TRADES, SILVER_QUARANTINE)}
    report = rebuild_silver(settings)
    assert [(one.table_path, one.after - one.before) for one in report.tables if one.changed] == [
        ("silver/quarantine", LAX),
        ("silver/trades", 1 - LAX),  # a good copy of one of them has come later
    ]
    assert len(strict.trades) - len(lax.trades) == 1 - LAX
    assert_lake_is(settings, messages, 0)
    quarantine = by_key(settings, SILVER_QUARANTINE)
    assert {key: quarantine[key] for key in old_rows[SILVER_QUARANTINE]} == old_rows[SILVER_QUARANTINE]
    assert {quarantine[key]["rule"] for key in quarantine.keys() - old_rows[SILVER_QUARANTINE].keys()} == {"not_json"}
    assert rebuild_silver(settings).identical

    # 5. The streams go on after it.
    messages += send(settings, market.next_stage(), lambda one: at_market(settings, one))
    materialize(settings)
    assert_lake_is(settings, messages, 0)
