"""The Gold stream's `complete` is the same in any order and batching, and after batches that were cut or planned."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.lake.table_io import append_rows
from lakehouse.settings import Settings
from lakehouse.streams import gold_write
from lakehouse.streams.gold_rows import RowChanges, sync
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamFailedError
from lakehouse.tables import GOLD_BARS_5M, SILVER_TRADES, Table
from tests.conftest import SettingsFactory
from tests.support.messages import send, trades
from tests.support.truth import read_bars, read_silver

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
from tests.support.gold_lakes import (
    DAY,
    assert_exact,
    batches,
    catch_up,
    content,
    flags,
    fresh_lake,
    one_file_a_batch,
    put,
    row,
)

pytestmark = pytest.mark.spark


@pytest.fixture
def lake(spark: SparkSession, settings_factory: SettingsFactory) -> Settings:
    return fresh_lake(settings_factory)


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
