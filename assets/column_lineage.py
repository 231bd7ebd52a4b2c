"""Which column of Gold comes from which columns, declared as data.

A column is named here with everything that decides its value, the order of trades or bars included. One that comes from
no column, such as a revision, has none. The keys (venue, symbol, bar_start), which group the rows, are named only where
they are the value.
"""

from __future__ import annotations

from dagster import TableColumnDep, TableColumnLineage

from assets.lineage import UPSTREAM, table_key
from lakehouse.tables import BARS, SPANS, SPREAD_VENUES, Table

#: Columns of a table → the upstream columns, each as (table path, column).
Columns = dict[str, tuple[tuple[str, str], ...]]

_REVISION: dict[str, str] = {"revision": "", "updated_at": ""}


def _from(path: str, columns: dict[str, str]) -> Columns:
    """Written with spaces for short: `{"open": "price trade_id"}`, all from one table."""
    return {name: tuple((path, column) for column in upstream.split()) for name, upstream in columns.items()}


def _first_bars() -> Columns:
    return _from(
        "silver/trades",
        {
            "venue": "venue",
            "symbol": "symbol",
            "bar_start": "ts_event",
            "open": "price trade_id",
            "high": "price",
            "low": "price",
            "close": "price trade_id",
            "volume": "size",
            "quote_volume": "price size",
            "vwap": "price size",
            "trades": "trade_id",
            "buy_volume": "size side",
            "sell_volume": "size side",
            "pressure": "size side",
            "first_trade_id": "trade_id",
            "last_trade_id": "trade_id",
            "complete": "trade_id",
            "is_final": "ts_event",
            "bar_date": "ts_event",
            **_REVISION,
        },
    )


def _longer_bars(table: Table) -> Columns:
    (shorter,) = UPSTREAM[table.path]
    same = ("venue", "symbol", "bar_start", "high", "low", "volume", "quote_volume", "trades")
    return _from(
        shorter,
        {
            **{name: name for name in (*same, "buy_volume", "sell_volume", "first_trade_id", "last_trade_id")},
            "open": "open first_trade_id",
            "close": "close last_trade_id",
            "vwap": "quote_volume volume",
            "pressure": "buy_volume sell_volume volume",
            "complete": "complete first_trade_id last_trade_id",
            "is_final": "is_final bar_start",
            "bar_date": "bar_start",
            **_REVISION,
        },
    )


def _indicators() -> Columns:
    return _from(
        "gold/bars_1m",
        {
            "venue": "venue",
            "symbol": "symbol",
            "bar_start": "bar_start",
            "close": "close",
            **{f"sma_{span}": "close bar_start" for span in SPANS},
            **{f"vwap_{span}": "quote_volume volume bar_start" for span in SPANS},
            "minutes_since_previous": "bar_start",
            "simple_return": "close bar_start",
            "log_return": "close bar_start",
            "bar_date": "bar_date",
            **_REVISION,
        },
    )


def _moves() -> Columns:
    return _from(
        "gold/bars_1m",
        {
            "venue": "venue",
            "symbol": "symbol",
            "bar_start": "bar_start",
            "direction": "open close",
            "from_price": "open",
            "to_price": "close",
            "change": "open close",
            "trades": "trades",
            "volume": "volume",
            "bar_date": "bar_date",
            **_REVISION,
        },
    )


def _spreads() -> Columns:
    return _from(
        "gold/bars_1m",
        {
            "base": "symbol",
            "quote": "symbol",
            "bar_start": "bar_start",
            **{f"price_{venue}": "close venue" for venue in SPREAD_VENUES},
            "venues": "venue",
            "lowest_venue": "venue close",
            "highest_venue": "venue close",
            "spread": "close",
            "spread_bps": "close",
            "bar_date": "bar_date",
            **_REVISION,
        },
    )


#: Path of a Gold table → its columns' origins.
COLUMN_LINEAGE: dict[str, Columns] = {
    "gold/bars_1m": _first_bars(),
    **{table.path: _longer_bars(table) for minutes, table in BARS.items() if minutes > 1},
    "gold/indicators_1m": _indicators(),
    "gold/moves": _moves(),
    "gold/spreads_1m": _spreads(),
}


def column_lineage(table: Table) -> TableColumnLineage | None:
    """A table's column lineage as Dagster writes it, None where none is declared (outside Gold)."""
    columns = COLUMN_LINEAGE.get(table.path)
    if columns is None:
        return None
    return TableColumnLineage(
        {
            name: [TableColumnDep(asset_key=table_key(path), column_name=column) for path, column in upstream]
            for name, upstream in columns.items()
        }
    )


def origin(table: Table, column: str) -> str:
    """A column's origin for people, `From silver.trades: price, size.`; empty where it has none."""
    by_table: dict[str, list[str]] = {}
    for path, name in COLUMN_LINEAGE.get(table.path, {}).get(column, ()):
        by_table.setdefault(path.replace("/", "."), []).append(name)
    places = [f"{path}: {', '.join(names)}" for path, names in by_table.items()]
    return f"From {'; '.join(places)}." if places else ""
