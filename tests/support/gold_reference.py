"""The judge of Gold: computes independently, from a table of trades, what every Gold table must hold.

Independent on purpose: no Spark, nothing of `lakehouse.transforms` or `lakehouse.streams`; the rules are the column
descriptions in `lakehouse.tables.gold`. DuckDB groups, joins and sums, in exact decimals only. Quotients and
logarithms, for which DuckDB would go to floating point, are made in Python's integers and decimals on the aggregated
rows. Every size of bar is folded from the trades themselves, so that a fold of shorter bars is judged, too.

Times are integer microseconds since the epoch. DuckDB spills to disk beyond MEMORY: five million trades fit anywhere.
Limit: prices of more than 10 and sizes of more than 8 decimals, which no real venue sends, are refused.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.tables import (
    BARS,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    LOOKBACK_MINUTES,
    SPANS,
    SPREAD_VENUES,
)

Row = dict[str, Any]

MEMORY = "6GB"
THREADS = 2
MINUTE_US = 60_000_000
DEFAULT_THRESHOLD = Decimal("0.02")

#: 60 digits: the ratio of two prices of 38 digits, and its logarithm, are right far beyond the 18th decimal.
_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_UP)
_UNIT = Decimal(1).scaleb(-18)


# ---------------------------------------------------------------------------------------------------- exact figures


def quotient(numerator: Decimal | int, denominator: Decimal | int) -> Decimal:
    """numerator ÷ denominator at 18 decimals, ties away from zero; computed with integers, so rounded once."""
    (top, over), (bottom, under) = Decimal(numerator).as_integer_ratio(), Decimal(denominator).as_integer_ratio()
    top, bottom = top * under * 10**18, bottom * over
    magnitude = (2 * abs(top) + bottom) // (2 * bottom)
    return Decimal(f"{magnitude if top >= 0 else -magnitude}E-18")


def logarithm(value: Decimal, base: Decimal) -> Decimal:
    """ln(value ÷ base), half-up to 18 decimals."""
    return _WIDE.quantize(_WIDE.ln(_WIDE.divide(value, base)), _UNIT)


# ---------------------------------------------------------------------------------------------------- the reference


def reference(
    trades: pa.Table | Path | str,
    sizes: Sequence[int] = tuple(BARS),
    threshold: Decimal = DEFAULT_THRESHOLD,
) -> dict[str, list[Row]]:
    """Table path → its rows by key, as plain dicts, without `revision`, `updated_at` and `gold_verdict.DERIVED`.

    `trades` is an Arrow table, or the path of a Parquet file, of venue, symbol, trade_id, price, size, side, ts_event
    (a timestamp, or µs since the epoch); each id once. `sizes` are lengths of bars in minutes.
    """
    with duckdb.connect() as connection, decimal.localcontext(_WIDE):
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}")
        connection.execute("SET preserve_insertion_order = false")  # which is what would cost memory
        _load(connection, trades)
        bars = {minutes: _bars(connection, minutes) for minutes in sorted({1, *sizes})}
        return {
            **{BARS[minutes].path: bars[minutes] for minutes in sizes},
            GOLD_INDICATORS_1M.path: _indicators(connection),
            GOLD_MOVES.path: _moves(connection, threshold),
            GOLD_SPREADS_1M.path: _spreads(connection),
        }


def _load(connection: duckdb.DuckDBPyConnection, trades: pa.Table | Path | str) -> None:
    """The tables `trades` and `islands`: the unbroken ranges of ids of each (venue, symbol)."""
    if isinstance(trades, pa.Table):
        connection.register("given", trades)
    else:
        connection.execute("CREATE VIEW given AS FROM read_parquet('{}')".format(str(trades).replace("'", "''")))
    types = {name: kind for name, kind, *_ in connection.execute("DESCRIBE given").fetchall()}
    micros = "epoch_us(ts_event)" if types["ts_event"].startswith("TIMESTAMP") else "ts_event"
    # 10 + 8 decimals in 20 + 18 digits: the product is exact in DECIMAL(38, 18), and DuckDB raises where it overflows.
    connection.execute(
        f"""
        CREATE TABLE trades AS
        SELECT venue::VARCHAR AS venue, symbol::VARCHAR AS symbol, trade_id::BIGINT AS trade_id,
               price::DECIMAL(20, 10) AS price, size::DECIMAL(18, 8) AS size, side::VARCHAR AS side,
               ({micros})::BIGINT AS ts, price <> price::DECIMAL(20, 10) OR size <> size::DECIMAL(18, 8) AS too_fine
        FROM given
        """
    )
    bad = connection.execute(
        "SELECT venue, symbol, trade_id FROM trades WHERE too_fine OR side NOT IN ('buy', 'sell') LIMIT 1"
    ).fetchone()
    if bad:
        raise ValueError(f"trade {bad}: expected 10 + 8 decimals at most, and a side of buy or sell")
    connection.execute(
        """
        CREATE TABLE islands AS
        SELECT venue, symbol, min(trade_id) AS lowest, max(trade_id) AS highest, count(*) AS ids
        FROM (SELECT venue, symbol, trade_id,
                     trade_id - dense_rank() OVER (PARTITION BY venue, symbol ORDER BY trade_id) AS island FROM trades)
        GROUP BY venue, symbol, island
        """
    )
    twice = connection.execute("SELECT venue, symbol FROM islands WHERE ids <> highest - lowest + 1").fetchone()
    if twice:
        raise ValueError(f"{twice}: some id is there more than once; expected the true trades, each once")


def _rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
    found = connection.execute(query, parameters)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def _bars(connection: duckdb.DuckDBPyConnection, minutes: int) -> list[Row]:
    length = minutes * MINUTE_US
    connection.execute(
        f"""
        CREATE TABLE bars_{minutes} AS
        WITH folded AS (
            SELECT venue, symbol, ts - ts % {length} AS bar_start,
                   arg_min(price, trade_id) AS open, max(price) AS high, min(price) AS low,
                   arg_max(price, trade_id) AS close,
                   sum(size) AS volume, sum(price * size) AS quote_volume, count(*) AS trades,
                   coalesce(sum(size) FILTER (WHERE side = 'buy'), 0) AS buy_volume,
                   coalesce(sum(size) FILTER (WHERE side = 'sell'), 0) AS sell_volume,
                   min(trade_id) AS first_trade_id, max(trade_id) AS last_trade_id
            FROM trades GROUP BY ALL
        )
        SELECT f.*, i.venue IS NOT NULL AS complete
        FROM folded f LEFT JOIN islands i
          ON i.venue = f.venue AND i.symbol = f.symbol
         AND i.lowest < f.first_trade_id AND i.highest > f.last_trade_id
        """
    )
    rows = _rows(connection, f"FROM bars_{minutes} ORDER BY venue, symbol, bar_start")
    for row in rows:
        row["vwap"] = quotient(row["quote_volume"], row["volume"])
        row["pressure"] = quotient(row["buy_volume"] - row["sell_volume"], row["volume"])
    return rows


def _indicators(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    sums = ", ".join(
        f"""count(*) OVER w{span} AS bars_{span}, min(bar_start) OVER w{span} AS since_{span},
            sum(close) OVER w{span} AS closes_{span}, sum(volume) OVER w{span} AS volume_{span},
            sum(quote_volume) OVER w{span} AS quote_{span}"""
        for span in SPANS
    )
    by_time = "PARTITION BY venue, symbol ORDER BY bar_start"
    windows = ", ".join(f"w{span} AS ({by_time} ROWS BETWEEN {span - 1} PRECEDING AND CURRENT ROW)" for span in SPANS)
    query = f"""
        SELECT venue, symbol, bar_start, close, {sums},
               lag(close) OVER w AS before, lag(bar_start) OVER w AS start_before
        FROM bars_1 WINDOW w AS ({by_time}), {windows} ORDER BY venue, symbol, bar_start
    """
    return [_indicator(row) for row in _rows(connection, query)]


def _indicator(bar: Row) -> Row:
    row = {name: bar[name] for name in ("venue", "symbol", "bar_start", "close")}
    #: A bar that starts at this moment is too old by a hair.
    too_old = bar["bar_start"] - LOOKBACK_MINUTES * MINUTE_US
    for span in SPANS:
        enough = bar[f"bars_{span}"] == span and bar[f"since_{span}"] > too_old
        row[f"sma_{span}"] = quotient(bar[f"closes_{span}"], span) if enough else None
        row[f"vwap_{span}"] = quotient(bar[f"quote_{span}"], bar[f"volume_{span}"]) if enough else None
    row |= {"minutes_since_previous": None, "simple_return": None, "log_return": None}
    if bar["start_before"] is not None and bar["start_before"] > too_old:
        row["minutes_since_previous"] = (bar["bar_start"] - bar["start_before"]) // MINUTE_US
        row["simple_return"] = quotient(bar["close"] - bar["before"], bar["before"])
        row["log_return"] = logarithm(bar["close"], bar["before"])
    return row


def _moves(connection: duckdb.DuckDBPyConnection, threshold: Decimal) -> list[Row]:
    """Moves: the minutes with |close − open| > threshold × open, compared exactly."""
    query = """
        SELECT venue, symbol, bar_start, open AS from_price, close AS to_price, trades, volume
        FROM bars_1 WHERE open <> close ORDER BY venue, symbol, bar_start
    """
    moves = []
    for row in _rows(connection, query):
        distance = row["to_price"] - row["from_price"]
        if abs(distance) > threshold * row["from_price"]:
            row["direction"] = "up" if distance > 0 else "down"
            row["change"] = quotient(distance, row["from_price"])
            moves.append(row)
    return moves


def _spreads(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    prices = ", ".join(f"any_value(close) FILTER (WHERE venue = '{venue}') AS price_{venue}" for venue in SPREAD_VENUES)
    query = f"""
        SELECT split_part(symbol, '/', 1) AS base, split_part(symbol, '/', 2) AS quote, bar_start, {prices}
        FROM bars_1 WHERE venue IN {SPREAD_VENUES} GROUP BY ALL ORDER BY base, quote, bar_start
    """
    return [
        row | _spread({venue: row[f"price_{venue}"] for venue in SPREAD_VENUES}) for row in _rows(connection, query)
    ]


def _spread(prices: Mapping[str, Decimal | None]) -> Row:
    """Spreads. If prices are equal, min and max take the first venue in the order of SPREAD_VENUES."""
    there = {venue: price for venue, price in prices.items() if price is not None}
    if len(there) < 2:
        nothing = ("lowest_venue", "highest_venue", "spread", "spread_bps")
        return {"venues": len(there)} | dict.fromkeys(nothing)
    lowest, highest = min(there, key=there.__getitem__), max(there, key=there.__getitem__)
    spread = there[highest] - there[lowest]
    return {
        "venues": len(there),
        "lowest_venue": lowest,
        "highest_venue": highest,
        "spread": spread,
        "spread_bps": quotient(spread * 10_000, there[lowest]),
    }
