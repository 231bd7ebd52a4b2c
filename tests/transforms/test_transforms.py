from __future__ import annotations

import datetime as dt
import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.settings import Settings, load_settings
from lakehouse.simulator.record import TrueTrade
from lakehouse.transforms import parse, spark_rules
from lakehouse.transforms.bars import BAR_KEY, bars_from_trades
from tests.support.bar_fold import fold_bars
from tests.support.messages import NEW_YEAR, trade, trades

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

MESSAGE = (
    "topic string, partition int, offset bigint, ts_kafka timestamp, ts_type int, key binary, "
    "value_raw binary, ingest_date date"
)


def bronze(spark: SparkSession, values: list[Any], topic: str | None = None) -> DataFrame:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=1)
    rows = [
        (
            topic or "crypto.trades",
            0,
            offset,
            at,
            0,
            b"key",
            value if value is None or isinstance(value, bytes) else json.dumps(value).encode(),
            at.date(),
        )
        for offset, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, MESSAGE)


@pytest.fixture
def settings() -> Settings:
    return load_settings()


BAD: list[tuple[Any, str]] = [
    (None, "no_value"),
    (b"junk", "not_json"),
    (b"\xff\xfe", "not_json"),
    (b"[1]", "not_json"),
    (b"{}", "not_json"),
    (b"12", "not_json"),
    (trade(price=None), "missing_field"),
    (trade(side=None), "missing_field"),
    (trade(venue={"a": 1}), "bad_venue"),
    (trade(native_symbol="a\x1fb"), "bad_native_symbol"),
    (trade(symbol="BTCUSDT"), "bad_symbol"),
    (trade(trade_id="x"), "bad_trade_id"),
    (trade(trade_id=1.5), "bad_trade_id"),
    (trade(trade_id=-1), "bad_trade_id"),
    (trade(trade_id=10**18), "bad_trade_id"),
    (trade(price="1e5"), "bad_price"),
    (trade(price="-1"), "bad_price"),
    (trade(price="1." + "0" * 18 + "1"), "bad_price"),
    (trade(price="1" * 21), "bad_price"),
    (trade(price="0" * 20 + "1"), "bad_price"),
    (trade(size="0" * 20 + "1"), "bad_size"),
    (trade(size="NaN"), "bad_size"),
    (trade(symbol="BTC/USDT\n"), "bad_symbol"),
    (trade(symbol="btc/usdt"), "bad_symbol"),
    (trade(symbol="BTC\u200b/USDT"), "bad_symbol"),
    (trade(source="live\n"), "bad_source"),
    (trade(trade_id="5\x1f1"), "bad_trade_id"),
    (trade(trade_id="5\x1f1", native_symbol=""), "bad_native_symbol"),
    (trade(price="0.000"), "price_not_positive"),
    (trade(size="0"), "size_not_positive"),
    (trade(price="1000000000000"), "price_out_of_range"),
    (trade(size="1000000000000000"), "size_out_of_range"),
    (trade(price="999999999999", size="2000"), "notional_out_of_range"),
    (trade(side="BUY"), "bad_side"),
    (trade(source="guess"), "bad_source"),
    (trade(ts_event="soon"), "bad_event_time"),
    (trade(ts_event=1_600_000_000), "bad_event_time"),  # seconds where microseconds were asked for
    (trade(ts_ingest=0), "bad_ingest_time"),
    (trade(ts_event=4_070_908_800_000_000), "event_in_the_future"),  # 2099
    (trade(ts_ingest=4_070_908_800_000_000), "event_in_the_future"),
]


def test_each_rule_names_what_it_refuses(spark: SparkSession, settings: Settings) -> None:
    parsed = parse.parse_messages(bronze(spark, [value for value, _ in BAD] + [trade()]), settings)
    rows = parse.quarantine(parsed, settings).orderBy("kafka_offset").collect()
    assert [row["rule"] for row in rows] == [rule for _, rule in BAD]
    assert all(row["detail"] for row in rows)
    assert [row["value_raw"] for row in rows[:2]] == [None, b"junk"]
    assert parse.trades(parsed).count() == 1


