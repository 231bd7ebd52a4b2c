"""Fingerprints of rows: the same for the same rows in any order and pieces, another for any other rows."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.lake import table_io
from lakehouse.rebuild.fingerprint import Fingerprint, fingerprint
from lakehouse.tables import SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.support.rows import NOON_US, trade_row, utc

Row = dict[str, Any]

QUARANTINED: Row = {
    "rule": "not_json",
    "detail": "found junk",
    "venue": None,
    "symbol": None,
    "trade_id": None,
    "key": None,
    "value_raw": b"junk",
    "kafka_topic": "crypto.trades",
    "kafka_partition": 0,
    "kafka_offset": 7,
    "ts_kafka": utc(NOON_US),
    "ingest_date": utc(NOON_US).date(),
}


def of(rows: list[Row], table: Table = SILVER_TRADES) -> Fingerprint:
    return fingerprint(pa.Table.from_pylist(rows, schema=table_io.arrow_schema(table)), table)


def test_order_and_pieces_do_not_matter() -> None:
    rng = random.Random(1)
    rows = [trade_row(n, at=NOON_US + n * 7_001, price=Decimal(rng.randrange(1, 10**9)) / 1000) for n in range(500)]
    expected = of(rows)
    assert expected.rows == 500
    for _ in range(5):
        rng.shuffle(rows)
        cut, other = sorted(rng.sample(range(501), 2))
        assert of(rows) == expected
        assert of(rows[:cut]) + of(rows[cut:other]) + of(rows[other:]) == expected
        sliced = pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_TRADES))
        pieces = [fingerprint(sliced.slice(cut, other - cut), SILVER_TRADES)]
        pieces += [fingerprint(sliced.slice(0, cut), SILVER_TRADES), fingerprint(sliced.slice(other), SILVER_TRADES)]
        assert sum(pieces, Fingerprint()) == expected
    assert of([]) == Fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"venue": "kraken"},
        {"symbol": "BTC/USD"},
        {"trade_id": 2},
        {"native_symbol": "btcusdt"},
        {"price": Decimal("100.500000000000000001")},
        {"price": Decimal("100.5") + Decimal(2**64).scaleb(-18)},  # only the upper word differs
        {"size": Decimal("-0.25")},
        {"price": Decimal("0.25"), "size": Decimal("100.5")},  # exchanged
        {"side": "sell"},
        {"ts_event": utc(NOON_US + 1)},
        {"ts_ingest": utc(NOON_US - 1)},
        {"source": "repair"},
        {"kafka_topic": "other"},
        {"kafka_partition": 1, "kafka_offset": 0},
        {"kafka_offset": 2},
        {"ts_kafka": utc(NOON_US + 1_000)},
        {"event_date": utc(0).date()},
    ],
)
def test_every_column_counts(change: Row) -> None:
    others = [trade_row(n) for n in range(5, 9)]
    assert of([trade_row(1), *others]) != of([trade_row(1) | change, *others])


def test_repeats_count() -> None:
    one, two = trade_row(1), trade_row(2)
    found = [of(rows) for rows in ([one, two], [one], [one, one, two], [one, two, two], [one, one, one], [])]
    assert len({(each.first, each.second) for each in found}) == len(found)
    # A value that goes over to another row.
    assert of([one | {"side": "sell"}, two]) != of([one, two | {"side": "sell"}])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("venue", [None, "", "\0", "binance"]),
        ("trade_id", [None, 0, 1, -1, 2**63 - 1]),
        ("key", [None, b"", b"\0", b"\0\0"]),
        ("value_raw", [None, b"", b"junk"]),
    ],
)
def test_a_null_is_like_no_value(name: str, values: list[Any]) -> None:
    found = {(value, of([QUARANTINED | {name: value}], SILVER_QUARANTINE)) for value in values}
    assert len({one for _, one in found}) == len(values)
    # Nor does it matter what else is in the column.
    both = of([QUARANTINED | {name: value} for value in values], SILVER_QUARANTINE)
    assert sum((one for _, one in found), Fingerprint()) == both


def test_nulls_of_neighbours_do_not_change_places() -> None:
    venue, symbol = ({"venue": "a", "symbol": None}, {"venue": None, "symbol": "a"})
    assert of([QUARANTINED | venue], SILVER_QUARANTINE) != of([QUARANTINED | symbol], SILVER_QUARANTINE)
    assert table_io.arrow_schema(SILVER_FEED_EVENTS).field("symbol").nullable
