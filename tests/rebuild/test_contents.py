"""Silver computed from Bronze, however it is divided and wherever works run: against plain Python and the stream."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.rebuild import contents as module
from lakehouse.rebuild.compared import fingerprint_of
from lakehouse.rebuild.contents import contents
from lakehouse.rebuild.fingerprint import Fingerprint, fingerprint
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, kept_trades, silver
from lakehouse.streams.batch_plan import DataFile
from lakehouse.streams.silver_commits import replace_all
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.messages import NEW_YEAR, trade
from tests.support.random_bronze import Bronze, expected, filled
from tests.support.rows import empty_lake, message_row
from tests.support.silver_stream import Executors, Stream, rows, tasks_of

DAY_US = 86_400_000_000


@pytest.fixture
def bronze(tmp_path: Path) -> Bronze:
    return Bronze(empty_lake(tmp_path))


def rows_of(settings: Settings, table: Table, columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table_io.sql(settings, f"SELECT {columns} FROM t", t=table).to_pylist()]


def there(settings: Settings, table: Table) -> Fingerprint:
    """Fingerprint of the rows that a table has."""
    version = table_io.open_table(settings, table).version()
    return fingerprint_of(settings, table, batch_plan.files_at(settings, table, version), tasks_of(settings))


def marks_of(settings: Settings, new: module.Contents) -> dict[str, Fingerprint]:
    """Fingerprints of the new rows."""
    return {
        table.path: fingerprint_of(
            settings, table, [DataFile(file.path, 0) for file in new.files[table.path]], tasks_of(settings)
        )
        for table in module.TABLES
    }


def trades_left(new: module.Contents) -> list[tuple[Any, list[tuple[int, int]]]]:
    return [(key, list(ranges)) for key, ranges in new.ledger.all_present()]


PLACE = "kafka_topic, kafka_partition, kafka_offset"


@pytest.mark.parametrize("seed", range(6))
def test_silver_is_what_the_messages_say_however_they_are_divided(bronze: Bronze, seed: int) -> None:
    settings = bronze.settings
    filled(bronze, seed)
    kept, refused = expected(bronze)
    assert "conflict" in refused.values()
    found = []
    for most, batch_units, executors in (
        (1, 1, None),
        (1, 5, Executors(twice=True)),
        (40, 3, Executors()),
        (1, 100, Executors()),
        (10**6, 1, None),
    ):
        with contents(settings, bronze.version(), tasks_of(settings, executors), most, batch_units) as new:
            marks = marks_of(settings, new)
            found.append((marks, new.places, new.rules, trades_left(new)))
            for table in module.TABLES:
                replace_all(new.take(table), table, settings)
                assert there(settings, table) == marks[table.path]
            new.ledger.write(table_io.open_table(settings, SILVER_TRADES).version())
    assert all(one == found[0] for one in found)
    _, places, rules, _ = found[0]

    columns = f"venue, symbol, trade_id, price, size, side, CAST(ts_event AS BIGINT), {PLACE}"
    assert {row[:3]: row[3:] for row in rows_of(settings, SILVER_TRADES, columns)} == kept
    assert {row[:3]: row[3] for row in rows_of(settings, SILVER_QUARANTINE, f"{PLACE}, rule")} == refused
    assert rules == Counter(refused.values())
    events = [row for row in bronze.read if row["topic"] == settings.topic_feed_events and row["value_raw"] != b"junk"]
    assert len(rows_of(settings, SILVER_FEED_EVENTS, "event")) == len(events)
    last = "SELECT max(last_id) AS n FROM t WHERE venue = 'binance'"
    assert table_io.sql(settings, last, t=SILVER_CONTINUITY).to_pylist() == [{"n": 211}]  # a gap up to there was told
    assert sum(rows.rows_in for rows in places.values()) == len(bronze.read)
    assert sum(rows.out for rows in places.values()) == len(kept)
    assert sum(rows.quarantined for rows in places.values()) == len(refused)


def test_of_copies_the_one_whose_file_came_first_is_kept(bronze: Bronze) -> None:
    """In Kafka's order the copies of the second commit would come first."""
    settings, topic = bronze.settings, bronze.settings.topic_trades
    bronze.commit((topic, 3, trade(trade_id=1)), (topic, 2, trade(trade_id=2, price="3")), day=1)
    bronze.commit((topic, 0, trade(trade_id=1, price="2")), (topic, 0, trade(trade_id=2)), day=0)
    # Each file alone; both as units of one batch; both as one unit.
    for most, batch_units, executors in ((1, 1, None), (1, 2, Executors()), (100, 1, None)):
        with contents(settings, bronze.version(), tasks_of(settings, executors), most, batch_units) as new:
            assert new.rules == {"conflict": 2}
            places = {place: (rows.out, rows.quarantined) for place, rows in new.places.items()}
            assert places == {(topic, 0): (0, 2), (topic, 2): (1, 0), (topic, 3): (1, 0)}
            replace_all(new.take(SILVER_TRADES), SILVER_TRADES, settings)
            prices = dict(rows_of(settings, SILVER_TRADES, "trade_id, CAST(price AS DOUBLE)"))
            assert prices == {1: 43250.1, 2: 3.0}


