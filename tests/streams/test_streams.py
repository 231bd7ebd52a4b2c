"""Kafka → Bronze → Silver → Gold on the real broker and real Spark, compared exactly with a fold in plain Python."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.errors import LeaseHeldError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.lake.table_io import sql
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings
from lakehouse.simulator.record import TrueTrade
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamFailedError, StreamRunner, prepare
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    OPS_BATCHES,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.bar_fold import fold_bars
from tests.support.messages import NEW_YEAR, send, trade, trades
from tests.support.truth import assert_bars_equal_fold, read_bars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

EVENT = {"venue": "binance", "event": "connected", "ts_event": NEW_YEAR, "connection_id": "c1", "detail": ""}
REJECTED = {"venue": "kraken", "reason": "not_json", "detail": "found x", "raw": "x", "ts_ingest": NEW_YEAR}


def true(message: dict[str, Any]) -> TrueTrade:
    return TrueTrade(
        message["venue"],
        message["symbol"],
        message["trade_id"],
        Decimal(message["price"]),
        Decimal(message["size"]),
        message["side"],
        message["ts_event"],
    )


def silver(settings: Settings) -> list[TrueTrade]:
    rows = sql(
        settings,
        "SELECT venue, symbol, trade_id, price, size, side, ts_event FROM t ORDER BY venue, symbol, trade_id",
        t=SILVER_TRADES,
    ).to_pylist()
    return [TrueTrade(**row | {"ts_event": round(row["ts_event"].timestamp() * 1_000_000)}) for row in rows]


def count(settings: Settings, table: Table) -> int:
    return int(sql(settings, "SELECT count(*) AS n FROM t", t=table).to_pylist()[0]["n"])


def watch(runner: StreamRunner, deadline: float) -> None:
    while time.monotonic() < deadline:
        runner.check()
        time.sleep(0.2)


def batches(settings: Settings, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = sql(
        settings, f"SELECT * FROM b WHERE query = '{query}' ORDER BY committed_at", b=OPS_BATCHES
    ).to_pylist()
    return rows


def assert_tables_hold(settings: Settings, expected: list[dict[str, Any]]) -> None:
    """Silver is exactly these trades, Gold exactly their fold, every check passes; what is quarantined is told."""
    truth = sorted((true(message) for message in expected), key=lambda t: (t.venue, t.symbol, t.trade_id))
    assert silver(settings) == truth
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes, truth)
    failed = [check.name for check, result in run_checks(settings) if not result.passed]
    assert failed == (["quarantine_settled"] if count(settings, SILVER_QUARANTINE) else [])


def test_catch_up_is_exact_and_a_second_one_changes_nothing(spark: SparkSession, kafka_settings: Settings) -> None:
    settings, good = kafka_settings, trades(800, seed=3)
    repeated = [*good[:50], *good[:50]]
    bad = [b"junk", None, trade(price="-1"), trade(trade_id=900, ts_event=4_070_908_800_000_000)]
    send(settings, settings.topic_trades, [*good, *repeated, *bad])
    send(settings, settings.topic_rejected, [REJECTED])
    send(settings, settings.topic_feed_events, [EVENT])

    progress = materialize(settings)

    assert_tables_hold(settings, good)
    assert count(settings, BRONZE_MESSAGES) == 800 + 100 + 4 + 2
    assert count(settings, SILVER_QUARANTINE) == 5
    assert count(settings, SILVER_FEED_EVENTS) == 1
    row = batches(settings, "silver")[0]
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"]) == (906, 800, 100)
    assert (row["rows_quarantined"], row["rows_feed_events"]) == (5, 1)
    assert {path: table.lag for path, table in progress.items()} == dict.fromkeys(progress, 0)
    before = read_bars(settings, 1)

    again = materialize(settings)

    assert [table.rows_added for table in again.values()] == [0] * len(again)
    assert read_bars(settings, 1) == before
    assert {row["revision"] for row in sql(settings, "SELECT revision FROM b", b=GOLD_BARS_1M).to_pylist()} == {1}


def test_late_trades_change_only_their_own_bars(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    good = [trade(trade_id=number, ts_event=NEW_YEAR + number * 60_000_000) for number in range(1, 40)]
    late = [
        trade(trade_id=100, ts_event=NEW_YEAR + 90_000_000, price="1.5"),
        trade(trade_id=0, ts_event=NEW_YEAR - 86_400_000_000, price="2.5", source="repair"),
    ]
    send(settings, settings.topic_trades, good)
    materialize(settings)
    send(settings, settings.topic_trades, [*late, good[4]])
    materialize(settings)

    assert_tables_hold(settings, [*good, *late])
    rows = sql(settings, "SELECT bar_start, revision FROM b WHERE revision > 1", b=GOLD_BARS_1M).to_pylist()
    assert [(round(row["bar_start"].timestamp() * 1e6), row["revision"]) for row in rows] == [
        (NEW_YEAR + 60_000_000, 2)
    ]
    row = batches(settings, "silver")[-1]
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"]) == (3, 2, 1)


def test_lost_checkpoints_lose_nothing_and_double_nothing(spark: SparkSession, kafka_settings: Settings) -> None:
    settings, first, second = kafka_settings, trades(300, seed=4), trades(300, seed=5, first_id=10_000)
    send(settings, settings.topic_trades, [*first, b"junk"])
    send(settings, settings.topic_feed_events, [EVENT])
    materialize(settings)
    shutil.rmtree(settings.checkpoints)
    send(settings, settings.topic_trades, second)

    materialize(settings)

    assert_tables_hold(settings, [*first, *second])
    assert count(settings, BRONZE_MESSAGES) == 602
    assert (count(settings, SILVER_QUARANTINE), count(settings, SILVER_FEED_EVENTS)) == (1, 1)


@pytest.mark.parametrize("layer", ["bronze", "silver", "gold"])
def test_killed_between_table_and_checkpoint(spark: SparkSession, kafka_settings: Settings, layer: str) -> None:
    """The state that kill -9 leaves after the Delta commit and before Spark's: no file in `commits` for the batch."""
    settings, first, second = kafka_settings, trades(200, seed=6), trades(200, seed=7, first_id=5_000)
    send(settings, settings.topic_trades, [*first, first[0]])
    materialize(settings)
    commit = Path(settings.checkpoints) / layer / "commits" / "0"
    commit.unlink()
    commit.with_name(".0.crc").unlink(missing_ok=True)
    send(settings, settings.topic_trades, second)

    materialize(settings)

    assert_tables_hold(settings, [*first, *second])
    rows = batches(settings, layer)
    assert [row["batch_id"] for row in rows] == [0, 1]
    assert [row["rows_in"] for row in rows] == [200 if layer == "gold" else 201, 200]


