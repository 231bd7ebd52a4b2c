"""Trades → one-minute bars, and bars → longer bars. Pure, Arrow to Arrow, the same for stream and rebuild.

A bar is a fold over the trades of one (venue, symbol, minute). A trade's event time decides its minute, and its id
alone decides its order within the minute: a venue gives the time of the same trade more precisely over the socket than
over REST (docs/gold.md), so an order by time would depend on how a trade was received. `lakehouse.tables` describes
each column. All figures are exact decimals. Each product price × size is rounded half-up to 18 decimals, which changes
nothing at the venues' own scales (at most 10 + 8 decimals, docs/venues.md); each of a bar's two quotients is rounded
once. `complete` is not computed here, because it depends on trades outside the bar (`streams/gold_complete.py`).

Trades may come in chunks: `fold` turns each chunk into parts of bars, `joined` merges the parts of each bar, in any
order, and `finished` turns them into bars.

`roll_up` makes longer bars with the same fold, so they equal bars folded directly from the trades:

- windows are aligned to the epoch, UTC: a day's bar starts at 00:00 UTC, whatever the first trade;
- open comes from the bar with the lowest trade id, close from the bar with the highest, even if a venue's ids and times
  disagree across minutes; high and low are the extremes;
- volume, quote_volume, buy_volume, sell_volume and trades are exact sums;
- first_trade_id is the lowest and last_trade_id the highest of the window's bars;
- vwap and pressure are computed from the exact sums, half-up to 18 decimals, and are not averages of the shorter bars'
  rounded figures. So 1 → 5 → 60 minutes equals 1 → 60.

Minutes without trades have no bar and add nothing; a window without bars gives no bar. The first window of a series,
and the window of the newest trade, give a bar of what is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import TerminalError
from lakehouse.lake import table_io
from lakehouse.tables import GOLD_BARS_1M
from lakehouse.transforms.arrow_numpy import Integers, coded, differs, integers
from lakehouse.transforms.decimal18 import MINUTE_US
from lakehouse.transforms.int128 import Int128
from lakehouse.transforms.quotients import half_up_products, quotient_column
from lakehouse.transforms.row_keys import RowKeys, codes

BAR_KEY = ("venue", "symbol", "bar_start")

#: Columns of a bar that come from its trades; `complete`, `revision` and `updated_at` are the stream's.
BAR_VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trades",
    "buy_volume",
    "sell_volume",
    "pressure",
    "first_trade_id",
    "last_trade_id",
)

#: Columns of silver/trades that `fold` reads.
TRADE_COLUMNS = ("venue", "symbol", "trade_id", "price", "size", "side", "ts_event")

#: Columns that `roll_up` reads from a shorter bar.
SHORTER_COLUMNS = (
    *BAR_KEY,
    *("open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "trades"),
    *("first_trade_id", "last_trade_id"),
)

_MICROS = pa.timestamp("us", tz="UTC")
_FIGURE = pa.decimal128(38, 18)
#: Wide enough for sums of any number of rows, and for all 36 decimals of a product.
_WIDE: Any = pa.decimal256(76, 18)
_FACTORS: Any = pa.decimal256(37, 18), pa.decimal256(38, 18)

#: Trades that are folded at once. Silver's rules bound each size and notional by 10¹⁵, so a sum of so many stays below
#: the 10²⁰ of DECIMAL(38,18), beyond which Arrow's sums would wrap around.
FOLD_ROWS = 65_536

_SUMS = ("volume", "quote_volume", "buy_volume", "trades")

#: Parts of bars. `open` is the price of the trade first_trade_id, `close` that of last_trade_id; `newest_ts` is the
#: latest event time, whichever trade has it.
PARTS = pa.schema(
    [
        ("venue", pa.string()),
        ("symbol", pa.string()),
        ("bar_start", pa.int64()),  # µs since the epoch, UTC
        *((name, _FIGURE) for name in ("open", "high", "low", "close")),
        ("newest_ts", pa.int64()),  # µs since the epoch, UTC
        *((name, _WIDE) for name in ("volume", "quote_volume", "buy_volume")),
        *((name, pa.int64()) for name in ("trades", "first_trade_id", "last_trade_id")),
    ]
)


def fold(trades: pa.Table) -> pa.Table:
    """Fold trades (TRADE_COLUMNS of silver/trades) into parts of bars (PARTS), one per bar, sorted by BAR_KEY."""
    starts = range(0, trades.num_rows, FOLD_ROWS)
    parts = [_fold(trades.slice(start, FOLD_ROWS).combine_chunks()) for start in starts]
    return parts[0] if len(parts) == 1 else joined([PARTS.empty_table(), *parts])


def _fold(trades: pa.Table) -> pa.Table:
    """Fold at most FOLD_ROWS trades into one part per bar."""
    venues, venue = coded(trades.column("venue"))
    symbols, symbol = coded(trades.column("symbol"))
    times = integers(trades.column("ts_event").cast(_MICROS))
    ids = integers(trades.column("trade_id"))
    minute = times // MINUTE_US
    earliest, minutes = minute.min(), np.ptp(minute) + 1
    bar = (venue.astype(np.int64) * len(symbols) + symbol) * minutes + (minute - earliest)
    order = np.lexsort((ids, bar))
    starts = np.flatnonzero(differs(bar[order]))
    opens, closes = order[starts], order[np.append(starts[1:], len(order)) - 1]
    price, size = trades.column("price").take(order), trades.column("size").take(order)
    is_buy = pc.equal(trades.column("side").take(order), pa.scalar("buy"))
    figures = pa.table(
        {
            "bar": bar[order],
            "price": price,
            "volume": size,
            "quote_volume": notional(price, size),
            "buy_volume": pc.if_else(is_buy, size, pa.scalar(0).cast(_FIGURE)),
        }
    )
    # Arrow does not promise an order of groups; sorted, they are in the order of `starts`.
    folded = (
        figures.group_by("bar")
        .aggregate([("price", "max"), ("price", "min"), *((name, "sum") for name in _SUMS if name != "trades")])
        .sort_by("bar")
    )
    prices = trades.column("price")
    columns = {
        "venue": pa.array(venues).take(venue[opens]),
        "symbol": pa.array(symbols).take(symbol[opens]),
        "bar_start": minute[opens] * MINUTE_US,
        "open": prices.take(opens),
        "high": folded.column("price_max"),
        "low": folded.column("price_min"),
        "close": prices.take(closes),
        "newest_ts": np.maximum.reduceat(times[order], starts),
        **{name: folded.column(f"{name}_sum").cast(_WIDE) for name in _SUMS if name != "trades"},
        "trades": np.diff(starts, append=len(order)),
        "first_trade_id": ids[opens],
        "last_trade_id": ids[closes],
    }
    return pa.table({field.name: columns[field.name] for field in PARTS}, schema=PARTS)


def notional(price: Any, size: Any) -> Any:
    """Multiply price and size, half-up to 18 decimals. Silver's rules bound prices by 10¹² and sizes by 10¹⁵."""
    # 37 + 38 digits and one more make the 76 of Arrow's widest decimal.
    product = pc.multiply(price.cast(_FACTORS[0]), size.cast(_FACTORS[1]))
    found = half_up_products(product.combine_chunks() if isinstance(product, pa.ChunkedArray) else product)
    if not found.fit.all():
        raise TerminalError(
            f"a price times a size of {pc.max(product).as_py():.3e}",
            "a figure that fits decimal(38,18)",
            "look at the prices and sizes",
        )
    return found.column()


