"""Rows as text: decimals exact and without trailing zeros, times as ISO 8601 in UTC, bytes as UTF-8. Pure."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def cell(value: Any) -> Any:
    """Return a value as JSON can hold it: text, a number, a boolean or None. Decimals become text, to stay exact."""
    if isinstance(value, Decimal):
        text = f"{value:f}"  # `normalize` would round to the digits of the current context
        return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
    if isinstance(value, dt.datetime):
        text = value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
        return text.replace("+00:00", "Z")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [cell(one) for one in value]
    if isinstance(value, dict):
        return {name: cell(one) for name, one in value.items()}
    if isinstance(value, float | int | str | bool | None):
        return value
    return str(value)


def json_lines(rows: pa.Table | pa.RecordBatch) -> str:
    """Return rows as text: one JSON object per row, each on a line that ends with a newline."""
    return "".join(f"{json.dumps(cell(row), ensure_ascii=False)}\n" for row in rows.to_pylist())


def texts(rows: pa.Table) -> pa.Table:
    """Return rows for a CSV file: the columns that `cell` would change as text, the others as they are."""
    return pa.table({name: _texts(rows.column(name)) for name in rows.column_names})


def _texts(column: Any) -> Any:
    kind = column.type
    if pa.types.is_decimal(kind):
        return _decimals(column)
    if pa.types.is_timestamp(kind):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ" if kind.tz else "%Y-%m-%dT%H:%M:%S")  # %S has the fraction
    if pa.types.is_binary(kind) or pa.types.is_nested(kind) or pa.types.is_binary_view(kind):
        return pa.array([cell(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def _decimals(column: Any) -> Any:
    """Write decimals without trailing zeros. Arrow writes small ones with an exponent: those are written here."""
    found = pc.cast(column, pa.string()).combine_chunks()
    small = pc.match_substring(found, "E")
    plain = pc.replace_substring_regex(found, r"\.0*$|(\.\d*?)0+$", r"\1")
    if not pc.any(small).as_py():
        return plain
    values = [cell(value) for value in column.filter(small).to_pylist()]
    return pc.replace_with_mask(plain, pc.fill_null(small, False), pa.array(values, pa.string()))
