"""The parts that a stream keeps of its newest bars spare it reading Silver, and never change a figure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, gold_bars
from lakehouse.streams.batch_plan import DataFile
from lakehouse.streams.gold_bars import KeptParts, Since, minute_parts
from lakehouse.tables import SILVER_TRADES, Table
from lakehouse.transforms.bars import BAR_KEY, TRADE_COLUMNS, finished, fold
from lakehouse.transforms.row_keys import RowKey, RowKeys
from lakehouse.transforms.time_ranges import TimeRange, ranges_around
from tests.support.rows import NOON_US, empty_lake, trade_row
from tests.support.silver_stream import Executors, tasks_of

MINUTE_US = 60_000_000
NONE = dt.timedelta(0)
ALL = [TimeRange(dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC))]


class Stream:
    """Batches of trades into Silver, and their bars as a stream makes them."""

    def __init__(self, settings: Settings, kept: KeptParts) -> None:
        self.settings, self.kept, self.next_id = settings, kept, 1
        self.tasks = tasks_of(settings)

    def version(self) -> int:
        return table_io.open_table(self.settings, SILVER_TRADES).version()

    def trade(self, rng: Random, minute: int) -> dict[str, Any]:
        self.next_id += 1
        at = NOON_US + minute * MINUTE_US + rng.randrange(MINUTE_US)
        return trade_row(
            self.next_id, at, symbol=rng.choice(("BTC/USDT", "ETH/USDT")), price=Decimal(rng.randrange(1, 9))
        )

    def append(self, rows: Sequence[dict[str, Any]]) -> tuple[Since, set[RowKey]]:
        before = self.version()
        table_io.append_rows(self.settings, SILVER_TRADES, list(rows))
        trades = pa.Table.from_pylist(list(rows), schema=table_io.arrow_schema(SILVER_TRADES)).select(TRADE_COLUMNS)
        parts = fold(trades)
        places = set(zip(*(parts.column(name).to_pylist() for name in BAR_KEY), strict=True))
        return Since(before, parts), places

    def bars(self, since: Since, places: set[RowKey]) -> list[dict[str, Any]]:
        found = self.kept.after(self.settings, since, self.version(), RowKeys.of_tuples(places), self.tasks)
        return finished(found).to_pylist()

    def truth(self, places: set[RowKey]) -> list[dict[str, Any]]:
        """From Silver alone."""
        return finished(
            minute_parts(self.settings, self.version(), ALL, tasks_of(self.settings), RowKeys.of_tuples(places))
        ).to_pylist()


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(empty_lake(tmp_path), KeptParts())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[TimeRange]]:
    """The ranges of Silver that are read; only what asks for some."""
    found: list[list[TimeRange]] = []
    original = batch_plan.files_in

    def counted(settings: Settings, table: Table, version: int, ranges: Sequence[TimeRange]) -> list[DataFile]:
        found.append(list(ranges))
        return original(settings, table, version, ranges)

    monkeypatch.setattr(batch_plan, "files_in", counted)
    return found


@pytest.mark.parametrize("executors", [None, Executors()])
@pytest.mark.parametrize("seed", range(6))
def test_bars_are_those_of_silver(
    stream: Stream, seed: int, executors: Executors | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches forward and back in time, of several minutes; some are taken by another process."""
    monkeypatch.setattr(gold_bars, "UNIT_MESSAGES", seed * 10)
    stream.tasks = tasks_of(stream.settings, executors)
    rng, minute = Random(seed), 0
    for _ in range(14):
        minute = max(0, minute + rng.choice((0, 0, 0, 1, 1, 2, -4)))
        rows = [stream.trade(rng, minute + rng.choice((0, 0, 1))) for _ in range(rng.randrange(1, 6))]
        since, places = stream.append(rows)
        if rng.random() < 0.2:
            continue  # not ours: the next batch begins at a version that is not the one we know
        places |= {("kraken", "BTC/USDT", NOON_US + rng.randrange(4) * MINUTE_US)}  # due, without a trade
        assert stream.bars(since, places) == stream.truth(places)


def test_executors_read_the_files_with_the_minutes_and_no_others(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gold_bars, "UNIT_MESSAGES", 1)
    rng, executors = Random(4), Executors()
    for minutes in ((0,), (0,), (5, 7), (9,)):
        stream.append([stream.trade(rng, minute) for minute in minutes for _ in range(10)])
    tasks = tasks_of(stream.settings, executors)

    def made(minutes: Sequence[int], version: int) -> pa.Table:
        ranges = ranges_around(np.array([NOON_US + one * MINUTE_US for one in minutes]), gold_bars.MINUTE, NONE)
        found = minute_parts(stream.settings, version, ranges, tasks)
        assert found.equals(minute_parts(stream.settings, version, ranges, tasks_of(stream.settings)))
        return found

    newest = stream.version()
    assert made([0], newest).num_rows == 2
    assert len(executors.seen) == 2
    assert made([1, 5, 8], newest).num_rows == 2  # of a file that has another minute too
    assert len(executors.seen) == 3
    assert made([9], newest - 1).num_rows == 0  # the file is not in that version
    assert made([1, 3], newest).num_rows == 0
    assert made([0], -1).num_rows == 0
    assert len(executors.seen) == 3


def test_a_minute_is_read_once(stream: Stream, reads: list[list[TimeRange]]) -> None:
    rng = Random(1)
    for _ in range(5):
        stream.bars(*stream.append([stream.trade(rng, 0) for _ in range(20)]))
    assert len(reads) <= 2  # one for each symbol, where the first batch had not both
    reads.clear()
    stream.bars(*stream.append([stream.trade(rng, 0), stream.trade(rng, 1)]))
    noon = dt.datetime.fromtimestamp(NOON_US / 1e6, dt.UTC)
    assert all(one.start > noon for ranges in reads for one in ranges)


def test_only_the_newest_minutes_are_kept(stream: Stream, reads: list[list[TimeRange]]) -> None:
    rng = Random(2)
    for minute in range(10):
        stream.bars(*stream.append([stream.trade(rng, minute)]))
        assert stream.kept._parts.num_rows <= 2 * gold_bars.KEPT_MINUTES
    reads.clear()
    since, places = stream.append([stream.trade(rng, 0)])
    assert stream.bars(since, places) == stream.truth(places)
    assert reads


def test_another_version_is_not_believed(stream: Stream) -> None:
    rng = Random(3)
    stream.bars(*stream.append([stream.trade(rng, 0)]))
    stream.append([stream.trade(rng, 0) for _ in range(5)])
    since, places = stream.append([stream.trade(rng, 0)])
    assert stream.bars(since, places) == stream.truth(places)
