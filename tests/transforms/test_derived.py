"""Gold's registry: each declaration is whole, and what it calls affected is all that a touched minute changes."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import BY_PATH, GOLD_TABLES, SILVER_TRADES, Table
from lakehouse.transforms.bars import TRADE_COLUMNS
from lakehouse.transforms.derived import DERIVED, GOLD, Derived, windows
from lakehouse.transforms.row_keys import RowKeys
from tests.support.messages import NEW_YEAR

SCHEMA = pa.schema([arrow_schema(SILVER_TRADES).field(name) for name in TRADE_COLUMNS])
MINUTE = 60_000_000
MARKETS = [("binance", "BTC/USDT"), ("kraken", "BTC/USDT"), ("kraken", "ETH/USD")]
#: The writer adds these.
ADDED = {"complete", "is_final", "revision", "updated_at", "bar_date"}

Trade = dict[str, Any]


def trade(rng: Random, number: int, minute: int) -> Trade:
    venue, symbol = rng.choice(MARKETS)
    price = Decimal(rng.randrange(90_000, 110_000)).scaleb(-2)
    at = NEW_YEAR + minute * MINUTE + rng.randrange(MINUTE)
    side, size = rng.choice(["buy", "sell"]), Decimal(rng.randrange(1, 1000)).scaleb(-3)
    values = (venue, symbol, number, price, size, side, at)
    return dict(zip(TRADE_COLUMNS, values, strict=True))


def market(rng: Random) -> list[Trade]:
    """Trades of eight hours, with minutes and hours in which nothing is traded."""
    minutes = [minute for minute in range(480) if rng.random() < 0.4 and not 100 < minute < 360]
    return [trade(rng, number, minute) for number, minute in enumerate(sorted(minutes * 2))]


def table(trades: list[Trade]) -> pa.Table:
    columns = {name: [one[name] for one in trades] for name in TRADE_COLUMNS}
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in TRADE_COLUMNS}, schema=SCHEMA)


def minutes_of(trades: pa.Table) -> RowKeys:
    return windows(RowKeys.of(trades, ("venue", "symbol", "ts_event")), 1).once()


def all_of_gold(settings: Settings, trades: pa.Table) -> dict[str, pa.Table]:
    """Silver's trades and every table of Gold, by path; all rows computed at once."""
    tables, touched = {SILVER_TRADES.path: trades}, minutes_of(trades)
    for one in GOLD:
        rows = tables[one.source.path]
        tables[one.table.path] = one.compute(settings, rows, one.affected(rows, touched))
    return tables


def by_key(of: Table, rows: pa.Table) -> dict[Any, Trade]:
    found = {tuple(row[name] for name in of.key): row for row in rows.to_pylist()}
    assert len(found) == rows.num_rows
    return found


def test_every_table_of_gold_is_declared_once_behind_its_source() -> None:
    assert [one.table for one in GOLD] == list(GOLD_TABLES)
    known = {SILVER_TRADES.path}
    for one in GOLD:
        assert one.source.path in known
        known.add(one.table.path)
        assert set(one.columns) == set(one.table.column_names)
        assert {name for text in one.columns.values() for name in text.split()} <= set(one.source.column_names)
    assert set(DERIVED) == {path for path, table in BY_PATH.items() if table.layer == "gold"}


@pytest.mark.parametrize("one", GOLD, ids=lambda one: one.table.name)
def test_what_is_computed_has_the_tables_columns(one: Derived) -> None:
    rows = all_of_gold(load_settings(), table(market(Random(1))))[one.table.path]
    schema = arrow_schema(one.table)
    wanted = {name: schema.field(name).type for name in schema.names if name not in ADDED}
    assert dict(zip(rows.schema.names, rows.schema.types, strict=True)) == wanted
    assert rows.num_rows or one.table.name == "moves"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["late trade", "lost minute", "new minute"])
def test_only_affected_rows_change(seed: int, kind: str) -> None:
    rng, settings = Random(seed), load_settings()
    settings = settings.model_copy(update={"move_threshold": Decimal("0.02")})
    trades = market(rng)
    some = rng.choice(trades)
    minute = (some["ts_event"] - NEW_YEAR) // MINUTE
    if kind == "lost minute":
        changed = [one for one in trades if one["ts_event"] // MINUTE != some["ts_event"] // MINUTE]
    else:
        new = [trade(rng, 10_000 + number, minute if kind == "late trade" else 200) for number in range(3)]
        changed = [*trades, *new]
    before, after = (all_of_gold(settings, table(rows)) for rows in (trades, changed))
    odd = [one for one in (*trades, *changed) if (one in trades) != (one in changed)]
    touched = minutes_of(table(odd))
    differing = 0
    for one in GOLD:
        rows, key = after[one.source.path], one.table.key
        wanted = one.affected(rows, touched)
        stays = before[one.table.path].filter(pa.array(~RowKeys.of(before[one.table.path], key).among(wanted)))
        whole = by_key(one.table, stays) | by_key(one.table, one.compute(settings, rows, wanted))
        assert whole == by_key(one.table, after[one.table.path]), one.table.path
        differing += by_key(one.table, before[one.table.path]) != whole
        assert len(wanted) == len(wanted.once())
    assert differing >= 5  # or nothing has been tried


def test_a_minute_touches_its_own_windows() -> None:
    touched = RowKeys.of_tuples([("binance", "BTC/USDT", NEW_YEAR + 61 * MINUTE)])
    nothing = pa.table({})
    for minutes, start in ((1, 61), (5, 60), (15, 60), (60, 60), (1440, 0)):
        (one,) = (one for one in GOLD if one.table.path == f"gold/bars_{NAMES[minutes]}")
        assert one.affected(nothing, touched).tuples() == [("binance", "BTC/USDT", NEW_YEAR + start * MINUTE)]
    assert DERIVED["gold/moves"].affected(nothing, touched).tuples() == touched.tuples()
    assert DERIVED["gold/spreads_1m"].affected(nothing, touched).tuples() == [("BTC", "USDT", NEW_YEAR + 61 * MINUTE)]


NAMES = {1: "1m", 5: "5m", 15: "15m", 60: "1h", 1440: "1d"}


def test_windows_are_aligned_to_the_epoch() -> None:
    keys = RowKeys.of_tuples([("v", "A/B", start * MINUTE) for start in (-1, 0, 4, 5)])
    assert windows(keys, 5).start.tolist() == (np.array([-5, 0, 0, 5]) * MINUTE).tolist()
