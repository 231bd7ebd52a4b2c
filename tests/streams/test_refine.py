"""Silver's messages sorted in units of single files, as on executors: against plain Python and against one process."""

from __future__ import annotations

import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from lakehouse.continuity.packed_ids import packed
from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, data_files, refine, silver
from lakehouse.streams.batch_files import read_chunks
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.silver_commits import APPENDS, OtherWriterError
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from tests.support.messages import NEW_YEAR, trade
from tests.support.random_bronze import DAY_US, Bronze, expected, filled
from tests.support.rows import empty_lake, trade_row
from tests.support.silver_stream import Executors, Stream, copied, counts, rows, unnamed

TABLES = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)


@pytest.fixture
def bronze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bronze:
    monkeypatch.setattr(silver, "UNIT_MESSAGES", 1)  # each file is a unit
    return Bronze(empty_lake(tmp_path / "one"))


def versions(bronze: Bronze, rng: random.Random) -> list[int]:
    """Where batches of some commits each end."""
    newest = bronze.version()
    return sorted({rng.randrange(1, newest + 1) for _ in range(3)} | {newest})


@pytest.mark.parametrize("seed", range(8))
def test_units_make_the_tables_that_one_process_makes(
    bronze: Bronze, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(bronze, seed)
    rng = random.Random(seed)
    monkeypatch.setattr(silver, "UNIT_MESSAGES", rng.choice([1, 1, 70, 10**6]))
    one, other = bronze.settings, copied(bronze.settings, "other")
    here, outside = Stream(one), Stream(other, Executors(twice=seed % 2 == 0))
    for version in versions(bronze, rng):
        assert counts(here.batch(version)) == counts(outside.batch(version))
    for table in TABLES:
        assert rows(one, table) == rows(other, table), table.path
    kept, refused = expected(bronze)
    places = ("kafka_topic", "kafka_partition", "kafka_offset")
    found = {tuple(row[name] for name in SILVER_TRADES.key): row for row in rows(other, SILVER_TRADES)}
    assert {key: (row["price"], *(row[name] for name in places)) for key, row in found.items()} == {
        key: (value[0], *value[4:]) for key, value in kept.items()
    }
    quarantine = {tuple(row[name] for name in places): row["rule"] for row in rows(other, SILVER_QUARANTINE)}
    assert quarantine == refused
    assert "conflict" in refused.values()
    assert len(unnamed(other)) == 0 or seed % 2 == 0


def with_id(number: int, **changes: Any) -> dict[str, Any]:
    return trade(trade_id=number, ts_event=NEW_YEAR - DAY_US + number * 1_000_000, **changes)


def test_an_id_of_several_units_is_kept_by_the_first(bronze: Bronze) -> None:
    """1 is known; 2 is in three units, 3 in the last two, 4 in one unit twice; the third unit gives all up but 5."""
    settings, topic = bronze.settings, bronze.settings.topic_trades
    bronze.commit((topic, 0, with_id(1)))
    outside = Executors()
    stream = Stream(settings, outside)
    stream.batch(bronze.version())
    outside.seen.clear()
    outside.jobs.clear()

    bronze.commit((topic, 3, with_id(2, price="2")), (topic, 3, with_id(1)), (topic, 3, with_id(1, price="9")))
    bronze.commit((topic, 2, with_id(2)), (topic, 2, with_id(3, price="3")), (topic, 1, with_id(4)))
    bronze.commit(
        *((topic, 1, with_id(2, price="2")), (topic, 1, with_id(2)), (topic, 1, with_id(3)), (topic, 0, with_id(5)))
    )
    bronze.commit((topic, 0, with_id(6)), (topic, 0, with_id(6, side="sell")))
    result = stream.batch(bronze.version())
    prices = {row["trade_id"]: float(row["price"]) for row in rows(settings, SILVER_TRADES)}
    assert prices == {1: 43250.1, 2: 2.0, 3: 3.0, 4: 43250.1, 5: 43250.1, 6: 43250.1}
    # In the third unit 2 at the first price is a repeat, and not at that of the second unit, which was given up.
    refused = [(row["kafka_partition"], row["trade_id"]) for row in rows(settings, SILVER_QUARANTINE)]
    assert sorted(refused) == [(0, 6), (1, 2), (1, 3), (2, 2), (3, 1)]
    assert (result.rows_in, result.rows_out, result.rows_duplicate, result.rows_quarantined) == (12, 5, 2, 5)
    # Four units by partitions, which have an id in common, so four in order: the second and the third work again, side
    # by side, the third by what the second claimed at first.
    assert [len(unit.claims) for unit, _ in outside.seen][-6:] == [0, 0, 0, 0, 1, 2]
    assert outside.jobs == [4, 4, 2]
    assert unnamed(settings) == []
    assert len(outside.seen[-1][1].files) == 1


def test_an_id_in_two_files_of_a_partition_is_settled_in_one_unit(
    bronze: Bronze, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two markets in two partitions, three files each; the batch is larger than a unit."""
    monkeypatch.setattr(silver, "UNIT_MESSAGES", 20)
    topic = bronze.settings.topic_trades
    for first in (0, 4, 8):  # half of each file is in the next one, too
        for partition, venue in ((0, "binance"), (1, "kraken")):
            ids = range(first, first + 6)
            bronze.commit(*((topic, partition, with_id(number, venue=venue)) for number in ids))
    outside = Executors()
    result = Stream(bronze.settings, outside).batch(bronze.version())
    assert (result.rows_out, result.rows_duplicate) == (28, 8)
    assert [len(unit.paths) for unit, _ in outside.seen] == [3, 3]


def test_units_without_common_ids_work_once(bronze: Bronze) -> None:
    outside = Executors()
    for number in range(4):
        # Neighbours in two units, as symbols are in two partitions.
        bronze.commit(*((bronze.settings.topic_trades, n % 2, with_id(n)) for n in range(number % 2, 20, 2)[:10]))
        if number == 1:
            Stream(bronze.settings, outside).batch(bronze.version())
            break
    assert len(outside.seen) == 2
    assert [row["trade_id"] for row in rows(bronze.settings, SILVER_TRADES)] == list(range(20))


@pytest.mark.parametrize("where", [lambda: None, Executors])
@pytest.mark.parametrize("cut", ["append_trades", "merge_by_offset", "nothing"])
def test_a_batch_that_was_cut_is_counted_as_one_that_was_not(
    bronze: Bronze, cut: str, where: Callable[[], Executors | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(bronze, 3)
    plain = copied(bronze.settings, "plain")
    stream, whole = Stream(bronze.settings, where()), Stream(plain)
    whole.batch(4)
    expected_counts = counts(whole.batch(bronze.version()))
    stream.batch(4)
    if cut == "nothing":
        stream.batch(bronze.version())
    else:
        real = getattr(silver, cut)

        def fails(*arguments: Any) -> None:
            real(*arguments)
            raise ZeroDivisionError

        monkeypatch.setattr(silver, cut, fails)
        with pytest.raises(ZeroDivisionError):
            stream.batch(bronze.version())
        monkeypatch.setattr(silver, cut, real)
    assert counts(stream.again()) == expected_counts
    for table in TABLES:
        assert rows(bronze.settings, table) == rows(plain, table), table.path


def bronze_files(bronze: Bronze) -> list[Path]:
    return [Path(path) for path in table_io.open_table(bronze.settings, BRONZE_MESSAGES).file_uris()]


def test_a_lost_file_of_messages_is_an_error_and_leaves_nothing(bronze: Bronze) -> None:
    filled(bronze, 1, commits=4)
    lost = sorted(bronze_files(bronze))[3]
    aside = lost.rename(lost.with_suffix(".aside"))
    stream = Stream(bronze.settings, Executors())
    with pytest.raises(RetriableError, match=lost.name):
        stream.batch(bronze.version())
    assert unnamed(bronze.settings) == []
    aside.rename(lost)
    stream.again()
    assert len(rows(bronze.settings, SILVER_TRADES)) == len(expected(bronze)[0])


def test_a_lost_file_of_another_unit_is_an_error_and_leaves_nothing(bronze: Bronze) -> None:
    settings, topic = bronze.settings, bronze.settings.topic_trades
    for price in ("1", "2", "1"):
        bronze.commit((topic, 0, with_id(1, price=price)), (topic, 0, with_id(int(price) + 7)))
    outside = Executors()

    def lose(units: list[refine.RefineUnit]) -> None:
        for claim in units[0].claims:
            Path(table_io.table_uri(settings, SILVER_TRADES), claim.files[0].path).unlink()

    outside.before = lose
    stream = Stream(settings, outside)
    with pytest.raises(RetriableError, match="No such file"):
        stream.batch(bronze.version())
    assert unnamed(settings) == []
    assert rows(settings, SILVER_TRADES) == []
    outside.before = lambda _: None
    stream.again()
    found = [(row["trade_id"], int(row["price"])) for row in rows(settings, SILVER_TRADES)]
    assert found == [(1, 1), (8, 43250), (9, 43250)]


@pytest.mark.parametrize("moment", ["work", "commit"])
def test_files_of_a_batch_go_if_another_writer_was_faster(
    bronze: Bronze, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(bronze, 2, commits=4)
    settings, outside = bronze.settings, Executors()
    stream, real = Stream(settings, outside), BulkAppend.commit

    def commit(self: BulkAppend, *arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(BulkAppend, "commit", real)
        append_elsewhere(settings)
        real(self, *arguments, **named)

    if moment == "work":
        outside.before = lambda _: append_elsewhere(settings)
    else:
        monkeypatch.setattr(BulkAppend, "commit", commit)
    with pytest.raises(OtherWriterError):
        stream.batch(bronze.version())
    assert [row["trade_id"] for row in rows(settings, SILVER_TRADES)] == [5_000]
    assert unnamed(settings) == []
    outside.before = lambda _: None
    stream.again()
    assert len(rows(settings, SILVER_TRADES)) == 1 + len(expected(bronze)[0])


def append_elsewhere(settings: Settings) -> None:
    """Append once as another process does: what this thread has open does not move."""
    table = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
    if table.version() == 0:
        more = (settings, SILVER_TRADES, [trade_row(5_000)], (APPENDS, 1))
        other = threading.Thread(target=table_io.append_rows, args=more)
        other.start()
        other.join()


def test_what_comes_back_of_a_unit_of_repeats_is_small(bronze: Bronze) -> None:
    """A topic that comes again does not go through the driver."""
    topic = bronze.settings.topic_trades
    for _ in range(2):
        bronze.commit(*((topic, 0, with_id(number)) for number in range(4_000)))
    outside = Executors()
    stream = Stream(bronze.settings, outside)
    stream.batch(1)
    result = stream.batch(2)
    assert (result.rows_out, result.rows_duplicate) == (0, 4_000)
    assert [len(pickle.dumps(answer)) < 8_000 for _, answer in outside.seen] == [True, True]
    assert outside.seen[1][1].files == ()


def test_a_units_file_has_its_rows_and_nothing_else_is_in_the_table(bronze: Bronze) -> None:
    filled(bronze, 4, commits=3)
    settings = bronze.settings
    files = batch_plan.files_at(settings, BRONZE_MESSAGES, bronze.version())
    result = refine.refine(refine.RefineUnit(settings, tuple(file.path for file in files), packed(())))
    assert rows(settings, SILVER_TRADES) == []
    paths = [file.path for file in result.files]
    ids = Counter(
        tuple(row.values())
        for chunk in read_chunks(settings, SILVER_TRADES, paths, SILVER_TRADES.key)
        for row in chunk.to_pylist()
    )
    assert ids == Counter(expected(bronze)[0].keys())
    assert sum(island.ids for island in result.arrived) == len(ids)
    data_files.undo(table_io.table_uri(settings, SILVER_TRADES), result)
    assert unnamed(settings) == []
