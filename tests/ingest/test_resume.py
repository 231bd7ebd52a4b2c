"""Where a start goes on from: the tail of a real topic, the feed events, and the ledger of a real lake."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from deltalake import write_deltalake

from lakehouse.broker import offset_ranges, topics
from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader, Run
from lakehouse.errors import BrokerUnavailableError
from lakehouse.exchanges.model import FeedEvent, Trade, encode
from lakehouse.ingest import resume as module
from lakehouse.ingest.resume import read
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY
from tests.support.messages import delete_before

BTC, ETH, SOL = ("binance", "BTC/USDT"), ("kraken", "ETH/USDT"), ("coinbase", "SOL/USDT")


def trade(key: tuple[str, str], trade_id: int, source: Any = "live") -> tuple[str, bytes]:
    venue, symbol = key
    ts_event = 1_700_000_000_000_000 + trade_id
    value = Trade(venue, symbol, symbol, trade_id, "1", "1", "buy", ts_event, ts_event, source, "{}")
    return symbol, encode(value)


def event(kind: Any, key: tuple[str, str], first: int, last: int) -> tuple[str, bytes]:
    return key[0], encode(FeedEvent(key[0], kind, 1, "c", key[1], first, last))


def send(settings: Settings, topic: str, messages: list[tuple[str, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True})
    for number, (key, value) in enumerate(messages):
        producer.produce(topic, value, key)
        if number % 10_000 == 0:
            producer.flush()
    assert producer.flush(30) == 0


def left(settings: Settings, *keys: tuple[str, str]) -> dict[tuple[str, str], tuple[int, list[tuple[int, int]]]]:
    return {
        key: (resume.trade_id, [(gap.first_id, gap.last_id) for gap in resume.gaps])
        for key, resume in read(settings, keys).items()
    }


@pytest.mark.kafka
def test_marks_stand_at_the_tail_among_junk_and_unwanted_symbols(kafka_settings: Settings) -> None:
    assert read(kafka_settings, [BTC, ETH]) == {}
    junk = [b"", b"{", b"\xff\xfe", b"[]", b'{"venue":1}', b'{"venue":"binance","symbol":"BTC/USDT","trade_id":"9"}']
    messages = [trade(BTC, trade_id) for trade_id in range(100, 200)]
    messages += [trade(ETH, trade_id) for trade_id in range(5, 9)]
    messages += [trade(("kraken", "BTC/USDT"), 10**9)]  # the same symbol elsewhere
    messages += [("BTC/USDT", value) for value in junk]
    messages += [trade(BTC, 150, "repair")]
    send(kafka_settings, kafka_settings.topic_trades, messages)
    found = read(kafka_settings, [BTC, ETH, SOL])
    assert {key: one.trade_id for key, one in found.items()} == {BTC: 199, ETH: 8}
    assert found[BTC].ts_event == 1_700_000_000_000_199
    assert found[BTC].gaps == found[ETH].gaps == ()


@pytest.mark.kafka
def test_it_reads_back_in_doubling_windows_only_as_far_as_it_must(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_MESSAGES", 50)
    monkeypatch.setattr(module, "MOST_MESSAGES", 1000)
    # SOL's partition need not be BTC's: a symbol of the same key stands in for one.
    quiet, rare = ("kraken", "BTC/USDT"), ("coinbase", "BTC/USDT")
    messages = [trade(rare, 7), trade(quiet, 3), trade(quiet, 4)]
    messages += [trade(BTC, trade_id) for trade_id in range(700)]
    send(kafka_settings, kafka_settings.topic_trades, messages)
    stretches: list[int] = []
    original = OffsetRangeReader.read

    def counting(self: OffsetRangeReader, ranges: list[OffsetRange]) -> Iterator[Run]:
        if any(one.topic == kafka_settings.topic_trades for one in ranges):
            stretches.append(max(one.end - one.first for one in ranges))
        return original(self, ranges)

    monkeypatch.setattr(OffsetRangeReader, "read", counting)
    assert left(kafka_settings, BTC) == {BTC: (699, [])}
    assert stretches == [50]
    stretches.clear()
    assert left(kafka_settings, BTC, quiet, rare) == {BTC: (699, []), quiet: (4, []), rare: (7, [])}
    assert stretches == [50, 50, 100, 200, 303]  # 703 messages, each read once
    monkeypatch.setattr(module, "MOST_MESSAGES", 400)
    assert left(kafka_settings, BTC, quiet) == {BTC: (699, [])}


@pytest.mark.kafka
def test_what_was_being_repaired_is_found_open(kafka_settings: Settings) -> None:
    messages = [trade(BTC, trade_id) for trade_id in range(100, 110)]
    messages += [trade(BTC, trade_id) for trade_id in range(120, 130)]
    messages += [trade(BTC, trade_id, "repair") for trade_id in (119, 118, 90)]  # Coinbase's walk goes down
    messages += [trade(ETH, 51, "snapshot"), trade(ETH, 55), trade(ETH, 57)]
    send(kafka_settings, kafka_settings.topic_trades, messages)
    assert left(kafka_settings, BTC, ETH) == {BTC: (129, [(110, 117)]), ETH: (57, [(56, 56)])}
    gap = read(kafka_settings, [BTC])[BTC].gaps[0]
    assert (gap.ts_before, gap.ts_after) == (1_700_000_000_000_109, 1_700_000_000_000_118)
    events = [
        event("gap_opened", BTC, 40, 60),  # far before what is read of the trades
        event("gap_opened", BTC, 110, 119),
        event("gap_repaired", BTC, 41, 44),
        event("gap_unavailable", BTC, 60, 60),
        event("gap_unavailable", BTC, 112, 112),
        event("gap_opened", BTC, 42, 42),  # again
        event("gap_opened", ETH, 58, 60),  # a tail that was never received
        event("gap_opened", SOL, 1, 5),
        ("x", b"{"),
        ("x", json.dumps({"venue": "binance", "event": "connected", "ts_event": 1, "connection_id": "c"}).encode()),
    ]
    send(kafka_settings, kafka_settings.topic_feed_events, events)
    assert left(kafka_settings, BTC, ETH) == {
        BTC: (129, [(40, 40), (42, 42), (45, 59), (110, 111), (113, 119)]),
        ETH: (60, [(56, 56), (58, 60)]),
    }


@pytest.mark.kafka
def test_the_ledger_of_silver_is_asked_as_well(kafka_settings: Settings) -> None:
    table_io.ensure_tables(kafka_settings)
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    schema = table_io.arrow_schema(SILVER_CONTINUITY)
    values: dict[str, Any] = {
        "venue": "kraken",
        "symbol": "ETH/USDT",
        "first_id": 1,
        "last_id": 77,
        "state": "present",
        "ts_first": now,
        "ts_last": now,
        "since": now,
    }
    row = {field.name: values.get(field.name, None if field.nullable else _some(field.type)) for field in schema}
    other = row | {"venue": "binance", "symbol": "BTC/USDT", "last_id": 150}
    write_deltalake(
        table_io.table_uri(kafka_settings, SILVER_CONTINUITY),
        pa.Table.from_pylist([row, other], schema=schema),
        mode="append",
    )
    assert left(kafka_settings, ETH, SOL) == {ETH: (77, [])}
    send(kafka_settings, kafka_settings.topic_trades, [trade(BTC, 170), trade(ETH, 50)])
    assert left(kafka_settings, BTC, ETH) == {BTC: (170, []), ETH: (77, [])}  # whichever is higher


def _some(kind: pa.DataType) -> Any:
    return "" if pa.types.is_string(kind) else 0


@pytest.mark.kafka
def test_a_lake_that_cannot_be_read_costs_its_marks_and_no_start(kafka_settings: Settings) -> None:
    table_io.ensure_tables(kafka_settings)
    log = kafka_settings.home / "lake" / SILVER_CONTINUITY.path / "_delta_log"
    for file in log.iterdir():
        file.write_bytes(random.Random(1).randbytes(100))
    send(kafka_settings, kafka_settings.topic_trades, [trade(BTC, 170)])
    assert left(kafka_settings, BTC) == {BTC: (170, [])}


@pytest.mark.kafka
def test_a_tail_that_cannot_be_read_is_an_error(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send(kafka_settings, kafka_settings.topic_trades, [trade(BTC, 170)])
    monkeypatch.setattr(offset_ranges, "SILENT_SECONDS", 1.0)
    ends = topics.end_offsets

    def one_more(*asked: Any) -> dict[str, dict[int, int]]:
        return {
            topic: {partition: end + 1 for partition, end in ends_of.items()} for topic, ends_of in ends(*asked).items()
        }

    monkeypatch.setattr(module, "end_offsets", one_more)
    with pytest.raises(BrokerUnavailableError, match="did not come"):
        read(kafka_settings, [BTC])


@pytest.mark.kafka
def test_messages_that_the_retention_removes_meanwhile_are_left_out(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [trade(BTC, trade_id) for trade_id in (*range(100, 110), *range(112, 120))]
    send(kafka_settings, kafka_settings.topic_trades, messages)
    original = OffsetRangeReader.read
    firsts: list[int] = []

    def read_late(self: OffsetRangeReader, ranges: list[OffsetRange]) -> Iterator[Run]:
        for topic, partition, first, end in ranges:
            if topic == kafka_settings.topic_trades and end:
                firsts.append(first)
                if len(firsts) == 1:
                    delete_before(kafka_settings, topic, partition, 5)
        return original(self, ranges)

    monkeypatch.setattr(OffsetRangeReader, "read", read_late)
    assert left(kafka_settings, BTC) == {BTC: (119, [(110, 111)])}
    assert firsts == [0, 5]


def place(settings: Settings, partition: int, key: tuple[str, str], ids: range, at: int = 0) -> None:
    """Live trades in one partition, sent at the milliseconds of their ids, or all at one."""
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for trade_id in ids:
        symbol, value = trade(key, trade_id)
        producer.produce(
            settings.topic_trades, value, symbol, partition, timestamp=1_700_000_000_000 + (at or trade_id)
        )
    assert producer.flush(30) == 0


@pytest.mark.kafka
@pytest.mark.parametrize(("old", "new"), [(0, 3), (3, 0)])
def test_a_symbol_that_has_moved_is_read_in_both_partitions(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch, old: int, new: int
) -> None:
    """Nothing counts as missing because it lies before what was read; what is missing at the seam is found."""
    monkeypatch.setattr(module, "FIRST_MESSAGES", 50)
    place(kafka_settings, old, BTC, range(100, 141))
    assert left(kafka_settings, BTC) == {BTC: (140, [])}
    place(kafka_settings, new, BTC, range(145, 150))
    assert left(kafka_settings, BTC) == {BTC: (149, [(141, 144)])}
    gap = read(kafka_settings, [BTC])[BTC].gaps[0]
    assert (gap.ts_before, gap.ts_after) == (1_700_000_000_000_140, 1_700_000_000_000_145)
    place(kafka_settings, new, BTC, range(150, 400))  # 145 to 349 are before what is read there
    assert left(kafka_settings, BTC) == {BTC: (399, [])}
    place(kafka_settings, new, BTC, range(402, 410))
    assert left(kafka_settings, BTC) == {BTC: (409, [(400, 401)])}


@pytest.mark.kafka
def test_a_symbol_moves_into_a_partition_that_others_have_filled(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_MESSAGES", 50)
    place(kafka_settings, 0, BTC, range(100, 141))
    place(kafka_settings, 1, ETH, range(1, 101), at=120)  # 51 of them are read from, sent before BTC's 121
    place(kafka_settings, 1, BTC, range(145, 150))
    assert left(kafka_settings, BTC, ETH) == {BTC: (149, [(141, 144)]), ETH: (100, [])}
    place(kafka_settings, 1, ETH, range(101, 146), at=142)
    place(kafka_settings, 1, BTC, range(150, 155))  # it is read from 142 on: 141 to 149 may stand before that
    assert left(kafka_settings, BTC, ETH) == {BTC: (154, []), ETH: (145, [])}
