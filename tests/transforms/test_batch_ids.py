"""A batch's trades by id: first of key, kept, within ranges, id ranges; each against brute force over plain rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.lake.table_io import arrow_schema
from lakehouse.market.symbols import MarketKey
from lakehouse.streams.dedup import same_as_kept
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.batch_ids import BatchIds, BatchRange
from tests.support.rows import NOON_US, trade_row, utc

SCHEMA = arrow_schema(SILVER_TRADES)
Row = dict[str, Any]

#: Names in another order than that in which a batch may bring them.
VENUES, SYMBOLS, TOPICS = ("binance", "kraken"), ("BTC/USDT", "ETH/USDT", "A/B"), ("crypto.trades", "crypto.old")
HIGH = 10**18 - 1


@st.composite
def batches(draw: st.DrawFn) -> list[Row]:
    """Rows in any order; ids are few, so that they repeat and touch. Kafka positions are unique."""
    ids = st.integers(1, 12) | st.sampled_from([HIGH, HIGH - 1, HIGH - 3])
    one = st.fixed_dictionaries(
        {
            "venue": st.sampled_from(VENUES),
            "symbol": st.sampled_from(SYMBOLS),
            "trade_id": ids,
            "kafka_topic": st.sampled_from(TOPICS),
            "kafka_partition": st.integers(0, 2),
            "kafka_offset": st.integers(0, 40) | st.integers(10**12, 10**12 + 3),
            "source": st.sampled_from(["live", "snapshot", "repair"]),
            "ts_event": st.sampled_from([0, 999, 1_000, 1_999, 2_000]).map(lambda by: utc(NOON_US + by)),
            "price": st.sampled_from([Decimal(1), Decimal("1.000000000000000001")]),
            "side": st.sampled_from(["buy", "sell"]),
        }
    )
    rows = draw(st.lists(one, max_size=30, unique_by=position))
    made: list[Row] = [{**trade_row(1), **row} for row in rows]
    return made


def position(row: Row) -> tuple[str, int, int]:
    return row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]


def key(row: Row) -> MarketKey:
    return row["venue"], row["symbol"]


def arrivals(rows: list[Row], cut: int = 0) -> BatchIds:
    """The ids of a table of two pieces."""
    return BatchIds(pa.concat_tables(pa.Table.from_pylist(part, schema=SCHEMA) for part in (rows[:cut], rows[cut:])))


@given(batches(), st.integers(0, 30))
@hypothesis_settings(deadline=None)
def test_first_and_kept(rows: list[Row], cut: int) -> None:
    kept = []
    for row in rows:
        same = [n for n, other in enumerate(rows) if (key(other), other["trade_id"]) == (key(row), row["trade_id"])]
        kept.append(min(same, key=lambda place: position(rows[place])))
    found = arrivals(rows, cut)
    assert found.kept().tolist() == kept
    assert found.first.tolist() == [place == row for row, place in enumerate(kept)]


@given(batches(), st.lists(st.integers(0, 2), min_size=30, max_size=30))
@hypothesis_settings(deadline=None)
def test_the_first_file_counts_before_the_place_in_kafka(rows: list[Row], numbers: list[int]) -> None:
    files = numbers[: len(rows)]
    kept = []
    for row in rows:
        same = [n for n, other in enumerate(rows) if (key(other), other["trade_id"]) == (key(row), row["trade_id"])]
        kept.append(min(same, key=lambda place: (files[place], position(rows[place]))))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    found = BatchIds(table, np.array(files, np.int64))
    assert found.kept().tolist() == kept
    assert found.first.tolist() == [place == row for row, place in enumerate(kept)]


@given(
    batches(),
    st.dictionaries(st.tuples(st.sampled_from(VENUES), st.sampled_from(SYMBOLS)), st.sets(st.integers(1, 14))),
)
@hypothesis_settings(deadline=None)
def test_within(rows: list[Row], known: dict[MarketKey, set[int]]) -> None:
    ledger = {of: IdRanges((number, number) for number in ids) for of, ids in known.items()}
    asked: list[MarketKey] = []

    def ranges(of: MarketKey, first: int, last: int) -> list[IdRange]:
        asked.append(of)
        ids = [row["trade_id"] for row in rows if key(row) == of]
        assert (first, last) == (min(ids), max(ids))
        return ledger.get(of, IdRanges()).within(first, last)

    found = arrivals(rows).within(ranges)
    assert found.tolist() == [row["trade_id"] in known.get(key(row), ()) for row in rows]
    assert sorted(asked) == sorted({key(row) for row in rows})


def test_within_takes_ranges_as_long_as_there_are_ids() -> None:
    rows = [trade_row(number) for number in (1, 2, 9, 500, HIGH)]
    found = arrivals(rows).within(lambda *_: [(2, 9), (100, 499), (501, HIGH)])
    assert found.tolist() == [False, True, True, False, True]


# ---------------------------------------------------------------------------------------------------- id ranges


@dataclass(frozen=True)
class _Run:
    """The rows of one contiguous range of ids of one key."""

    key: MarketKey
    rows: list[Row]


def runs(rows: list[Row]) -> Iterator[_Run]:
    """Contiguous ranges, by key and id."""
    ordered = sorted(rows, key=lambda row: (key(row), row["trade_id"]))
    for of, group in groupby(ordered, key):
        run: list[Row] = []
        for row in group:
            if run and row["trade_id"] > run[-1]["trade_id"] + 1:
                yield _Run(of, run)
                run = []
            run.append(row)
        yield _Run(of, run)


def firsts_of(rows: list[Row]) -> dict[tuple[MarketKey, int], tuple[str, int, int]]:
    """Key and id → position of the row that comes first."""
    found: dict[tuple[MarketKey, int], tuple[str, int, int]] = {}
    for row in rows:
        of = key(row), row["trade_id"]
        found[of] = min(position(row), found.get(of, position(row)))
    return found


def id_ranges(rows: list[Row]) -> list[BatchRange]:
    firsts = firsts_of(rows)
    found = []
    for run in runs(rows):
        for place in sorted({position(row)[:2] for row in run.rows}):
            here = [row for row in run.rows if position(row)[:2] == place]
            here.sort(key=lambda row: (row["trade_id"], row["kafka_offset"]))
            kept = [row for row in here if firsts[run.key, row["trade_id"]] == position(row)]
            repaired = sum(row["source"] == "repair" for row in kept)
            ends = here[0]["trade_id"], here[-1]["trade_id"]
            times = here[0]["ts_event"], here[-1]["ts_event"]
            found.append(BatchRange(*run.key, *place, *ends, len(here), len(kept), repaired, *times))
    return found


def assert_id_ranges(rows: list[Row], found: list[BatchRange]) -> None:
    assert sorted(found) == sorted(id_ranges(rows))
    assert [(one.key, one.first_id) for one in found] == sorted((one.key, one.first_id) for one in found)
    assert sum(one.rows for one in found) == len(rows)
    assert sum(one.ids for one in found) == len(firsts_of(rows))


@given(batches(), st.integers(0, 30))
@hypothesis_settings(deadline=None)
def test_id_ranges(rows: list[Row], cut: int) -> None:
    assert_id_ranges(rows, arrivals(rows, cut).id_ranges())


def test_id_ranges_of_more_rows_than_arrow_takes_at_a_time() -> None:
    rng = Random(3)
    rows = [
        trade_row(
            rng.randrange(60_000),
            at=NOON_US + rng.randrange(10**9),
            symbol=rng.choice(SYMBOLS),
            kafka_partition=rng.randrange(2),
            kafka_offset=offset,
        )
        for offset in range(80_000)
    ]
    rng.shuffle(rows)
    found = arrivals(rows, 50_000).id_ranges()
    assert len(found) > 40_000
    assert_id_ranges(rows, found)


def test_id_ranges_by_hand() -> None:
    rows = [
        trade_row(3, at=NOON_US + 3, source="repair"),
        trade_row(1, at=NOON_US + 1),
        trade_row(2, at=NOON_US + 2, kafka_partition=1, source="repair"),
        trade_row(2, at=NOON_US + 2, kafka_partition=1, kafka_offset=9, source="repair"),
        trade_row(5, at=NOON_US + 5),
        trade_row(4, at=NOON_US + 4, symbol="ETH/USDT"),
    ]
    btc, eth = ("binance", "BTC/USDT"), ("binance", "ETH/USDT")
    assert arrivals(rows).id_ranges() == [
        BatchRange(*btc, "crypto.trades", 0, 1, 3, 2, 2, 1, utc(NOON_US + 1), utc(NOON_US + 3)),
        BatchRange(*btc, "crypto.trades", 1, 2, 2, 2, 1, 1, utc(NOON_US + 2), utc(NOON_US + 2)),
        BatchRange(*btc, "crypto.trades", 0, 5, 5, 1, 1, 0, utc(NOON_US + 5), utc(NOON_US + 5)),
        BatchRange(*eth, "crypto.trades", 0, 4, 4, 1, 1, 0, utc(NOON_US + 4), utc(NOON_US + 4)),
    ]


# ---------------------------------------------------------------------------------------------------- repeats


@given(batches())
@hypothesis_settings(deadline=None)
def test_repeats_of_other_content(rows: list[Row]) -> None:
    found = arrivals(rows)
    kept = found.kept()
    expected = [
        all(row[name] == rows[place][name] for name in ("price", "size", "side"))
        and abs((row["ts_event"] - rows[place]["ts_event"]).total_seconds()) < 0.001
        for row, place in zip(rows, kept, strict=True)
    ]
    assert same_as_kept(found.trades, kept).tolist() == expected
