"""A host whose clock was wrong, from Kafka to Silver and back by a replay: real Kafka, real Spark."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from confluent_kafka import Producer

from lakehouse.audit.run import audit
from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import append_rows, sql
from lakehouse.quality.checks import CHECKS, run_checks
from lakehouse.quality.model import Look
from lakehouse.rebuild.silver import rebuild_silver
from lakehouse.replay.run import RuleReport, replay
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from lakehouse.streams.materialize import materialize
from lakehouse.tables import OPS_BATCHES, SILVER_QUARANTINE, SILVER_TRADES
from tests.support.host_clock import QUOTED, QUOTED_KAFKA
from tests.support.ingest_runs import events_of, recorded, running, truth_of
from tests.support.ingest_tools import until
from tests.support.messages import trade
from tests.support.rows import batch_row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka]
SECOND = 1_000_000


def send_at(settings: Settings, values: list[tuple[int, bytes]]) -> None:
    """Produce values of the trades' topic with Kafka's times, in microseconds."""
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "log_level": 0})
    for at, value in values:
        producer.produce(settings.topic_trades, key="BTC/USDT", value=value, timestamp=at // 1_000)
    assert producer.flush(30) == 0


def received(trade_id: int, true: int, slow: float, ahead: float = 0.0, **more: Any) -> tuple[int, bytes]:
    """A trade of a true time, on a host whose clock is slow, of a venue whose time is ahead, both by seconds."""
    ingest = true + round((0.12 - slow) * SECOND)
    value = trade(trade_id=trade_id, ts_event=true + round(ahead * SECOND), ts_ingest=ingest, **more)
    return ingest, json.dumps(value).encode()


def silver_ids(settings: Settings) -> set[tuple[str, int]]:
    rows = sql(settings, "SELECT venue, trade_id FROM t", t=SILVER_TRADES).to_pylist()
    assert len({(row["venue"], row["trade_id"]) for row in rows}) == len(rows)
    return {(row["venue"], row["trade_id"]) for row in rows}


def clock(settings: Settings) -> tuple[bool, str]:
    check = next(one for one in CHECKS if one.name == "clock_agrees")
    result = check.evaluate(settings, Look.LATELY)
    return result.passed, result.detail


def test_what_a_slow_clock_sent_to_quarantine_comes_back_after_the_fix(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings, begin = kafka_settings, time.time_ns() // 1_000 - 3_600 * SECOND
    slow = [
        received(100 + number, begin + number * SECOND, 61, venue=venue)
        for number in range(40)
        for venue in ("binance", "kraken")
    ]
    alone = received(7, begin + 20 * SECOND, 61, ahead=300)
    never = received(8, 4_070_908_800 * SECOND, 4_070_908_800 - begin // SECOND)  # 2099
    send_at(settings, [(QUOTED_KAFKA, QUOTED), *slow[:40], alone, never, *slow[40:]])
    materialize(settings)
    assert silver_ids(settings) == set()
    assert open_quarantine(settings) == {"event_in_the_future": 83}
    details = sql(settings, "SELECT detail FROM q WHERE trade_id = 161", q=SILVER_QUARANTINE).to_pylist()
    assert details[0]["detail"] == (
        "found ts_event 1790649901913000; expected it and ts_ingest at most 60 s after Kafka's time, found 61.0 s: a "
        "wrong time of the venue's, or the clock of the machine that ingests is slow (check clock_agrees)"
    )
    passed, detail = clock(settings)
    assert not passed
    assert "trades of binance and kraken" in detail
    assert "this machine's clock is about 61 s slow; set it by NTP" in detail

    # 1. The clock is set right, and ingest goes on.
    fixed = [received(200 + number, begin + (100 + number) * SECOND, 0) for number in range(400)]
    send_at(settings, fixed)
    materialize(settings)
    assert clock(settings)[0]
    assert len(silver_ids(settings)) == 400

    # 2. A replay with the same tolerance takes what the slow clock has cost, and nothing else.
    report = replay(settings)
    assert report.rules == {
        "event_in_the_future": RuleReport("event_in_the_future", 83, sent=81, bad=2, trades=81, alone=1)
    }
    materialize(settings)
    good = {("binance", 161), *((venue, 100 + number) for number in range(40) for venue in ("binance", "kraken"))}
    assert silver_ids(settings) == good | {("binance", 200 + number) for number in range(400)}
    assert open_quarantine(settings) == {"event_in_the_future": 2}

    # 3. A second replay changes nothing; a rebuild comes to the same Silver; the books balance.
    assert replay(settings).settled == 0
    assert rebuild_silver(settings).identical
    assert [check.name for check, result in run_checks(settings) if not result.passed] == ["quarantine_settled"]
    assert audit(settings).exact


def test_one_venue_alone_wrong_by_five_minutes_stays_in_quarantine(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings, begin = kafka_settings, time.time_ns() // 1_000 - 3_600 * SECOND
    wrong = [received(number, begin + number * SECOND, 0, ahead=300) for number in range(1, 31)]
    right = [received(number, begin + number * SECOND, 0, venue="coinbase") for number in range(1, 400)]
    send_at(settings, wrong + right)
    materialize(settings, ("bronze", "silver"))
    assert replay(settings).rules["event_in_the_future"] == RuleReport("event_in_the_future", 30, bad=30, alone=30)
    wider = settings.model_copy(update={"future_tolerance_seconds": 600})  # who wants them all the same
    assert replay(wider).settled == 30


def test_batches_stay_in_order_when_the_clock_is_set_back(spark: SparkSession, kafka_settings: Settings) -> None:
    """Whoever asks for the newest batch goes by its time."""
    settings = kafka_settings
    send_at(settings, [received(1, time.time_ns() // 1_000, 0)])
    materialize(settings)
    before = newest_batches(settings)
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10)
    newest = before["silver"]
    append_rows(  # as if this process had written it before its clock was set back by ten minutes
        settings,
        OPS_BATCHES,
        [
            batch_row(
                "silver",
                newest.batch_id,
                generation="earlier",
                committed_at=ahead,
                source_end=newest.source_end,
                versions=newest.versions,
            )
        ],
    )
    send_at(settings, [received(2, time.time_ns() // 1_000, 0)])
    materialize(settings, timeout=120)
    after = newest_batches(settings)["silver"]
    assert after.source_version > newest.source_version
    assert after.committed_at > ahead


def test_from_the_exchange_to_silver_with_a_clock_that_is_slow_by_twenty_seconds(
    spark: SparkSession, kafka_settings: Settings, tmp_path: Path
) -> None:
    """The exchange's times are shifted and not this machine's: only the difference shows."""
    settings = kafka_settings.model_copy(update={"future_tolerance_seconds": 5})
    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=150)) as simulator:
        simulator.fault("venue_clock", seconds=600, ahead=20)
        with running(settings, simulator) as service:
            until(lambda: len({event["venue"] for event in events_of(settings, "clock_skew")}) == 3, 60)
            simulator.pause()
            until(lambda: service.stats().acked >= recorded(simulator), 20)
            metrics = httpx.get(f"http://127.0.0.1:{service.stats().metrics_port}/metrics").text
        truth = {row[:3] for row in truth_of(simulator)}
    at_end = time.monotonic()
    assert 'clock_offset_seconds{venue="kraken"} -' in metrics
    said = events_of(settings, "clock_skew")
    assert all("this machine's clock is about 20 s slow; set it by NTP" in event["detail"] for event in said), said
    assert len(said) == 3
    materialize(settings, ("bronze", "silver"))
    live = sql(settings, "SELECT count(*) AS n FROM t WHERE source = 'live'", t=SILVER_TRADES)["n"][0].as_py()
    assert live == 0
    assert "about 20 s slow" in clock(settings)[1]

    # The clock is right: what was in the future is not any more.
    time.sleep(max(0.0, 22 - (time.monotonic() - at_end)))
    report = replay(settings).rules["event_in_the_future"]
    assert (report.sent, report.bad) == (report.open, 0)
    materialize(settings)
    rows = sql(settings, "SELECT venue, symbol, trade_id FROM t", t=SILVER_TRADES).to_pylist()
    assert {(row["venue"], row["symbol"], row["trade_id"]) for row in rows} == truth
    assert len(rows) == len(truth)
    assert open_quarantine(settings) == {}
    # No trade has been received since the clock is right.
    assert [check.name for check, result in run_checks(settings) if not result.passed] == ["clock_agrees"]
    assert audit(settings).exact
    assert rebuild_silver(settings).identical