def joined(parts: Iterable[pa.Table]) -> pa.Table:
    """Merge parts (PARTS), in any order, into one per bar, sorted by BAR_KEY."""
    rows = pa.concat_tables(parts).combine_chunks()
    if not rows.num_rows:
        return rows
    bar = codes(RowKeys.of(rows, BAR_KEY))[0]
    order = np.argsort(bar, kind="stable")
    begins = differs(bar[order])
    alone = begins & np.append(begins[1:], True)
    if alone.all():
        return rows.take(order)
    # Many bars have only one part, which is taken as it is.
    number = np.cumsum(begins) - 1
    several = _joined(rows.take(order[~alone]).combine_chunks(), number[~alone])
    single = rows.take(order[alone])
    places = np.argsort(np.concatenate([number[alone], number[begins & ~alone]]))
    return pa.concat_tables([single, several]).take(places).combine_chunks()


def _joined(rows: pa.Table, bar: Integers) -> pa.Table:
    """Merge parts sorted by BAR_KEY into one per bar; `bar` is the number of each part's bar in that order."""
    begins = differs(bar)
    starts, of_bar = np.flatnonzero(begins), np.cumsum(begins) - 1
    opens = _lowest(integers(rows.column("first_trade_id")), starts, of_bar)
    closes = _lowest(-integers(rows.column("last_trade_id")), starts, of_bar)
    figures: Any = [("high", "max"), ("low", "min"), *((name, "sum") for name in _SUMS if name != "trades")]
    # Arrow does not promise an order of groups; sorted, they are in the order of `starts`.
    folded = (
        rows.select([name for name, _ in figures])
        .append_column("bar", pa.array(bar))
        .group_by("bar", use_threads=False)
        .aggregate(figures)
        .sort_by("bar")
    )
    columns: dict[str, Any] = {
        **{name: rows.column(name).take(opens) for name in (*BAR_KEY, "open", "first_trade_id")},
        **{name: rows.column(name).take(closes) for name in ("close", "last_trade_id")},
        **{name: folded.column(f"{name}_{how}") for name, how in figures},
        "trades": pa.array(np.add.reduceat(integers(rows.column("trades")), starts)),
        "newest_ts": pa.array(np.maximum.reduceat(integers(rows.column("newest_ts")), starts)),
    }
    return pa.table({field.name: columns[field.name].cast(field.type) for field in PARTS}, schema=PARTS)


