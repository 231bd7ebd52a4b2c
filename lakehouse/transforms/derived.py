"""The registry of Gold: what each table is made of, by which pure function, and which rows a touched minute changes.

The writer, lineage, column lineage, asset specs and checks read it. To add a Gold table: declare its schema in
`lakehouse/tables/gold.py`, write one pure function here in `transforms`, and declare both in `GOLD` below
(docs/recipes.md has the steps).

A column's origin names everything that decides its value, the order of trades or bars included. The keys (venue,
symbol, bar_start), which group the rows, are named only if they are the value. A column without an origin, such as a
revision, comes from no column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.settings import Settings
from lakehouse.tables import (
    BARS,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    SILVER_TRADES,
    SPANS,
    SPREAD_VENUES,
    Table,
)
from lakehouse.transforms import indicators
from lakehouse.transforms.arrow_numpy import kept
from lakehouse.transforms.bars import BAR_KEY, bars_from_trades, roll_up
from lakehouse.transforms.decimal18 import MINUTE_US
from lakehouse.transforms.moves import moves
from lakehouse.transforms.row_keys import RowKeys
from lakehouse.transforms.spreads import pairs_of, spreads


@dataclass(frozen=True)
class Comparison:
    """How the check `follows_bars` compares a table with the one-minute bars.

    `same`: SQL that is true if the bar `b` and the row `d` of one key agree. It is not true if one of them is missing.
    `every_bar`: whether each bar has a row. Otherwise only rows are compared, each of which has a bar.
    `bars` and `derived`: SQL of the two sides, with the filter `{recent}`. `key`: the columns that pair them.
    """

    description: str
    same: str
    every_bar: bool = True
    bars: str = "SELECT * FROM bars WHERE {recent}"
    derived: str = "SELECT * FROM derived WHERE {recent}"
    key: tuple[str, ...] = BAR_KEY

    @property
    def query(self) -> str:
        """SQL that returns one row: how many rows are `expected`, and how many `wrong`, missing or too many."""
        return f"""
            SELECT count(*) AS expected, count(*) FILTER (WHERE ({self.same}) IS NOT TRUE) AS wrong
            FROM ({self.bars}) b {"FULL" if self.every_bar else "RIGHT"} JOIN ({self.derived}) d
            ON {" AND ".join(f"b.{column} = d.{column}" for column in self.key)}
            """


@dataclass(frozen=True)
class Derived:
    """How a Gold table is derived from the table that it reads.

    `columns`: column → the source's columns that decide it, separated by spaces.
    `compute`: rows of the source and the wanted keys in, the rows of the table at these keys out. The source's rows
    must include all that the wanted ones depend on. The writer gives those up to LOOKBACK_MINUTES before and after the
    touched minutes, with the key and the columns that `columns` names. The columns `complete`, `is_final`, `revision`,
    `updated_at` and `bar_date` are not computed: the writer adds them.
    `affected`: rows of the source as they are now, and the keys of one-minute bars whose trades changed, in; the keys
    of all rows that may differ now, out. A row's start is that of a minute or of a longer window of whole minutes.
    `always_growing`: True if it gets new rows at least every five minutes while the market trades.
    `follows`: None if the check `follows_bars` does not apply.
    """

    table: Table
    source: Table
    columns: Mapping[str, str]
    compute: Callable[[Settings, pa.Table, RowKeys], pa.Table]
    affected: Callable[[pa.Table, RowKeys], RowKeys]
    always_growing: bool = False
    follows: Comparison | None = None


def windows(keys: RowKeys, minutes: int) -> RowKeys:
    """Return the keys with each start moved back to the start of the bar of `minutes` minutes that contains it."""
    return keys.starting(keys.start - keys.start % (minutes * MINUTE_US))


def _bars_1m(_: Settings, trades: pa.Table, wanted: RowKeys) -> pa.Table:
    keys = windows(RowKeys.of(trades, ("venue", "symbol", "ts_event")), 1)
    return bars_from_trades(kept(trades, keys.among(wanted)))


def _indicators(_: Settings, bars: pa.Table, wanted: RowKeys) -> pa.Table:
    return indicators.indicators(bars, wanted)


def _indicators_affected(bars: pa.Table, touched: RowKeys) -> RowKeys:
    """Include touched minutes without a bar: their rows have to go."""
    return indicators.affected(bars, touched).plus(touched).once()


def _moves(settings: Settings, bars: pa.Table, wanted: RowKeys) -> pa.Table:
    return moves(kept(bars, RowKeys.of(bars, BAR_KEY).among(wanted)), settings.move_threshold)


def _spreads(_: Settings, bars: pa.Table, wanted: RowKeys) -> pa.Table:
    return spreads(kept(bars, pairs_of(RowKeys.of(bars, BAR_KEY)).among(wanted)))


def _same(_: pa.Table, touched: RowKeys) -> RowKeys:
    """Return the touched minutes themselves."""
    return touched.once()


_REVISION = {"revision": "", "updated_at": ""}


def _longer_bars(minutes: int) -> Derived:
    """Declare bars of `minutes`. Those beyond 5 minutes come from those of 5, which every lakehouse has."""

    def compute(_: Settings, bars: pa.Table, wanted: RowKeys) -> pa.Table:
        return roll_up(kept(bars, windows(RowKeys.of(bars, BAR_KEY), minutes).among(wanted)), minutes)

    same = ("venue", "symbol", "bar_start", "high", "low", "volume", "quote_volume", "trades")
    return Derived(
        table=BARS[minutes],
        source=GOLD_BARS_1M if minutes == 5 else GOLD_BARS_5M,
        columns={
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
        compute=compute,
        affected=lambda _, touched: windows(touched, minutes).once(),
        always_growing=minutes == 5,
    )


#: Every Gold table, each after the table that it is derived from.
GOLD: tuple[Derived, ...] = (
    Derived(
        table=GOLD_BARS_1M,
        source=SILVER_TRADES,
        columns={
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
        compute=_bars_1m,
        affected=_same,
        always_growing=True,
    ),
    *(_longer_bars(minutes) for minutes in BARS if minutes > 1),
    Derived(
        table=GOLD_INDICATORS_1M,
        source=GOLD_BARS_1M,
        columns={
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
        compute=_indicators,
        affected=_indicators_affected,
        always_growing=True,
        follows=Comparison(
            "One row for every one-minute bar, with the prices of the one-minute bars.",
            same="b.close = d.close",
        ),
    ),
    Derived(
        table=GOLD_MOVES,
        source=GOLD_BARS_1M,
        columns={
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
        compute=_moves,
        affected=_same,
        follows=Comparison(
            "Every move is that of a one-minute bar, with the prices of the one-minute bars.",
            same="""b.open = d.from_price AND b.close = d.to_price AND b.trades = d.trades AND b.close <> b.open
                AND d.direction = CASE WHEN b.close > b.open THEN 'up' ELSE 'down' END""",
            every_bar=False,
        ),
    ),
    Derived(
        table=GOLD_SPREADS_1M,
        source=GOLD_BARS_1M,
        columns={
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
        compute=_spreads,
        affected=lambda _, touched: pairs_of(touched).once(),
        always_growing=True,
        follows=Comparison(
            "One row for every minute in which a pair was traded, with the prices of the one-minute bars.",
            # One price for each bar of the pair in the minute, and the right sum of them.
            same="b.venues = d.venues AND b.total = d.total",
            bars="""SELECT symbol, bar_start, count(*) AS venues, sum(close) AS total FROM bars WHERE {recent}
                GROUP BY symbol, bar_start""",
            derived=f"""SELECT concat(base, '/', quote) AS symbol, bar_start, venues,
                {" + ".join(f"coalesce(price_{venue}, 0)" for venue in SPREAD_VENUES)} AS total
                FROM derived WHERE {{recent}}""",
            key=("symbol", "bar_start"),
        ),
    ),
)

#: Path of a Gold table → its declaration.
DERIVED: dict[str, Derived] = {one.table.path: one for one in GOLD}