def test_the_one_expression_and_the_rules_agree(spark: SparkSession, settings: Settings) -> None:
    """Fields of good and bad messages mixed at random: a row is a trade exactly if no rule has anything to say."""
    rng = random.Random(12)
    messages = [value for value, _ in BAD if isinstance(value, dict)] + [trade()] * 80
    picks = [{name: rng.choice(messages).get(name) for name in trade()} for _ in range(600)]
    mixed = [{name: value for name, value in pick.items() if value is not None} for pick in picks]
    parsed = parse.parse_messages(bronze(spark, mixed), settings)
    verdict = spark_rules.first_failure(spark_rules.trade_rules(settings))
    rows = parsed.withColumn("verdict", verdict).select("offset", "kind", "verdict").collect()
    for row in rows:
        assert (row["kind"] == "trade") == (row["verdict"] is None), (mixed[row["offset"]], row["verdict"])
    assert 20 < sum(row["kind"] == "trade" for row in rows) < 580


def test_largest_and_smallest_decimals_survive(spark: SparkSession, settings: Settings) -> None:
    price, size = "00000000123456789012.123456789012345678", "0.000000000000000001"
    row = parse.trades(parse.parse_messages(bronze(spark, [trade(price=price, size=size)]), settings)).collect()[0]
    assert (row["price"], row["size"]) == (Decimal(price), Decimal(size))
    assert row["ts_event"].timestamp() == NEW_YEAR / 1_000_000


def test_rejected_and_feed_events_find_their_tables(spark: SparkSession, settings: Settings) -> None:
    rejected = {"venue": "kraken", "reason": "no_trade_id", "detail": "v1", "raw": "[]", "ts_ingest": NEW_YEAR}
    parsed = parse.parse_messages(bronze(spark, [rejected, b"junk"], settings.topic_rejected), settings)
    assert [row["rule"] for row in parse.quarantine(parsed, settings).collect()] == [
        "rejected:no_trade_id",
        "rejected:unknown",
    ]
    event = {"venue": "kraken", "event": "gap_opened", "ts_event": NEW_YEAR, "connection_id": "c", "symbol": "BTC/USD"}
    events = [event | {"first_id": 5, "last_id": 7}, event | {"first_id": "x"}]
    parsed = parse.parse_messages(bronze(spark, events, settings.topic_feed_events), settings)
    rows = parse.feed_events(parsed).collect()
    assert [(row["first_id"], row["last_id"], row["detail"]) for row in rows] == [(5, 7, "")]
    assert [row["rule"] for row in parse.quarantine(parsed, settings).collect()] == ["bad_gap"]


def test_of_a_repeated_key_the_first_offset_stays(spark: SparkSession, settings: Settings) -> None:
    values = [trade(trade_id=7, price="2"), trade(trade_id=7, price="1"), trade(trade_id=8, price="3")]
    kept = parse.first_of_key(parse.trades(parse.parse_messages(bronze(spark, values), settings)))
    assert sorted((row["trade_id"], row["price"]) for row in kept.collect()) == [(7, Decimal(2)), (8, Decimal(3))]


@pytest.mark.parametrize("seed", [1, 2])
def test_bars_equal_the_fold(spark: SparkSession, settings: Settings, seed: int) -> None:
    made = trades(1_500, seed)
    made += [
        trade(venue="kraken", trade_id=n, price=f"0.{n:018d}", size="999999999.999999999999999999") for n in (1, 2)
    ]
    parsed = parse.trades(parse.parse_messages(bronze(spark, made), settings)).toArrow()
    truth = [
        TrueTrade(
            t["venue"], t["symbol"], t["trade_id"], Decimal(t["price"]), Decimal(t["size"]), t["side"], t["ts_event"]
        )
        for t in made
    ]
    bars = bars_from_trades(parsed)
    expected = [
        bar | {"bar_start": dt.datetime.fromtimestamp(bar["bar_start"] / 1_000_000, dt.UTC)}
        for bar in fold_bars(truth, 1)
    ]
    assert len(expected) > 4
    assert bars.select(list(BAR_KEY)).to_pylist() == [{name: bar[name] for name in BAR_KEY} for bar in expected]
    assert bars.to_pylist() == [{name: bar[name] for name in bars.column_names} for bar in expected]