def _lowest(values: Integers, starts: Integers, of_bar: Integers) -> Integers:
    """Return for each bar its first row with the lowest value; the rows of a bar are adjacent."""
    is_lowest = values == np.minimum.reduceat(values, starts)[of_bar]
    rows = np.where(is_lowest, np.arange(len(values)), len(values))
    found: Integers = np.minimum.reduceat(rows, starts)
    return found


def finished(parts: pa.Table) -> pa.Table:
    """Turn parts, one per bar and sorted by BAR_KEY, into bars (BAR_KEY and BAR_VALUES).

    Raises TerminalError if a sum does not fit DECIMAL(38,18).
    """
    sums = {}
    for name in ("volume", "quote_volume", "buy_volume"):
        try:
            sums[name] = parts.column(name).cast(_FIGURE)
        except pa.ArrowInvalid:
            raise TerminalError(
                f"{name} of a bar would be {pc.max(parts.column(name)).as_py():.3e}",
                "a figure that fits decimal(38,18)",
                "look at the prices and sizes of its trades",
            ) from None
    volume, quote_volume, buys = (Int128.of(column) for column in sums.values())
    sells = volume.minus(buys)
    made = {
        "sell_volume": sells.decimals(),
        "vwap": quotient_column(pa.field("vwap", _FIGURE, False), quote_volume, volume),
        "pressure": quotient_column(pa.field("pressure", _FIGURE, False), buys.minus(sells), volume),
    }
    columns = {
        **{name: parts.column(name) for name in parts.column_names},
        **sums,
        **made,
        "bar_start": parts.column("bar_start").cast(_MICROS),
    }
    return pa.table({name: columns[name] for name in (*BAR_KEY, *BAR_VALUES)})


def bars_from_trades(trades: pa.Table) -> pa.Table:
    """Fold trades (TRADE_COLUMNS of silver/trades) into one-minute bars (BAR_KEY and BAR_VALUES), sorted by BAR_KEY.

    Raises TerminalError if a sum does not fit DECIMAL(38,18).
    """
    return finished(fold(trades))


def roll_up(bars: pa.Table, minutes: int) -> pa.Table:
    """Make bars of `minutes`, which divide a day, from shorter bars (SHORTER_COLUMNS) in any order; each key once.

    All shorter bars of a window must be given: a missing one cannot be noticed here. Columns BAR_KEY and BAR_VALUES,
    sorted by BAR_KEY. Raises TerminalError if a sum does not fit DECIMAL(38,18).
    """
    fields = table_io.arrow_schema(GOLD_BARS_1M)  # bars of all sizes have the same columns
    starts = integers(bars.column("bar_start").cast(fields.field("bar_start").type))
    # Each shorter bar is a part of the longer one. The time of its newest trade is not known and not needed.
    made = {"bar_start": starts - starts % (minutes * MINUTE_US), "newest_ts": starts}
    parts = pa.table({name: made[name] if name in made else bars.column(name) for name in PARTS.names})
    schema = pa.schema([fields.field(name) for name in (*BAR_KEY, *BAR_VALUES)])
    return finished(joined([parts.cast(PARTS)])).cast(schema)