def test_kill_before_the_ledger_row_counts_what_is_there(spark: SparkSession, kafka_settings: Settings) -> None:
    """Silver committed, ops/batches not: the batch runs again and its row tells what it really put into the table."""
    settings, good = kafka_settings, trades(100, seed=8)
    send(settings, settings.topic_trades, [*good, good[0]])
    materialize(settings, ("bronze", "silver"))
    shutil.rmtree(Path(settings.lake) / OPS_BATCHES.path)
    for name in ("0", ".0.crc"):
        (Path(settings.checkpoints) / "silver" / "commits" / name).unlink(missing_ok=True)

    materialize(settings, ("silver", "gold"))

    row = batches(settings, "silver")[0]
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"]) == (101, 100, 1)
    assert silver(settings) == sorted(map(true, good), key=lambda t: (t.venue, t.symbol, t.trade_id))


def test_live_stream_equals_catch_up_and_keeps_others_out(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings.model_copy(update={"trigger": "1 second"})
    first, second = trades(300, seed=9), trades(300, seed=10, first_id=7_000)
    with StreamRunner(settings) as runner:
        send(settings, settings.topic_trades, first)
        with pytest.raises(LeaseHeldError, match="are being written by"):
            StreamRunner(settings).start()
        progress = materialize(settings, timeout=120)  # waits for the live stream
        assert progress["gold/bars_1m"].rows == len(fold_bars(map(true, first), 1))
        send(settings, settings.topic_trades, second)
        materialize(settings, timeout=120)
        runner.check()
        assert runner.progress()["silver/trades"].rows_added == 600
    assert_tables_hold(settings, [*first, *second])


def test_a_query_that_dies_is_reported_in_one_line(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings.model_copy(update={"trigger": "1 second"})
    with StreamRunner(settings, ("bronze",)) as runner:
        send(settings, settings.topic_trades, trades(10, seed=11))
        materialize(settings, ("bronze",), timeout=60)
        shutil.rmtree(Path(settings.lake) / OPS_BATCHES.path)
        send(settings, settings.topic_trades, trades(10, seed=12))
        deadline = time.monotonic() + 60
        said = r"the bronze stream ended: TerminalError: no table ops/batches"
        with pytest.raises(StreamFailedError, match=said) as failure:
            watch(runner, deadline)
        assert "\n" not in str(failure.value)


def test_batches_name_their_kafka_offsets(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, trades(20, seed=13))
    materialize(settings, ("bronze",))
    send(settings, settings.topic_trades, trades(30, seed=14, first_id=100))
    materialize(settings, ("bronze",))
    spans = [(json.loads(row["source_start"]), json.loads(row["source_end"])) for row in batches(settings, "bronze")]
    assert spans[0][1] == spans[1][0]
    assert sum(spans[1][1][settings.topic_trades].values()) == 50
    assert set(spans[0][0][settings.topic_trades].values()) == {0}


def test_a_long_catch_up_works_on_its_layers_at_once(spark: SparkSession, kafka_settings: Settings) -> None:
    # So many batches of Bronze that Silver's query has started long before the last of them.
    settings = kafka_settings.model_copy(update={"max_offsets_per_trigger": 15})
    good = trades(1_000, seed=15)
    sent = [*good[:500], *good[300:700], b"junk", *good[500:], *good[:50]]
    send(settings, settings.topic_trades, sent)
    send(settings, settings.topic_feed_events, [EVENT, trade(trade_id=5_000)])  # no event; a trade elsewhere is none
    send(settings, settings.topic_rejected, [trade(trade_id=5_001)])

    progress = materialize(settings)

    assert_tables_hold(settings, good)
    assert count(settings, SILVER_QUARANTINE) == 3
    rows = {layer: batches(settings, layer) for layer in ("bronze", "silver", "gold")}
    assert len(rows["bronze"]) >= 40
    # Alone, it would have taken all of Bronze, which is far below its 64 MB, in one batch.
    assert len(rows["silver"]) > 1
    assert rows["silver"][0]["started_at"] < rows["bronze"][-1]["committed_at"]
    assert sum(row["rows_in"] for row in rows["silver"]) == len(sent) + 3
    assert sum(row["rows_out"] for row in rows["silver"]) == sum(row["rows_in"] for row in rows["gold"]) == 1_000
    assert {path: table.lag for path, table in progress.items()} == dict.fromkeys(progress, 0)
    assert progress["silver/trades"].rows_added == 1_000


def test_a_follower_that_breaks_is_one_clear_error_and_heals(spark: SparkSession, kafka_settings: Settings) -> None:
    """Silver cannot write what it quarantines: neither beside Bronze nor when its turn comes."""
    settings = kafka_settings.model_copy(update={"max_offsets_per_trigger": 100})
    good = trades(600, seed=16)
    prepare(settings, ("bronze",))
    today = dt.datetime.now(dt.UTC).date()
    folder = Path(table_io.table_uri(settings, SILVER_QUARANTINE))
    blocks = [folder / f"ingest_date={today + dt.timedelta(days=days)}" for days in (0, 1)]  # of midnight's two sides
    for block in blocks:
        block.write_bytes(b"a file in the place of a folder")
    send(settings, settings.topic_trades, [b"junk", *good])

    with pytest.raises(StreamFailedError, match=r"the silver stream ended: .*ingest_date=") as failure:
        materialize(settings)

    assert "\n" not in str(failure.value)
    assert count(settings, BRONZE_MESSAGES) == 601
    for layer in ("bronze", "silver", "gold"):  # nobody is left who works on them
        lease = Lease(settings, (layer,), "test")
        lease.acquire()
        lease.release()
    for block in blocks:
        block.unlink()

    materialize(settings)

    assert_tables_hold(settings, good)
    assert count(settings, SILVER_QUARANTINE) == 1
