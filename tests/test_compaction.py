"""Joined files hold the same rows, in a commit that changes no data; an upsert goes on with them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import Transaction

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.streams.compaction import MOST_FILES, compact
from lakehouse.streams.gold_rows import sync
from lakehouse.tables import GOLD_SPREADS_1M as TABLE
from tests.rows import NOON_US, empty_lake, utc

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


def files(settings: Settings) -> list[str]:
    return sorted(lake.open_table(settings, TABLE).file_uris())


def rows(settings: Settings) -> list[dict[str, Any]]:
    return lake.sql(settings, "SELECT * FROM t ORDER BY bar_start", t=TABLE).to_pylist()


def test_only_days_of_many_files_are_joined(settings: Settings) -> None:
    for minute in range(MOST_FILES + 1):
        lake.append_rows(settings, TABLE, [row(NOON_US + minute * MINUTE_US)])
    for minute in range(MOST_FILES):
        lake.append_rows(settings, TABLE, [row(NOON_US + DAY_US + minute * MINUTE_US)])
    before, there = rows(settings), lake.open_table(settings, TABLE).version()
    compact(settings, TABLE)
    assert rows(settings) == before
    assert len(files(settings)) == 1 + MOST_FILES
    opened = lake.open_table(settings, TABLE)
    assert opened.version() == there + 1
    log = Path(lake.table_uri(settings, TABLE)) / "_delta_log" / f"{there + 1:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    changes = [action[kind] for action in actions for kind in ("add", "remove") if kind in action]
    assert len(changes) == MOST_FILES + 2
    assert not any(change["dataChange"] for change in changes)
    compact(settings, TABLE)
    assert lake.open_table(settings, TABLE).version() == there + 1


def test_an_upsert_goes_on_with_joined_files(settings: Settings) -> None:
    for minute in range(MOST_FILES + 1):
        lake.append_rows(settings, TABLE, [row(NOON_US + minute * MINUTE_US)])
    compact(settings, TABLE)
    at = utc(NOON_US + 3 * MINUTE_US)
    existing = lake.sql(settings, f"SELECT * FROM t WHERE bar_start = TIMESTAMP '{at.isoformat()}'", t=TABLE)
    existing = existing.cast(lake.arrow_schema(TABLE))
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
