"""Silver computed from Bronze, unit by unit: against plain Python over the messages, however they are divided."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.rebuild import contents as module
from lakehouse.rebuild.contents import contents, fingerprint_of
from lakehouse.rebuild.fingerprint import fingerprint
from lakehouse.settings import Settings
from lakehouse.streams import dedup
from lakehouse.streams.silver_commits import replace_all
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.support.messages import NEW_YEAR, trade
from tests.support.random_bronze import Bronze, expected, filled
from tests.support.rows import empty_lake, message_row

DAY_US = 86_400_000_000


@pytest.fixture
def bronze(tmp_path: Path) -> Bronze:
    return Bronze(empty_lake(tmp_path))


def rows_of(settings: Settings, table: Table, columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table_io.sql(settings, f"SELECT {columns} FROM t", t=table).to_pylist()]


PLACE = "kafka_topic, kafka_partition, kafka_offset"


@pytest.mark.parametrize("seed", range(6))
def test_silver_is_what_the_messages_say_however_they_are_divided(bronze: Bronze, seed: int) -> None:
    settings = bronze.settings
    filled(bronze, seed)
    kept, refused = expected(bronze)
    assert "conflict" in refused.values()
    found = []
    for most in (1, 40, 10**6):
        with contents(settings, bronze.version(), most) as new:
            marks = {path: staged.fingerprint for path, staged in new.staged.items()}
            found.append((marks, new.places(), new.rules, new.words))
            for path, staged in new.staged.items():
                table = {one.path: one for one in module.TABLES}[path]
                replace_all(staged.take(), table, settings)
                assert fingerprint_of(settings, table) == marks[path]
    assert found[0] == found[1] == found[2]
    _, places, rules, words = found[0]

    columns = f"venue, symbol, trade_id, price, size, side, CAST(ts_event AS BIGINT), {PLACE}"
    assert {row[:3]: row[3:] for row in rows_of(settings, SILVER_TRADES, columns)} == kept
    assert {row[:3]: row[3] for row in rows_of(settings, SILVER_QUARANTINE, f"{PLACE}, rule")} == refused
    assert rules == Counter(refused.values())
    events = [row for row in bronze.read if row["topic"] == settings.topic_feed_events and row["value_raw"] != b"junk"]
    assert len(rows_of(settings, SILVER_FEED_EVENTS, "event")) == len(events)
    assert words["binance", "BTC/USDT"].claimed == [(200, 200 + day) for day in range(12)]
    assert sum(rows.rows_in for rows in places.values()) == len(bronze.read)
    assert sum(rows.out for rows in places.values()) == len(kept)
    assert sum(rows.quarantined for rows in places.values()) == len(refused)


def test_of_copies_the_one_whose_file_came_first_is_kept(bronze: Bronze) -> None:
    """In Kafka's order the copies of the second commit would come first."""
    settings, topic = bronze.settings, bronze.settings.topic_trades
    bronze.commit((topic, 3, trade(trade_id=1)), (topic, 2, trade(trade_id=2, price="3")), day=1)
    bronze.commit((topic, 0, trade(trade_id=1, price="2")), (topic, 0, trade(trade_id=2)), day=0)
    for most in (1, 100):  # each file alone; both as one batch
        with contents(settings, bronze.version(), most) as new:
            assert new.rules == {"conflict": 2}
            places = {place: (rows.out, rows.quarantined) for place, rows in new.places().items()}
            assert places == {(topic, 0): (0, 2), (topic, 2): (1, 0), (topic, 3): (1, 0)}
            replace_all(new.staged[SILVER_TRADES.path].take(), SILVER_TRADES, settings)
            prices = dict(rows_of(settings, SILVER_TRADES, "trade_id, CAST(price AS DOUBLE)"))
            assert prices == {1: 43250.1, 2: 3.0}


def data_files(settings: Settings) -> set[Path]:
    return {path for table in module.TABLES for path in Path(table_io.table_uri(settings, table)).rglob("*.parquet")}


def test_files_that_nobody_takes_are_deleted(bronze: Bronze) -> None:
    filled(bronze, 1, commits=3)
    settings, before = bronze.settings, data_files(bronze.settings)
    with contents(settings, bronze.version(), 10) as new:
        assert rows_of(settings, SILVER_TRADES, "trade_id") == []  # no commit names them
        new.staged[SILVER_TRADES.path].close()
        assert data_files(settings) > before
    assert data_files(settings) == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "conflicts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError), contents(settings, bronze.version(), 10):
            pass
    assert data_files(settings) == before
    versions = [DeltaTable(table_io.table_uri(settings, table)).version() for table in module.TABLES]
    assert versions == [0, 0, 0]


def test_the_rows_of_a_table_have_the_fingerprint_of_the_rows_put_in(bronze: Bronze) -> None:
    rows = pa.Table.from_pylist(
        [message_row(n, value_raw=None if n % 3 else b"%d" % n, at=NEW_YEAR + n * DAY_US) for n in range(20)],
        schema=table_io.arrow_schema(BRONZE_MESSAGES),
    )
    table_io.append_rows(bronze.settings, BRONZE_MESSAGES, rows.slice(0, 9).to_pylist())
    table_io.append_rows(bronze.settings, BRONZE_MESSAGES, rows.slice(9).to_pylist())
    assert fingerprint_of(bronze.settings, BRONZE_MESSAGES) == fingerprint(rows, BRONZE_MESSAGES)
