"""Comparisons of a sink's store with Gold, as plain Python reads it. No test module."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M

TABLES = (("1m", GOLD_BARS_1M), ("5m", GOLD_BARS_5M))
#: Columns of a bar in both stores.
NAMES = [name for name in GOLD_BARS_1M.column_names if name != "bar_date"]


def gold_rows(settings: Settings) -> list[tuple[Any, ...]]:
    """Every bar of Gold with its size, by size, venue, symbol and start."""
    columns = ", ".join(NAMES)
    return [
        (size, *row.values())
        for size, table in TABLES
        for row in sql(settings, f"SELECT {columns} FROM b ORDER BY venue, symbol, bar_start", b=table).to_pylist()
    ]


def redis_equals_gold(client: Any, settings: Settings) -> bool:
    """True if Redis has the newest bars of each series with each value of Gold, and no others."""
    wanted: dict[str, list[tuple[Any, ...]]] = {}
    for row in gold_rows(settings):
        wanted.setdefault(f"lakehouse:bars:{row[0]}:{row[1]}:{row[2]}", []).append(row[1:])
    found = {
        key: [(score, _values(json.loads(text))) for text, score in client.zrange(key, 0, -1, withscores=True)]
        for key in client.keys("lakehouse:bars:*")
    }
    return found == {
        key: [(row[2].timestamp(), row) for row in rows[-settings.redis_bars :]] for key, rows in wanted.items()
    }


def postgres_equals_gold(url: str, settings: Settings) -> bool:
    """True if the table `bars` has every bar with each value of Gold, and no others."""
    found = execute(url, f"SELECT size, {', '.join(NAMES)} FROM bars ORDER BY size, venue, symbol, bar_start")
    return found == gold_rows(settings)


def execute(url: str, text: str) -> list[tuple[Any, ...]]:
    """Run a statement in PostgreSQL, in a transaction of its own; return its rows, if it has any."""
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def _values(shown: dict[str, Any]) -> tuple[Any, ...]:
    assert list(shown) == NAMES
    values = []
    for column in GOLD_BARS_1M.columns:
        if column.name != "bar_date":
            value = shown[column.name]
            if column.type.startswith("decimal"):
                assert isinstance(value, str)
                value = Decimal(value)
            values.append(dt.datetime.fromisoformat(value) if column.type == "timestamp" else value)
    return tuple(values)


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Exception):
            if holds():
                return
        assert time.monotonic() < deadline
        time.sleep(0.3)
