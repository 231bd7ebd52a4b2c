"""The judge of messages: literal verdicts, rows, and an independent judge on random messages."""

from __future__ import annotations

import time
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES
from lakehouse.transforms.message_judge import judge, kinds, quarantine_rows
from tests.support import wire_messages
from tests.support.judged_rows import SETTINGS, in_bronze, judged, verdicts
from tests.support.messages import NEW_YEAR, trade
from tests.support.rows import utc
from tests.support.wire_messages import EARLIEST_US, KAFKA_US, LATEST_US, message

TOPICS = (SETTINGS.topic_trades, SETTINGS.topic_feed_events, SETTINGS.topic_rejected)

FIELDS = "venue, symbol, native_symbol, trade_id, price, size, side, ts_event, ts_ingest, source"
NO_JSON = "the value is not a JSON object with the expected fields"
DECIMAL = "a plain decimal with at most 20 digits before and 18 after the point"
MICROS = "microseconds since the epoch"
SYMBOL = "BASE/QUOTE in the venue's own case"
CLOCK = "a wrong time of the venue's, or the clock of the machine that ingests is slow (check clock_agrees)"
EVENT = {"venue": "kraken", "event": "gap_opened", "ts_event": NEW_YEAR, "connection_id": "c", "symbol": "BTC/USD"}

