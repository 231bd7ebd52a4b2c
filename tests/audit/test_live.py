"""The audit of lakes that real Kafka and real Spark have written, at rest and while they write."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.audit.report import Report
from lakehouse.audit.run import audit
from lakehouse.errors import TerminalError
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamRunner
from tests.support.messages import NEW_YEAR, send, trade, trades

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

EVENT = {"venue": "binance", "event": "connected", "ts_event": NEW_YEAR, "connection_id": "c1", "detail": ""}
REJECTED = {"venue": "kraken", "reason": "not_json", "detail": "found x", "raw": "x", "ts_ingest": NEW_YEAR}

#: Audits beside the writing streams, each of another snapshot, and seconds that they may take together.
AUDITS, SECONDS = 4, 150.0


def exact(settings: Settings) -> Report:
    report = audit(settings)
    assert report.faults == []
    return report


def totals(report: Report) -> tuple[int, ...]:
    names = ("messages", "trades", "duplicates", "quarantined", "feed_events", "unaccounted", "missing", "ahead")
    return tuple(report.total(name) for name in names)


def test_what_real_streams_wrote_is_exact(spark: SparkSession, kafka_settings: Settings) -> None:
    settings, good = kafka_settings, trades(800, seed=31)
    conflict = good[7] | {"price": "1.5"}
    gap = EVENT | {"event": "gap_opened", "symbol": "BTC/USDT", "first_id": 5_000, "last_id": 5_002}
    send(settings, settings.topic_trades, [*good, *good[:50], *good[:50], b"junk", None, trade(price="-1"), conflict])
    send(settings, settings.topic_rejected, [REJECTED])
    send(settings, settings.topic_feed_events, [EVENT, gap])
    materialize(settings)

    report = exact(settings)

    assert totals(report) == (907, 800, 100, 5, 2, 0, 0, 0)
    assert report.kafka == "answered"
    assert (report.messages_not_yet, report.rows_not_yet, report.notes) == (0, 0, [])
    assert [(one.trades, one.silver_rows, one.wrong) for one in report.bars] == [(800, 800, 0)] * 2
    assert (report.holes.total("present"), report.holes.total("repaired")) == (800, 0)
    binance = next(one for one in report.holes.symbols if (one.venue, one.symbol) == ("binance", "BTC/USDT"))
    assert (binance.ranges, binance.last_id, binance.open) == (1, 5_002, 5_002 - binance.present)
    assert {one.rule: one.open for one in report.quarantine} == {
        "bad_price": 1,
        "conflict": 1,
        "no_value": 1,
        "not_json": 1,
        "rejected:not_json": 1,
    }
    verdicts = {check.name: result for check, result in run_checks(settings)}
    assert verdicts["conserved_by_lineage"].passed
    assert verdicts["ledger_matches"].passed

    shutil.rmtree(Path(settings.checkpoints) / "silver")
    send(settings, settings.topic_trades, [*trades(100, seed=32, first_id=9_000), *good[:10]])
    materialize(settings)

    report = exact(settings)
    assert totals(report) == (1_017, 900, 110, 5, 2, 0, 0, 0)
    assert [(one.query, one.generations) for one in report.books] == [("bronze", 1), ("silver", 2), ("gold", 1)]


def test_kafka_beyond_the_snapshot_and_kafka_away(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, trades(40, seed=33))
    materialize(settings)
    send(settings, settings.topic_trades, trades(7, seed=34, first_id=500))
    assert exact(settings).messages_not_yet == 7
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    report = exact(away)
    assert (report.messages_not_yet, report.kafka.startswith("no answer")) == (None, True)


def test_every_audit_beside_running_streams_is_exact(spark: SparkSession, kafka_settings: Settings) -> None:
    """Trades, repeats, junk and events keep coming; each audit sees one moment, all of it right."""
    settings = kafka_settings.model_copy(update={"trigger": "1 second"})
    stop = threading.Event()

    def produce() -> None:
        for batch in endless():
            if stop.is_set():
                return
            send(settings, settings.topic_trades, batch)
            send(settings, settings.topic_feed_events, [EVENT])
            time.sleep(0.1)

    producer = threading.Thread(target=produce, daemon=True)
    snapshots: dict[int, int] = {}
    deadline = time.monotonic() + SECONDS
    with StreamRunner(settings) as runner:
        producer.start()
        while len(snapshots) < AUDITS and time.monotonic() < deadline:
            runner.check()
            try:
                report = audit(settings)
            except TerminalError:
                if snapshots:  # only until each stream has ended its first batch
                    raise
                time.sleep(0.5)
                continue
            assert report.faults == []
            assert report.notes == []
            snapshots[report.versions.trades] = report.silver_rows
        stop.set()
        producer.join(30)
    assert len(snapshots) >= AUDITS
    assert sorted(snapshots.values()) == [rows for _, rows in sorted(snapshots.items())]
    assert audit(settings).exact  # the streams were stopped wherever they were


def endless() -> Iterator[list[Any]]:
    """Batches of trades, with repeats of this one and of the one before, and one that is none."""
    before: list[Any] = []
    number = 0
    while True:
        batch = trades(60, seed=number, first_id=1 + 100 * number, start=NEW_YEAR + number * 24_000_000)
        yield [*batch, *batch[:5], *before[:5], b"junk"]
        before, number = batch, number + 1
