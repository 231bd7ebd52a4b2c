"""Quarantine, a fix, a replay, and what the streams make of it: real Kafka, real Spark."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.audit.run import audit
from lakehouse.broker.topics import end_offsets
from lakehouse.exchanges.model import Rejected, encode
from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import sql
from lakehouse.quality.checks import run_checks
from lakehouse.replay import run
from lakehouse.replay.run import RuleReport, replay
from lakehouse.replay.settle import dismiss
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.tables import OPS_BATCHES, OPS_REPLAYS, SILVER_FEED_EVENTS, SILVER_TRADES, Table
from tests.support.exchange_samples import BINANCE, KRAKEN, TS_INGEST
from tests.support.messages import NEW_YEAR, send, trade

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


def rows(settings: Settings, table: Table, columns: str, where: str = "TRUE") -> list[dict[str, Any]]:
    order = f"ORDER BY {columns}" if columns != "*" else ""
    found: list[dict[str, Any]] = sql(settings, f"SELECT {columns} FROM t WHERE {where} {order}", t=table).to_pylist()
    return found


def ends(settings: Settings) -> dict[str, dict[int, int]]:
    return end_offsets(settings.bootstrap(), settings.topics)


def rejected(venue: str, raw: str) -> bytes:
    return encode(Rejected(venue, "unknown_frame", "of an older parser", raw, TS_INGEST))


def assert_all_else_passes(settings: Settings) -> None:
    """Every check but the one that counts what is open."""
    assert [check.name for check, result in run_checks(settings) if not result.passed] == ["quarantine_settled"]


def test_what_a_fix_makes_good_comes_back_and_the_rest_stays_open(
    spark: SparkSession, kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"symbols": ("BTC/USDT", "BNB/BTC")}  # or nobody could tell what BNBBTC is
    strict = kafka_settings.model_copy(update={"future_tolerance_seconds": 1, **known})
    fixed = kafka_settings.model_copy(update={"future_tolerance_seconds": 3600, **known})
    soon = (time.time_ns() // 1000) + 1_800_000_000
    early = trade(trade_id=2, ts_event=soon, price="7.123456789012345678")
    event = {"venue": "binance", "event": "connected", "ts_event": soon, "connection_id": "c", "detail": "early"}
    quarantined(strict, early, event)

    # 1. Without a fix nothing changes but for the frames, and a dry run not even those.
    before = ends(strict)
    assert replay(strict, "event_in_the_future").settled == 0
    dry = replay(fixed, dry_run=True)
    assert ends(strict) == before
    assert (dry.settled, dry.trades) == (5, 3)

    # 2. A crash between Kafka's acknowledgement and the record: sent, and still open.
    with monkeypatch.context() as patch:
        patch.setattr(run, "_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            replay(fixed)
    assert sum(map(len, ends(strict).values())) == sum(map(len, before.values()))
    assert ends(strict) != before
    assert sum(open_quarantine(strict).values()) == 9

    # 3. With it: the trades and the event go again, the heartbeat is noise, the rest stays.
    assert replay(fixed).rules == {
        "rejected:unknown_frame": RuleReport("rejected:unknown_frame", 4, sent=2, noise=1, bad=1, trades=2),
        "event_in_the_future": RuleReport("event_in_the_future", 2, sent=2, trades=1),
        "conflict": RuleReport("conflict", 1),
        "not_json": RuleReport("not_json", 1, bad=1),
        "size_not_positive": RuleReport("size_not_positive", 1, bad=1),
    }
    still_open = {"conflict": 1, "not_json": 1, "rejected:unknown_frame": 1, "size_not_positive": 1}
    assert open_quarantine(strict) == still_open
    assert rows(strict, OPS_REPLAYS, "rule, outcome, trades") == [
        {"rule": "event_in_the_future", "outcome": "sent", "trades": 0},
        {"rule": "event_in_the_future", "outcome": "sent", "trades": 1},
        {"rule": "rejected:unknown_frame", "outcome": "noise", "trades": 0},
        {"rule": "rejected:unknown_frame", "outcome": "sent", "trades": 1},
        {"rule": "rejected:unknown_frame", "outcome": "sent", "trades": 1},
    ]

    # 4. The streams take them as any others; what the crash sent twice is a duplicate.
    materialize(fixed)
    assert_taken(fixed, Decimal(early["price"]), still_open)

    # 5. A second replay finds nothing more to send.
    before = ends(fixed)
    assert replay(fixed).settled == 0
    assert ends(fixed) == before

    # 6. The rest is dismissed: no check fails any more, and the books balance as they did.
    assert_dismissed(fixed, still_open)


def quarantined(strict: Settings, early: dict[str, Any], event: dict[str, Any]) -> None:
    """Send good and bad messages, and let the streams judge them."""
    send(strict, strict.topic_trades, [trade(), trade(price="99"), early, b"junk", trade(trade_id=3, size="0")])
    send(strict, strict.topic_feed_events, [event])
    frames = [
        ("kraken", KRAKEN.frame().decode()),
        ("binance", BINANCE.payload()),
        ("kraken", '{"channel":"heartbeat"}'),
    ]
    send(strict, strict.topic_rejected, [*(rejected(*frame) for frame in frames), rejected("coinbase", "junk")])
    materialize(strict)
    assert open_quarantine(strict) == {
        "rejected:unknown_frame": 4,
        "event_in_the_future": 2,
        "conflict": 1,
        "not_json": 1,
        "size_not_positive": 1,
    }
    assert_all_else_passes(strict)


def assert_taken(fixed: Settings, early_price: Decimal, still_open: dict[str, int]) -> None:
    """Silver holds what was sent again, once."""
    silver = {(row["venue"], row["trade_id"]): row["price"] for row in rows(fixed, SILVER_TRADES, "*")}
    samples = {(sample.venue, sample.expected[1]): Decimal(sample.expected[2]) for sample in (BINANCE, KRAKEN)}
    assert silver == {("binance", 1): Decimal("43250.1"), ("binance", 2): early_price, **samples}
    assert {row["detail"] for row in rows(fixed, SILVER_FEED_EVENTS, "detail")} == {"early"}
    newest = rows(fixed, OPS_BATCHES, "rows_out, rows_duplicate, rows_feed_events", "query = 'silver' AND rows_out = 3")
    assert newest == [{"rows_out": 3, "rows_duplicate": 3, "rows_feed_events": 2}]
    assert open_quarantine(fixed) == still_open
    assert_all_else_passes(fixed)


def assert_dismissed(fixed: Settings, still_open: dict[str, int]) -> None:
    """Dismiss every open rule; then everything is settled, and nothing was sent."""
    before = ends(fixed)
    for rule, count in still_open.items():
        assert dismiss(fixed, rule, reason="looked at").messages == count
    assert ends(fixed) == before
    assert [check.name for check, result in run_checks(fixed) if not result.passed] == []
    report = audit(fixed)
    assert report.exact
    assert sum(one.messages for one in report.quarantine) == report.total("quarantined") == 9
    assert sum(one.open for one in report.quarantine) == 0


def test_a_conflict_is_replayed_by_name_only_and_a_limit_is_kept(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    others = [trade(price=str(price)) for price in range(2, 6)]
    send(settings, settings.topic_trades, [trade(ts_event=NEW_YEAR), *others])
    materialize(settings, ("bronze", "silver"))
    assert open_quarantine(settings) == {"conflict": 4}
    assert replay(settings).settled == 0

    report = replay(settings, "conflict", limit=3)

    assert report.rules["conflict"] == RuleReport("conflict", 4, sent=3, trades=3)
    assert report.rules["conflict"].unseen == 1
    assert open_quarantine(settings) == {"conflict": 1}
    materialize(settings, ("bronze", "silver"))
    assert open_quarantine(settings) == {"conflict": 4}  # the first trade stays, so they are back, as new messages
    assert len(rows(settings, SILVER_TRADES, "trade_id")) == 1