BAD_TRADES: list[tuple[Any, str, str]] = [
    (None, "no_value", "the message has no value; expected a JSON object"),
    (b"", "not_json", NO_JSON),
    (b"junk", "not_json", NO_JSON),
    (b"\xff\xfe", "not_json", NO_JSON),
    ([1], "not_json", NO_JSON),
    ([trade()], "not_json", NO_JSON),
    ({}, "not_json", NO_JSON),
    ({"raw": "{}", "venue": None}, "not_json", NO_JSON),
    (12, "not_json", NO_JSON),
    (trade(price=None), "missing_field", f"found no price; expected {FIELDS}"),
    ({"venue": "kraken", "side": None}, "missing_field", f"found no {FIELDS[7:]}; expected {FIELDS}"),
    (trade(venue={"a": 1}), "bad_venue", 'found venue {"a": 1}; expected a lower-case name'),
    (trade(venue="K" * 101), "bad_venue", f"found venue {'K' * 100}; expected a lower-case name"),
    (trade(venue="é" * 101), "bad_venue", f"found venue {'é' * 100}; expected a lower-case name"),
    (trade(symbol="BTCUSDT"), "bad_symbol", f"found symbol BTCUSDT; expected {SYMBOL}"),
    (trade(symbol="BTC/USDT\n"), "bad_symbol", f"found symbol BTC/USDT\n; expected {SYMBOL}"),
    (trade(symbol="btc/usdt"), "bad_symbol", f"found symbol btc/usdt; expected {SYMBOL}"),
    (trade(symbol="BTC\u200b/USDT"), "bad_symbol", f"found symbol BTC\u200b/USDT; expected {SYMBOL}"),
    (trade(symbol="BTC/USDT", native_symbol=""), "bad_native_symbol", "found native_symbol ; expected a name"),
    (trade(native_symbol="a\x1fb"), "bad_native_symbol", "found native_symbol a\x1fb; expected a name"),
    (trade(trade_id="x"), "bad_trade_id", "found trade_id x; expected a whole number below 10^18"),
    (trade(trade_id=1.5), "bad_trade_id", "found trade_id 1.5; expected a whole number below 10^18"),
    (trade(trade_id=-1), "bad_trade_id", "found trade_id -1; expected a whole number below 10^18"),
    (trade(trade_id=True), "bad_trade_id", "found trade_id true; expected a whole number below 10^18"),
    (trade(trade_id=10**18), "bad_trade_id", f"found trade_id {10**18}; expected a whole number below 10^18"),
    (trade(trade_id="５"), "bad_trade_id", "found trade_id ５; expected a whole number below 10^18"),
    (trade(trade_id="5\x1f1"), "bad_trade_id", "found trade_id 5\x1f1; expected a whole number below 10^18"),
    (trade(price="1e5"), "bad_price", f"found price 1e5; expected {DECIMAL}"),
    (trade(price="-1"), "bad_price", f"found price -1; expected {DECIMAL}"),
    (trade(price="1" * 21), "bad_price", f"found price {'1' * 21}; expected {DECIMAL}"),
    (trade(price="0" * 20 + "1"), "bad_price", f"found price {'0' * 20}1; expected {DECIMAL}"),
    (trade(price="1." + "0" * 18 + "1"), "bad_price", f"found price 1.{'0' * 18}1; expected {DECIMAL}"),
    (trade(price="5."), "bad_price", f"found price 5.; expected {DECIMAL}"),
    (trade(size="NaN"), "bad_size", f"found size NaN; expected {DECIMAL}"),
    (trade(size="0" * 20 + "1"), "bad_size", f"found size {'0' * 20}1; expected {DECIMAL}"),
    (trade(price="0.000"), "price_not_positive", "found price 0.000; expected more than 0"),
    (trade(size=0), "size_not_positive", "found size 0; expected more than 0"),
    (trade(price=str(10**12)), "price_out_of_range", f"found price {10**12}; expected less than 10^12"),
    (trade(size=str(10**15)), "size_out_of_range", f"found size {10**15}; expected less than 10^15"),
    (
        trade(price="999999999999", size="2000"),
        "notional_out_of_range",
        "found size 2000; expected price × size less than 10^15",
    ),
    (trade(side="BUY"), "bad_side", "found side BUY; expected buy or sell"),
    (trade(source="guess"), "bad_source", "found source guess; expected live, snapshot, repair"),
    (trade(source="live\n"), "bad_source", "found source live\n; expected live, snapshot, repair"),
    (trade(ts_event="soon"), "bad_event_time", f"found ts_event soon; expected {MICROS}"),
    (trade(ts_event=EARLIEST_US - 1), "bad_event_time", f"found ts_event {EARLIEST_US - 1}; expected {MICROS}"),
    (trade(ts_event=10**18), "bad_event_time", f"found ts_event {10**18}; expected {MICROS}"),
    (trade(ts_ingest=0), "bad_ingest_time", f"found ts_ingest 0; expected {MICROS}"),
    (
        trade(ts_event=LATEST_US + 1),
        "event_in_the_future",
        f"found ts_event {LATEST_US + 1}; expected it and ts_ingest at most 60 s after Kafka's time, "
        f"found 60.0 s: {CLOCK}",
    ),
    (
        trade(ts_ingest=KAFKA_US + 1_234_567_250_000),
        "event_in_the_future",
        f"found ts_event {NEW_YEAR}; expected it and ts_ingest at most 60 s after Kafka's time, "
        f"found 1,234,567.2 s: {CLOCK}",
    ),
    # The first of several in the order of the rules.
    (trade(trade_id="5\x1f1", native_symbol=""), "bad_native_symbol", "found native_symbol ; expected a name"),
    (trade(side="x", price="0", ts_event=1), "price_not_positive", "found price 0; expected more than 0"),
]  # fmt: skip

BAD_EVENTS: list[tuple[Any, str, str]] = [
    (None, "no_value", "the message has no value; expected a JSON object"),
    (b"junk", "not_json", NO_JSON),
    ({"symbol": "BTC/USD"}, "not_json", NO_JSON),
    (
        {"venue": "kraken", "ts_event": NEW_YEAR},
        "missing_field",
        "found no event, connection_id; expected venue, event, ts_event, connection_id",
    ),
    (EVENT | {"venue": "Kraken"}, "bad_venue", "found venue Kraken; expected a lower-case name"),
    (EVENT | {"ts_event": "soon"}, "bad_event_time", f"found ts_event soon; expected {MICROS}"),
    (
        EVENT | {"ts_event": KAFKA_US + 61_000_000},
        "event_in_the_future",
        f"found ts_event {KAFKA_US + 61_000_000}; expected at most 60 s after Kafka's time, found 61.0 s: {CLOCK}",
    ),
    (EVENT | {"first_id": "x", "last_id": "y"}, "bad_gap", "found first_id x; expected a whole number"),
    (EVENT | {"first_id": 1, "last_id": -1}, "bad_gap", "found last_id -1; expected a whole number"),
]

