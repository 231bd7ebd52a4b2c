"""Filters of a scan, as values and as SQL. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

Value = str | int | dt.datetime | dt.date

#: A column, an operator of SQL, and the value that the column is compared with.
Filter = tuple[str, str, Value]


def literal(value: Value) -> str:
    """Write a value as SQL that DataFusion reads."""
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP '{value.isoformat()}'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def behind(columns: Sequence[str], values: Sequence[Value]) -> str:
    """Write that a row comes after the one with these values, in the order of the columns."""
    (column, *others), (value, *other_values) = columns, values
    later = f'"{column}" > {literal(value)}'
    if not others:
        return later
    return f'("{column}" >= {literal(value)} AND ({later} OR {behind(others, other_values)}))'


def where(filters: Iterable[Filter], *conditions: str) -> str:
    """Write filters and conditions in SQL, joined by AND, as the end of a query; empty text for none."""
    parts = [*(f'"{column}" {sign} {literal(value)}' for column, sign, value in filters), *conditions]
    return f" WHERE {' AND '.join(parts)}" if parts else ""
