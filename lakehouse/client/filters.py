"""Filters of a scan, as values and as SQL. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

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


def where(filters: Iterable[Filter]) -> str:
    """Write filters, joined by AND, as the end of a query; empty text for none."""
    parts = [f'"{column}" {sign} {literal(value)}' for column, sign, value in filters]
    return f" WHERE {' AND '.join(parts)}" if parts else ""