def data_files(settings: Settings) -> set[Path]:
    return {path for table in module.TABLES for path in Path(table_io.table_uri(settings, table)).rglob("*.parquet")}


def test_files_that_nobody_takes_are_deleted(bronze: Bronze) -> None:
    filled(bronze, 1, commits=3)
    settings, before = bronze.settings, data_files(bronze.settings)
    with contents(settings, bronze.version(), tasks_of(settings, Executors()), 10, 2):
        assert rows_of(settings, SILVER_TRADES, "trade_id") == []  # no commit names them
        assert data_files(settings) > before
    assert data_files(settings) == before
    for batch_units in (1, 2):  # the first batch is done before a work of the second one fails
        last = outside_failing_at(batch_plan.files_at(settings, BRONZE_MESSAGES, bronze.version())[-1].path)
        tasks = tasks_of(settings, last)
        with pytest.raises(ZeroDivisionError), contents(settings, bronze.version(), tasks, 10, batch_units):
            pass
        assert last.jobs
        assert data_files(settings) == before
    versions = [DeltaTable(table_io.table_uri(settings, table)).version() for table in module.TABLES]
    assert versions == [0, 0, 0]


def outside_failing_at(path: str) -> Executors:
    """Executors that are gone when a unit with a file comes."""
    outside = Executors()
    outside.before = lambda units: 1 / 0 if any(path in unit.paths for unit in units) else None
    return outside


@pytest.mark.parametrize("seed", range(4))
def test_a_rebuild_makes_what_the_stream_has_made(bronze: Bronze, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, ledger and counts, with other units and batches than the stream's, which end anywhere."""
    settings, rng = bronze.settings, random.Random(seed)
    filled(bronze, seed)
    monkeypatch.setattr(silver, "UNIT_MESSAGES", rng.choice([1, 50, 10**6]))
    stream = Stream(settings, rng.choice([None, Executors()]))
    newest = bronze.version()
    results = [stream.batch(version) for version in sorted({rng.randrange(1, newest), newest})]
    streamed = rows(settings, SILVER_CONTINUITY)
    with contents(settings, newest, tasks_of(settings, Executors()), rng.choice([1, 60]), rng.randrange(2, 5)) as new:
        assert marks_of(settings, new) == {table.path: there(settings, table) for table in module.TABLES}
        assert sum(one.out for one in new.places.values()) == sum(result.rows_out for result in results)
        assert sum(one.duplicate for one in new.places.values()) == sum(result.rows_duplicate for result in results)
        new.ledger.write(table_io.open_table(settings, SILVER_TRADES).version())
    assert rows(settings, SILVER_CONTINUITY) == streamed


def test_repeats_are_compared_with_trades_of_batches_before(bronze: Bronze) -> None:
    """The kept trade lies in a staged file; of these only the files near the repeat are read."""
    settings, topic = bronze.settings, bronze.settings.topic_trades
    for day in range(4):
        bronze.commit((topic, 0, trade(trade_id=day, ts_event=NEW_YEAR - day * DAY_US)))
    again = trade(trade_id=1, ts_event=NEW_YEAR - DAY_US)
    bronze.commit((topic, 0, again), (topic, 0, again | {"price": "7"}))
    read: list[str] = []
    real = kept_trades.in_files

    def watched(settings: Settings, paths: Sequence[str]) -> kept_trades.Kept:
        read.extend(paths)
        return real(settings, paths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_trades, "in_files", watched)
        with contents(settings, bronze.version(), tasks_of(settings), 1, 1) as new:
            assert new.rules == {"conflict": 1}
            assert sum(one.duplicate for one in new.places.values()) == 1
    assert [path.partition("/")[0] for path in read] == ["event_date=2025-12-31"]


def test_a_rebuild_of_one_unit_needs_no_session(bronze: Bronze) -> None:
    filled(bronze, 5)
    with contents(bronze.settings, bronze.version(), Tasks(bronze.settings, lambda _: pytest.fail("asked"))) as new:
        assert sum(one.out for one in new.places.values()) == len(expected(bronze)[0])


def test_the_rows_of_a_table_have_the_fingerprint_of_the_rows_put_in(bronze: Bronze) -> None:
    rows = pa.Table.from_pylist(
        [message_row(n, value_raw=None if n % 3 else b"%d" % n, at=NEW_YEAR + n * DAY_US) for n in range(20)],
        schema=table_io.arrow_schema(BRONZE_MESSAGES),
    )
    table_io.append_rows(bronze.settings, BRONZE_MESSAGES, rows.slice(0, 9).to_pylist())
    table_io.append_rows(bronze.settings, BRONZE_MESSAGES, rows.slice(9).to_pylist())
    assert there(bronze.settings, BRONZE_MESSAGES) == fingerprint(rows, BRONZE_MESSAGES)
