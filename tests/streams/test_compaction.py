"""Joined files hold the same rows, in a commit that changes no data; an upsert goes on with them."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import Transaction

from lakehouse.lake import table_io
from lakehouse.lake.batch_log import newest_batches, recent_batches
from lakehouse.settings import Settings
from lakehouse.streams.compaction import MOST_FILES, compact
from lakehouse.streams.gold_rows import sync
from lakehouse.tables import GOLD_SPREADS_1M as TABLE
from lakehouse.tables import LAYERS, OPS_BATCHES
from tests.support.rows import NOON_US, batch_row, empty_lake, utc

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def row(at: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in TABLE.columns:
        if column.type.startswith("decimal"):
            values[column.name] = Decimal(1)
        elif column.type == "string":
            values[column.name] = "BTC"
        else:
            values[column.name] = 1
    return values | {"bar_start": utc(at), "updated_at": utc(at), "bar_date": utc(at).date()}


def test_a_day_of_an_ops_table_is_joined_while_others_append(settings: Settings) -> None:
    """Three writers and the joining at once: every row is there once, and the newest are found."""
    failures: list[BaseException] = []

    def append(query: str) -> None:
        try:
            for number in range(25):
                table_io.append_rows(
                    settings, OPS_BATCHES, [batch_row(query, number, NOON_US + number)], (query, number)
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=append, args=(query,)) for query in LAYERS]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        compact(settings, OPS_BATCHES, 5)
    for thread in threads:
        thread.join()
    assert not failures
    done = [entry["operation"] for entry in table_io.open_table(settings, OPS_BATCHES).history()]
    assert done.count("OPTIMIZE") > 1
    compact(settings, OPS_BATCHES, 1)
    assert len(table_io.open_table(settings, OPS_BATCHES).file_uris()) == 1
    rows = table_io.sql(settings, "SELECT query, batch_id FROM t ORDER BY query, batch_id", t=OPS_BATCHES).to_pylist()
    assert rows == [{"query": query, "batch_id": number} for query in sorted(LAYERS) for number in range(25)]
    recent = recent_batches(settings, 3)
    assert sorted(recent) == sorted(LAYERS)
    assert all([one.batch_id for one in found] == [24, 23, 22] for found in recent.values())
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 25, NOON_US + 25)])
    assert newest_batches(settings)["gold"].batch_id == 25
    assert newest_batches(settings)["silver"].batch_id == 24


def files(settings: Settings) -> list[str]:
    return sorted(table_io.open_table(settings, TABLE).file_uris())


def rows(settings: Settings) -> list[dict[str, Any]]:
    return table_io.sql(settings, "SELECT * FROM t ORDER BY bar_start", t=TABLE).to_pylist()


def test_only_days_of_many_files_are_joined(settings: Settings) -> None:
    for minute in range(MOST_FILES + 1):
        table_io.append_rows(settings, TABLE, [row(NOON_US + minute * MINUTE_US)])
    for minute in range(MOST_FILES):
        table_io.append_rows(settings, TABLE, [row(NOON_US + DAY_US + minute * MINUTE_US)])
    before, there = rows(settings), table_io.open_table(settings, TABLE).version()
    compact(settings, TABLE)
    assert rows(settings) == before
    assert len(files(settings)) == 1 + MOST_FILES
    opened = table_io.open_table(settings, TABLE)
    assert opened.version() == there + 1
    log = Path(table_io.table_uri(settings, TABLE)) / "_delta_log" / f"{there + 1:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    changes = [action[kind] for action in actions for kind in ("add", "remove") if kind in action]
    assert len(changes) == MOST_FILES + 2
    assert not any(change["dataChange"] for change in changes)
    compact(settings, TABLE)
    assert table_io.open_table(settings, TABLE).version() == there + 1


def test_an_upsert_goes_on_with_joined_files(settings: Settings) -> None:
    for minute in range(MOST_FILES + 1):
        table_io.append_rows(settings, TABLE, [row(NOON_US + minute * MINUTE_US)])
    compact(settings, TABLE)
    at = utc(NOON_US + 3 * MINUTE_US)
    existing = table_io.sql(settings, f"SELECT * FROM t WHERE bar_start = TIMESTAMP '{at.isoformat()}'", t=TABLE)
    existing = existing.cast(table_io.arrow_schema(TABLE))
    assert existing.num_rows == 1
    maintained = ("revision", "updated_at", "bar_date")
    name = next(column.name for column in TABLE.columns if column.type.startswith("decimal"))
    place = existing.schema.get_field_index(name)
    seven = pa.chunked_array([[Decimal(7)]], existing.schema.field(name).type)
    changed = existing.set_column(place, existing.schema.field(name), seven)
    computed = changed.drop_columns([column for column in maintained if column in changed.column_names])
    before = rows(settings)
    found = sync(settings, TABLE, existing, computed, Transaction("gold", 5))
    assert (found.inserted, found.updated, found.deleted) == (0, 1, 0)
    after = rows(settings)
    assert [one for one in after if one["bar_start"] != at] == [one for one in before if one["bar_start"] != at]
    assert sum(one[name] == 7 for one in after) == 1
