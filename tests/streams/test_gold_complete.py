"""The Gold stream's `complete`, on real Spark, over a Silver whose versions and files the test itself decides."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from lakehouse.lake.table_io import open_table
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamRunner
from lakehouse.tables import SILVER_TRADES
from tests.conftest import SettingsFactory
from tests.support.rows import NOON_US
from tests.support.truth import read_bars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
from tests.support.gold_lakes import (
    DAY,
    MINUTE_US,
    assert_exact,
    batches,
    catch_up,
    flags,
    fresh_lake,
    one_file_a_batch,
    put,
)

pytestmark = pytest.mark.spark


@pytest.fixture
def lake(spark: SparkSession, settings_factory: SettingsFactory) -> Settings:
    return fresh_lake(settings_factory)


def test_the_newest_bar_is_completed_by_a_trade_hours_later(lake: Settings) -> None:
    put(lake, [(1, 0), (2, 1), (3, 1), (4, 2)])
    catch_up(lake)
    assert flags(lake) == [(0, False, 1), (1, True, 1), (2, False, 1)]
    assert flags(lake, 5) == [(0, False, 1)]
    before = {bar["bar_start"]: bar for bar in read_bars(lake, 1)}

    put(lake, [(5, 200)])
    catch_up(lake)

    assert flags(lake) == [(0, False, 1), (1, True, 1), (2, True, 2), (200, False, 1)]
    assert flags(lake, 5) == [(0, False, 1), (200, False, 1)]
    after = {bar["bar_start"]: bar for bar in read_bars(lake, 1)}
    for start, bar in before.items():
        changed = {name for name in bar if bar[name] != after[start][name]}
        flipped = start == NOON_US + 2 * MINUTE_US
        assert changed - {"is_final"} == ({"complete", "revision", "updated_at"} if flipped else set())

    put(lake, [(0, 0)])  # a repair of the past: the first bar gets one trade more, and still nothing stands before it
    catch_up(lake)
    assert flags(lake)[0] == (0, False, 2)
    put(lake, [(6, 2 * DAY)], venue="binance")  # in another partition
    catch_up(lake)
    assert flags(lake)[-2:] == [(200, True, 2), (2 * DAY, False, 1)]


def test_a_gap_stays_until_it_is_repaired_and_nothing_else_changes(lake: Settings) -> None:
    put(lake, [(number, number) for number in (1, 2, 3, 4, 7, 8, 9, 20)])
    put(lake, [(number, number) for number in range(1, 30)], venue="kraken")
    put(lake, [(number, number / 4) for number in (1, 2, 3, 5, 6, 9, 12)], venue="coinbase")  # within one window
    catch_up(lake)
    kraken = [bar for bar in read_bars(lake, 1) if bar["venue"] == "kraken"]
    assert [minute for minute, complete, _ in flags(lake) if not complete] == [1, 4, 7, 9, 20]

    put(lake, [(5, 5.5)])  # a part of it: proves 4, and 5 is itself at the edge of the rest
    catch_up(lake)
    assert [(minute, revision) for minute, _, revision in flags(lake) if revision > 1] == [(4, 2)]
    assert (5, False, 1) in flags(lake)

    put(lake, [(6, 7.5)])  # late by its time too: it changes the bar of 7
    catch_up(lake)
    assert flags(lake) == [
        (1, False, 1), (2, True, 1), (3, True, 1), (4, True, 2), (5, True, 2), (7, True, 2), (8, True, 1),
        (9, False, 1), (20, False, 1),
    ]  # fmt: skip
    assert flags(lake, 5) == [(0, False, 1), (5, False, 3), (20, False, 1)]
    assert [bar for bar in read_bars(lake, 1) if bar["venue"] == "kraken"] == kraken


def test_a_late_trade_can_take_the_proof_away_again(lake: Settings) -> None:
    put(lake, [(1, 0), (2, 1), (3, 2)])
    catch_up(lake)
    assert (1, True, 1) in flags(lake)
    put(lake, [(9, 1.5)])  # its time is in the bar, its id far ahead: 4 to 8 may be of this bar
    catch_up(lake)
    assert (1, False, 2) in flags(lake)
    put(lake, [(number, 3) for number in (4, 5, 6, 7, 8, 10)])
    catch_up(lake)
    assert (1, True, 3) in flags(lake)


def test_a_query_that_lives_on_is_exact_after_each_batch(lake: Settings) -> None:
    """One process, many batches: what it keeps in memory is what the tables would tell."""
    rng = random.Random(5)
    left = [(number, number / 3) for number in range(1, 60)]
    with StreamRunner(lake, ("gold",)) as runner:
        for _ in range(6):
            some = rng.sample(left[:25], min(10, len(left)))
            left = [trade for trade in left if trade not in some]
            put(lake, some)
            put(lake, [(number + 7, minute) for number, minute in some], venue="coinbase")
            materialize(lake, ("gold",), timeout=60)  # waits for the live stream
            runner.check()
            assert_exact(lake)


@pytest.mark.parametrize("steps", [False, True])
def test_a_lost_checkpoint_changes_no_bar(lake: Settings, monkeypatch: pytest.MonkeyPatch, steps: bool) -> None:
    for version in range(4):
        put(lake, [(number, number * 60) for number in range(version * 30, version * 30 + 30) if number % 17])
    catch_up(lake)
    bars, taken = [read_bars(lake, minutes) for minutes in (1, 5)], batches(lake)
    assert any(bar["complete"] for bar in bars[0])
    shutil.rmtree(lake.checkpoints)
    if steps:
        one_file_a_batch(monkeypatch)

    catch_up(lake)

    assert [read_bars(lake, minutes) for minutes in (1, 5)] == bars
    assert batches(lake) - taken == (len(open_table(lake, SILVER_TRADES).file_uris()) if steps else 1)