REJECTED: list[tuple[Any, str, str]] = [
    ({"venue": "kraken", "reason": "no_trade_id", "detail": "v1"}, "rejected:no_trade_id", "v1"),
    ({"venue": "kraken", "detail": None}, "rejected:unknown", "rejected by ingest without a detail"),
    (b"junk", "rejected:unknown", "rejected by ingest without a detail"),
    (None, "rejected:unknown", "rejected by ingest without a detail"),
]


@pytest.mark.parametrize(("topic", "bad"), [(TOPICS[0], BAD_TRADES), (TOPICS[1], BAD_EVENTS), (TOPICS[2], REJECTED)])
def test_each_rule_names_what_it_refuses(topic: str, bad: list[tuple[Any, str, str]]) -> None:
    assert verdicts([value for value, _, _ in bad], topic) == [(rule, detail) for _, rule, detail in bad]


def test_a_trade_has_the_values_of_its_message() -> None:
    price, size = "00000000123456789012.123456789012345678", "0.000000000000000001"
    written = trade(price=price, size=size, trade_id="7", source="repair", raw="\\")
    rows = judged([written, {**written, "price": 1.5, "trade_id": 0, "ts_ingest": str(NEW_YEAR)}])
    assert rows.trades.schema == arrow_schema(SILVER_TRADES)
    first, second = rows.trades.to_pylist()
    assert first == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "trade_id": 7,
        "native_symbol": "BTCUSDT",
        "price": Decimal(price),
        "size": Decimal(size),
        "side": "buy",
        "ts_event": utc(NEW_YEAR),
        "ts_ingest": utc(NEW_YEAR + 1_000),
        "source": "repair",
        "kafka_topic": SETTINGS.topic_trades,
        "kafka_partition": 3,
        "kafka_offset": 0,
        "ts_kafka": utc(KAFKA_US),
        "event_date": utc(NEW_YEAR).date(),
    }
    assert (second["price"], second["trade_id"], second["ts_ingest"]) == (Decimal("1.5"), 0, utc(NEW_YEAR))


def test_a_feed_event_has_the_values_of_its_message() -> None:
    gap = EVENT | {"first_id": 5, "last_id": "7", "detail": "why"}
    rows = judged([gap, EVENT | {"symbol": None}], SETTINGS.topic_feed_events)
    assert rows.feed_events.schema == arrow_schema(SILVER_FEED_EVENTS)
    first, second = rows.feed_events.to_pylist()
    assert first == gap | {
        "ts_event": utc(NEW_YEAR),
        "last_id": 7,
        "kafka_topic": SETTINGS.topic_feed_events,
        "kafka_partition": 3,
        "kafka_offset": 0,
        "ts_kafka": utc(KAFKA_US),
        "event_date": utc(NEW_YEAR).date(),
    }
    assert [second[name] for name in ("symbol", "first_id", "last_id", "detail")] == [None, None, None, ""]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("5", 5), (" 5\n", 5), ("+5", 5), ("-5", -5), ("0" * 5_000 + "7", 7), ("\x1c5\x7f", 5), ("\x7f5", 5),
        (str(2**63 - 1), 2**63 - 1), (str(-(2**63)), -(2**63)), (str(2**63), None), (str(-(2**63) - 1), None),
        ("9" * 5_000, None), ("1.0", None), ("1e3", None), ("", None), ("+", None), ("\xa05", None), ("５", None),
        ("1_0", None), ("x", None), ([5], None), (1.5, None), (True, None),
    ],
)  # fmt: skip
def test_a_quarantined_row_has_what_could_be_read(written: object, found: int | None) -> None:
    rows = judged([trade(venue="BAD", symbol=7, trade_id=written)]).quarantine
    assert rows.schema == arrow_schema(SILVER_QUARANTINE)
    (row,) = rows.to_pylist()
    assert (row["venue"], row["symbol"], row["trade_id"], row["key"]) == ("BAD", "7", found, b"key")
    assert (row["ts_kafka"], row["ingest_date"]) == (utc(KAFKA_US), utc(KAFKA_US).date())
    assert row["value_raw"] == in_bronze([trade(venue="BAD", symbol=7, trade_id=written)]).to_pylist()[0]["value_raw"]


