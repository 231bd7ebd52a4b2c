"""The Gold stream's `complete`, on real Spark, over a Silver whose versions and files the test itself decides."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.lake.table_io import append_rows, ensure_tables, open_table, sql
from lakehouse.quality.checks import checks_of_lake
from lakehouse.quality.model import Look
from lakehouse.settings import Settings
from lakehouse.streams import gold, gold_write
from lakehouse.streams.gold_rows import RowChanges, sync
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamFailedError, StreamRunner
from lakehouse.tables import GOLD_BARS_5M, OPS_BATCHES, SILVER_TRADES, Table
from tests.conftest import SettingsFactory
from tests.support.messages import send, trades
from tests.support.rows import NOON_US, trade_row
from tests.support.truth import BAR_VALUES, assert_bars_equal_fold, read_bars, read_silver

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

MINUTE_US = 60_000_000
DAY = 24 * 60

#: (trade id, minute after noon)
Trades = Iterable[tuple[int, float]]


@pytest.fixture
def lake(spark: SparkSession, settings_factory: SettingsFactory) -> Settings:
    return fresh_lake(settings_factory)


def fresh_lake(settings_factory: SettingsFactory, **overrides: Any) -> Settings:
    settings = settings_factory(trigger="1 second", **overrides)
    ensure_tables(settings)
    return settings


def row(number: int, minute: float, venue: str = "binance") -> dict[str, Any]:
    return trade_row(number, NOON_US + round(minute * MINUTE_US) + number % 997, venue=venue)


def put(settings: Settings, made: Trades, **columns: Any) -> None:
    """One version of Silver, a file a day."""
    append_rows(settings, SILVER_TRADES, [row(number, minute, **columns) for number, minute in made])


def assert_exact(settings: Settings) -> None:
    """Gold is the brute-force fold of Silver, flags included, and says so by itself."""
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes)
    for check in checks_of_lake(settings):
        if check.name in ("complete_proved", "bars_consistent", "trades_conserved"):
            result = check.evaluate(settings, Look.ALL)
            assert result.passed, (check.table_path, result)


def catch_up(settings: Settings) -> None:
    """A new Gold query, up to the newest Silver."""
    materialize(settings, ("gold",), timeout=120)
    assert_exact(settings)


def flags(settings: Settings, minutes: int = 1) -> list[tuple[int, bool, int]]:
    """(minute after noon, complete, revision) of Binance's bars."""
    return [
        ((bar["bar_start"] - NOON_US) // MINUTE_US, bar["complete"], bar["revision"])
        for bar in read_bars(settings, minutes)
        if bar["venue"] == "binance"
    ]


def batches(settings: Settings) -> int:
    return int(sql(settings, "SELECT count(*) AS n FROM b WHERE query = 'gold'", b=OPS_BATCHES).to_pylist()[0]["n"])


def content(settings: Settings) -> list[list[dict[str, Any]]]:
    """Both tables without revision and updated_at."""
    names = ("venue", "symbol", "bar_start", *BAR_VALUES)
    return [[{name: bar[name] for name in names} for bar in read_bars(settings, minutes)] for minutes in (1, 5)]


def one_file_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a query takes many batches, and batches end inside versions of Silver."""
    monkeypatch.setattr(gold, "MAX_BYTES_PER_TRIGGER", "1b")


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


def test_batches_that_end_inside_a_version_are_exact_at_that_version(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bars are read at a whole version, so are the ids: no flag waits for the batch that brings the rest."""
    put(lake, [(1, 0), (2, 1)])
    catch_up(lake)
    put(lake, [(3, 2), (4, 1 * DAY), (5, 2 * DAY), (6, 3 * DAY)])
    put(lake, [(7, 3 * DAY + 1), (8, 4 * DAY)])
    one_file_a_batch(monkeypatch)
    catch_up(lake)
    assert batches(lake) == 1 + 6
    assert [(complete, revision) for _, complete, revision in flags(lake)] == [
        (False, 1), (True, 2), (True, 1), (True, 1), (True, 1), (True, 2), (True, 1), (False, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [False, True])
def test_a_batch_that_was_planned_runs_again(lake: Settings, monkeypatch: pytest.MonkeyPatch, steps: bool) -> None:
    put(lake, [(1, 0), (2, 1), (3, 2)])
    catch_up(lake)
    if steps:
        one_file_a_batch(monkeypatch)
    put(lake, [(4, 300), (5, 301), (6, DAY), (8, DAY)])
    catch_up(lake)
    bars = [read_bars(lake, minutes) for minutes in (1, 5)]
    commits = Path(lake.checkpoints) / "gold" / "commits"
    newest = max(int(path.name) for path in commits.iterdir() if path.name.isdigit())
    for name in (str(newest), f".{newest}.crc"):
        (commits / name).unlink(missing_ok=True)

    catch_up(lake)
    assert [read_bars(lake, minutes) for minutes in (1, 5)] == bars
    put(lake, [(7, DAY)])
    catch_up(lake)


def test_a_batch_that_was_cut_between_the_two_tables_runs_again(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, [(1, 0), (2, 1), (3, 2), (5, 10), (6, 11)])
    catch_up(lake)
    put(lake, [(4, 9), (7, 300)])
    whole = sync

    def cut(settings: Settings, table: Table, *arguments: Any) -> RowChanges:
        if table is GOLD_BARS_5M:
            raise OSError("no space left on device")
        return whole(settings, table, *arguments)

    monkeypatch.setattr(gold_write, "sync", cut)
    with pytest.raises(StreamFailedError, match="the gold stream ended: OSError: no space left") as failure:
        materialize(lake, ("gold",), timeout=120)
    assert "\n" not in str(failure.value)
    assert (11, True, 2) in flags(lake)  # the one table has it, the other has not
    assert flags(lake, 5) == [(0, False, 1), (10, False, 1)]
    monkeypatch.undo()

    catch_up(lake)
    assert (11, True, 2) in flags(lake)
    assert flags(lake, 5) == [(0, False, 1), (5, True, 1), (10, True, 2), (300, False, 1)]


def test_a_writer_that_lags_behind_gives_way(lake: Settings, tmp_path: Path) -> None:
    """Two Gold queries on one checkpoint: the one whose planned batch is older than the tables changes nothing."""
    put(lake, [(1, 0), (2, 1)])
    catch_up(lake)
    put(lake, [(3, 2)])
    catch_up(lake)
    checkpoints, copy = Path(lake.checkpoints), tmp_path / "copy"
    shutil.copytree(checkpoints, copy)
    for name in ("1", ".1.crc"):
        (copy / "gold" / "commits" / name).unlink(missing_ok=True)
    put(lake, [(4, 2.5)])
    catch_up(lake)
    bars = [read_bars(lake, minutes) for minutes in (1, 5)]
    shutil.rmtree(checkpoints)
    copy.rename(checkpoints)

    with pytest.raises(StreamFailedError, match="is already of version 3 of silver/trades, this batch of 2"):
        materialize(lake, ("gold",), timeout=120)

    assert [read_bars(lake, minutes) for minutes in (1, 5)] == bars
    shutil.rmtree(checkpoints)
    put(lake, [(5, 3)])
    catch_up(lake)


@pytest.mark.parametrize("seed", range(2))  # an even and an odd one: `one_file_a_batch`
def test_order_and_batching_do_not_matter(
    spark: SparkSession, settings_factory: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The same trades in one version, in id order; and shuffled over versions and files, with Gold run in between."""
    rng = random.Random(seed)
    times = [(number, number // 4 * rng.choice((1, 1, 1, 20)) + rng.random() * 3) for number in range(1, 120)]
    rows = [row(number, minute) for number, minute in times if number not in (17, 50, 51)]
    rows += [row(number + 1000, minute, "kraken") for number, minute in times]
    straight = fresh_lake(settings_factory, home=tmp_path / "straight")
    append_rows(straight, SILVER_TRADES, rows)
    catch_up(straight)

    mixed = fresh_lake(settings_factory, home=tmp_path / "mixed")
    rng.shuffle(rows)
    if seed % 2:
        one_file_a_batch(monkeypatch)
    while rows:
        for _ in range(rng.randint(1, 3)):
            size = rng.choice((1, 2, 40, 80))
            some, rows = rows[:size], rows[size:]
            if some:
                append_rows(mixed, SILVER_TRADES, some)
        catch_up(mixed)

    assert content(mixed) == content(straight)


@pytest.mark.kafka
def test_order_batching_and_repetition_of_messages_do_not_matter(
    spark: SparkSession, broker: EmbeddedBroker, settings_factory: SettingsFactory, tmp_path: Path
) -> None:
    """The same messages once and in order; and shuffled, repeated, in parts, with Silver and Gold run in between."""
    rng = random.Random(11)
    good = [one for one in trades(240, seed=11, step=2_000_000) if one["trade_id"] not in (9, 10, 30)]

    def lake_of(name: str, parts: list[list[dict[str, Any]]]) -> Settings:
        topics = {f"topic_{kind}": f"{name}-{kind}" for kind in ("trades", "rejected", "feed_events")}
        settings = settings_factory(home=tmp_path / name, bootstrap_servers=broker.bootstrap, **topics)
        ensure_topics(settings)
        for part in parts:
            send(settings, settings.topic_trades, part)
            materialize(settings, timeout=120)
            assert_exact(settings)
        return settings

    messages = good + rng.choices(good, k=80)
    rng.shuffle(messages)
    cuts = sorted(rng.sample(range(1, len(messages)), 2))
    parts = [messages[a:b] for a, b in itertools.pairwise([0, *cuts, len(messages)])]
    straight, mixed = lake_of("straight", [good]), lake_of("mixed", [*parts, rng.choices(good, k=20)])

    assert content(mixed) == content(straight)
    silver = [{(t["venue"], t["symbol"], t["trade_id"], t["price"]) for t in read_silver(s)} for s in (straight, mixed)]
    assert silver[0] == silver[1]
    assert len(silver[0]) == len(good)
