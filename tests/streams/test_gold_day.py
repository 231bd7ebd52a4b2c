"""A small bad day into Gold, and what the proof of the large one (`gold_day`) rests on."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from lakehouse.lake.table_io import arrow_schema, ensure_tables, open_table
from lakehouse.settings import BAR_SIZES, Settings
from tests.conftest import SettingsFactory
from tests.support.gold_day import DayRun, damage_table
from tests.support.gold_market import DAY_US, HOUR_US, PAIRS, Market
from tests.support.gold_reference import reference
from tests.support.gold_verdict import assert_gold_equals_reference, gold_tables
from tests.support.rows import utc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TRADES, HOURS, PARTS = 6_000, 3, 4


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(TRADES, seed=1, hours=HOURS)


# ---------------------------------------------------------------------------------------------------- the market


def test_the_record_is_what_is_sent(market: Market, tmp_path: Path) -> None:
    market.write_record(tmp_path / "record.parquet")
    record = pq.read_table(tmp_path / "record.parquet").to_pylist()
    sent = [json.loads(value) for _, value in market.messages(0, len(market.order))]
    names = ("venue", "symbol", "trade_id", "side", "ts_event")
    first: dict[tuple[str, str, int], Any] = {}
    for message in sent:
        assert first.setdefault((message["venue"], message["symbol"], message["trade_id"]), message) == message
    assert len(record) == len(first) == TRADES
    for row in record:
        message = first[row["venue"], row["symbol"], row["trade_id"]]
        assert {name: row[name] for name in names} == {name: message[name] for name in names}
        assert (row["price"], row["size"]) == (Decimal(message["price"]), Decimal(message["size"]))
        assert row["price"] > 0
        assert row["size"] > 0
        assert DAY_US <= row["ts_event"] < DAY_US + HOURS * HOUR_US


def test_it_is_a_bad_day(market: Market) -> None:
    sent = [json.loads(value) for _, value in market.messages(0, len(market.order))]
    assert len(sent) == TRADES + market.duplicates
    assert 0.03 * TRADES < market.duplicates < 0.07 * TRADES
    assert 0.005 * TRADES < market.late < 0.02 * TRADES
    # The withheld come when all others are there, as repairs.
    withheld = sum(market.withheld)
    assert 0 < withheld < 0.01 * TRADES
    sources = [message["source"] for message in sent]
    repaired = sources.count("repair")
    assert repaired >= withheld
    assert sources == ["live"] * (len(sent) - repaired) + ["repair"] * repaired
    ids: dict[tuple[str, str], set[int]] = {}
    for message in sent:
        ids.setdefault((message["venue"], message["symbol"]), set()).add(message["trade_id"])
    assert set(ids) == {(pair.venue, pair.symbol) for pair in PAIRS}
    assert all(max(found) - min(found) + 1 == len(found) for found in ids.values())


def test_the_seed_decides(market: Market) -> None:
    def day(of: Market) -> Counter[tuple[str, bytes]]:
        return Counter(of.messages(0, len(of.order)))

    again, other = Market(TRADES, seed=1, hours=HOURS), Market(TRADES, seed=2, hours=HOURS)
    assert list(again.messages(0, len(again.order))) == list(market.messages(0, len(market.order)))
    assert day(other) != day(market)


# ---------------------------------------------------------------------------------------------------- the judgement


def write_reference(settings: Settings, record: Path) -> None:
    """Gold as it must be, without a stream."""
    ensure_tables(settings)
    rows = reference(record, threshold=settings.move_threshold)
    for table in gold_tables(settings):
        columns = {"revision": 1, "updated_at": utc(DAY_US), "bar_date": utc(DAY_US).date(), "is_final": True}
        full = [columns | row | {"bar_start": utc(row["bar_start"])} for row in rows[table.path]]
        data = pa.Table.from_pylist(full, schema=arrow_schema(table))
        write_deltalake(open_table(settings, table), data, mode="append")


def test_damage_is_seen_in_every_table(market: Market, settings_factory: SettingsFactory, tmp_path: Path) -> None:
    settings = settings_factory(bar_sizes=BAR_SIZES)
    record = tmp_path / "record.parquet"
    market.write_record(record)
    write_reference(settings, record)
    rows = assert_gold_equals_reference(settings, record)
    assert rows.keys() == {table.path for table in gold_tables(settings)}
    assert all(rows.values())
    damage = {table.path: damage_table(settings, table) for table in gold_tables(settings)}
    with pytest.raises(AssertionError) as failure:
        assert_gold_equals_reference(settings, record)
    for path, found in damage.items():
        assert min(found) > 0
        assert f"{path}: {sum(found):,} differences" in str(failure.value)


# ---------------------------------------------------------------------------------------------------- the day


@pytest.mark.spark
@pytest.mark.kafka
@pytest.mark.timeout(900)  # four catch-ups and two rebuilds: a minute alone, many on an overbooked machine
def test_gold_is_right_after_a_bad_day(
    spark: SparkSession, kafka_settings: Settings, market: Market, tmp_path: Path
) -> None:
    settings = kafka_settings.model_copy(update={"bar_sizes": BAR_SIZES})
    day = DayRun(settings, market, tmp_path / "record.parquet")
    day.play(PARTS)
    rows = day.compare()
    assert all(rows.values())
    day.rebuild()