def test_messages_of_all_topics_and_several_chunks_keep_their_order() -> None:
    parts = [in_bronze(values, topic) for topic in TOPICS for values in ([trade(), b"junk", EVENT], [None])]
    messages = pa.concat_tables(parts)
    rows = judge(messages, SETTINGS)
    assert kinds(messages, SETTINGS) == [
        *("trade", "quarantine", "quarantine", "quarantine"),
        *("quarantine", "quarantine", "feed_event", "quarantine"),
        *["quarantine"] * 4,
    ]
    assert [table.num_rows for table in rows] == [1, 1, 10]
    places = [(TOPICS.index(row["kafka_topic"]), row["kafka_offset"]) for row in rows.quarantine.to_pylist()]
    assert places == [(0, 1), (0, 2), (0, 0), (1, 0), (1, 1), (1, 0), (2, 0), (2, 1), (2, 2), (2, 0)]
    assert [table.num_rows for table in judge(messages.slice(0, 0), SETTINGS)] == [0, 0, 0]


def test_quarantine_rows_of_other_verdicts() -> None:
    messages = in_bronze([trade(trade_id=number) for number in range(5)])
    named = {"kafka_topic": SETTINGS.topic_trades, "kafka_partition": 3, "rule": "conflict"}
    found = [named | {"kafka_offset": offset, "detail": f"of {offset}"} for offset in (4, 1, 9)]
    rows = quarantine_rows(messages, pa.Table.from_pylist(found))
    assert rows.schema == arrow_schema(SILVER_QUARANTINE)
    values = messages.column("value_raw").to_pylist()
    names = ("kafka_offset", "trade_id", "rule", "detail", "value_raw")
    assert {tuple(row[name] for name in names) for row in rows.to_pylist()} == {
        (1, 1, "conflict", "of 1", values[1]),
        (4, 4, "conflict", "of 4", values[4]),
    }
    assert rows.num_rows == 2


# ------------------------------------------------------------------------------------------- random messages


def test_an_independent_judge_takes_the_same_trades() -> None:
    rng = Random(11)
    values = [message(rng) for _ in range(6_000)]
    found = {row["kafka_offset"]: row for row in judged(values).trades.to_pylist()}
    wanted = {offset: good for offset, value in enumerate(values) if (good := wire_messages.judged(value))}
    assert found.keys() == wanted.keys()
    for offset, row in found.items():
        assert {name: row[name] for name in wanted[offset]} == wanted[offset], values[offset]
    assert 2_000 < len(found) < 5_000


ANY_BYTES = st.none() | st.binary() | st.text().map(str.encode) | st.randoms(use_true_random=False).map(message)


@given(st.lists(ANY_BYTES, max_size=8), st.sampled_from(TOPICS))
@hypothesis_settings(deadline=None)
def test_every_message_ends_in_exactly_one_table(values: list[bytes | None], topic: str) -> None:
    messages = in_bronze(values, topic)
    tables = judge(messages, SETTINGS)
    offsets = Counter(offset for table in tables for offset in table.column("kafka_offset").to_pylist())
    assert offsets == Counter(range(len(values)))
    of_kind = Counter(kinds(messages, SETTINGS))
    assert [table.num_rows for table in tables] == [of_kind[kind] for kind in ("trade", "feed_event", "quarantine")]
    for table in tables:
        table.validate(full=True)


def test_a_flood_of_bad_messages_does_not_hold_up_a_batch() -> None:
    """No message of ordinary size costs more than some 30 µs; ten times that fails here, whatever the machine does."""
    rng = Random(3)
    values = [value for value in (message(rng) for _ in range(30_000)) if value is None or len(value) < 2_000]
    messages = in_bronze(values[:20_000])
    began = time.process_time()
    judge(messages, SETTINGS)
    assert time.process_time() - began < 20_000 * 300e-6
