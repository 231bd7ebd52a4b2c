"""Filters of a scan, as values and as SQL. No I/O."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence

from lakehouse.errors import SettingError
from lakehouse.market.symbols import canonical_symbol
from lakehouse.market.venues import VENUES

Value = str | int | dt.datetime | dt.date

#: A column, an operator of SQL, and the value that the column is compared with.
Filter = tuple[str, str, Value]


def literal(value: Value) -> str:
    """Return a value as SQL that DataFusion reads."""
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP '{value.isoformat()}'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def behind(columns: Sequence[str], values: Sequence[Value]) -> str:
    """Return the SQL condition that a row comes after the row with these values, in the order of the columns."""
    (column, *others), (value, *other_values) = columns, values
    later = f'"{column}" > {literal(value)}'
    if not others:
        return later
    return f'("{column}" >= {literal(value)} AND ({later} OR {behind(others, other_values)}))'


def where(filters: Iterable[Filter], *conditions: str) -> str:
    """Return the WHERE clause of filters and conditions, joined by AND; an empty text if there are none."""
    parts = [*(f'"{column}" {sign} {literal(value)}' for column, sign, value in filters), *conditions]
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def market_filters(venue: str | None, symbol: str | None) -> list[Filter]:
    """Return the filters of a market; None is any. Raises SettingError for an unknown venue or a malformed symbol."""
    filters: list[Filter] = []
    if venue is not None:
        if venue not in VENUES:
            near = difflib.get_close_matches(venue, VENUES, n=1)
            raise SettingError(
                f"unknown venue {venue!r}", f"one of {', '.join(VENUES)}", f"did you mean {near[0]}?" if near else ""
            )
        filters.append(("venue", "=", venue))
    if symbol is not None:
        filters.append(("symbol", "=", canonical(symbol)))
    return filters


def canonical(name: str) -> str:
    """Return a symbol in its canonical form. Raises SettingError for text that is not a symbol."""
    try:
        return canonical_symbol(name)
    except ValueError as error:
        raise SettingError(str(error)) from None
