"""Where a follower of a Delta table begins: at the first commit of an empty table, at a snapshot of any other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.checkpoints import BEGIN, Checkpoint, delta_position
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamRunner
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_TRADES, Table
from tests.streams.test_streams import assert_tables_hold, count, watch
from tests.support.messages import NEW_YEAR, send, trade

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

#: Seconds for the three layers to take a handful of trades on a machine under load.
PATIENCE = 120.0


def test_a_new_checkpoint_of_an_empty_table_begins_at_its_first_commit(spark: SparkSession, tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tmp_path / "silver"))
    checkpoint.begin_at_creation(0)
    assert checkpoint.begin_options() == {"startingVersion": "0"}
    assert delta_position(checkpoint.offset(-1)) == {"version": -1, "complete": True}
    checkpoint.begin_at_creation(0)
    assert checkpoint.begin_options() == {"startingVersion": "0"}
    checkpoint.begin_at_creation(3)  # nothing has been read, and the log may be cut
    assert checkpoint.begin_options() == {}
    checkpoint.begin_at_creation(4)
    assert checkpoint.begin_options() == {}


def test_a_checkpoint_that_has_begun_stays_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    behind = Checkpoint(str(tmp_path / "behind"))
    behind.begin_behind(5, "old")
    begun = Checkpoint(str(tmp_path / "begun"))
    begun.write("offsets/0", "v1\n{}\n-")
    for version in (0, 7):
        behind.begin_at_creation(version)
        begun.begin_at_creation(version)
    assert behind.begin_options() == {"startingVersion": "6"}
    assert not begun.exists(BEGIN)


def cut_log(settings: Settings, table: Table) -> None:
    """Do as `log_retention` does in the end: all before the newest version goes, and a log checkpoint stands for it."""
    opened = table_io.open_table(settings, table)
    assert opened.version() > 0
    opened.create_checkpoint()
    log = Path(table_io.table_uri(settings, table).removeprefix("file://")) / "_delta_log"
    for version in range(opened.version()):
        (log / f"{version:020}.json").unlink()


def materialize_elsewhere(settings: Settings) -> None:
    """Materialize in a process of its own, whose JVM remembers nothing of a log that was cut."""
    code = "import lakehouse.settings as s, lakehouse.streams.materialize as m; m.materialize(s.load_settings())"
    environment = os.environ | settings.environment()
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr


@pytest.mark.kafka
def test_a_follower_goes_on_where_the_log_no_longer_reaches_back(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    some = [trade(trade_id=number, ts_event=NEW_YEAR + number * 1_000_000) for number in range(1, 200)]
    with StreamRunner(settings) as runner:
        assert Checkpoint(f"{settings.checkpoints}/gold").begin_options() == {"startingVersion": "0"}
        send(settings, settings.topic_trades, some[:80])
        deadline = time.monotonic() + PATIENCE
        while count(settings, GOLD_BARS_1M) == 0 and time.monotonic() < deadline:
            watch(runner, time.monotonic() + 0.5)
    materialize(settings)
    assert_tables_hold(settings, some[:80])
    for table in (BRONZE_MESSAGES, SILVER_TRADES):
        cut_log(settings, table)
    send(settings, settings.topic_trades, some[80:])
    materialize_elsewhere(settings)
    assert_tables_hold(settings, some)


@pytest.mark.kafka
def test_a_follower_that_never_read_takes_the_snapshot_of_a_cut_log(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings = kafka_settings
    # A query that ends before its first batch leaves no more than this. `log_retention` waits for one that has a batch.
    Checkpoint(f"{settings.checkpoints}/silver").begin_at_creation(0)
    some = [trade(trade_id=number, ts_event=NEW_YEAR + number * 1_000_000) for number in range(1, 40)]
    for part in (some[:20], some[20:]):
        send(settings, settings.topic_trades, part)
        materialize(settings, ("bronze",))
    cut_log(settings, BRONZE_MESSAGES)
    materialize_elsewhere(settings)
    assert_tables_hold(settings, some)
