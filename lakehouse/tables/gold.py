"""Gold: the market data. Every table is a pure function of silver/trades and the settings, except for three columns.

The three are `revision`, `updated_at`, and `is_final`, which may also become true by the clock.
All quotients are rounded once, half-up, to 18 decimals; sums are exact.
"""

from __future__ import annotations

from lakehouse.market.venues import VENUES
from lakehouse.tables.model import DECIMAL, Column, Table

#: Name of a bar size → its length in minutes. Each is a multiple of the one before, because longer bars are folded from
#: shorter ones.
BAR_MINUTES: dict[str, int] = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}

#: Venues with a price column in gold/spreads_1m.
SPREAD_VENUES = VENUES

#: Numbers of bars that the simple moving averages and the rolling VWAPs in gold/indicators_1m cover.
SPANS = (5, 20, 60)

#: Minutes before a bar's start from which on its indicators ignore earlier bars. So a late trade changes the indicators
#: of a bounded number of bars.
LOOKBACK_MINUTES = 240


def _revision() -> tuple[Column, ...]:
    return (
        Column("revision", "bigint", "1 when first written, plus 1 whenever the content changed."),
        Column("updated_at", "timestamp", "When this revision was written, UTC."),
        Column("bar_date", "date", "UTC date of bar_start."),
    )


def _bars(name: str, minutes: int) -> Table:
    return Table(
        layer="gold",
        name=name,
        grain="One row per (venue, symbol, bar start).",
        key=("venue", "symbol", "bar_start"),
        partition_by=("bar_date",),
        columns=(
            Column("venue", "string", "Exchange."),
            Column("symbol", "string", "Canonical symbol."),
            Column("bar_start", "timestamp", f"Start of the {minutes}-minute bar, UTC, inclusive."),
            Column("open", DECIMAL, "Price of the trade first_trade_id: trades are ordered by id, not by time."),
            Column("high", DECIMAL, "Highest price."),
            Column("low", DECIMAL, "Lowest price."),
            Column("close", DECIMAL, "Price of the trade last_trade_id."),
            Column("volume", DECIMAL, "Base units traded."),
            Column(
                "quote_volume",
                DECIMAL,
                "Sum of price × size; each product half-up to 18 decimals, exact for the venues' own scales.",
            ),
            Column("vwap", DECIMAL, "quote_volume ÷ volume, half-up to 18 decimals."),
            Column("trades", "bigint", "Number of trades."),
            Column("buy_volume", DECIMAL, "Base units in trades whose taker bought."),
            Column("sell_volume", DECIMAL, "Base units in trades whose taker sold."),
            Column("pressure", DECIMAL, "(buy_volume − sell_volume) ÷ volume, half-up to 18 decimals; −1 to 1."),
            Column("first_trade_id", "bigint", "Lowest trade id of the bar; its trade opens it."),
            Column("last_trade_id", "bigint", "Highest trade id of the bar; its trade closes it."),
            Column(
                "complete",
                "boolean",
                "Proved by ids: every id from the one before first_trade_id to the one behind last_trade_id is in "
                "silver/trades, so no trade of this bar can be missing. The newest bar is not, until the next trade.",
            ),
            Column(
                "is_final",
                "boolean",
                "The bar is over: its symbol has traded past its end by the setting final_after_seconds, or the clock "
                "is so far past it and everything received has been read. A trade that comes even later changes "
                "the bar, with a new revision.",
            ),
            *_revision(),
        ),
    )


#: Length in minutes → the table of these bars. Bars of one and five minutes always exist; the setting `bar_sizes`
#: selects the others.
BARS: dict[int, Table] = {minutes: _bars(f"bars_{name}", minutes) for name, minutes in BAR_MINUTES.items()}
GOLD_BARS_1M = BARS[1]
GOLD_BARS_5M = BARS[5]

_WINDOW = ("the last {span} bars up to this one; missing if the {hours} hours up to this one hold fewer").format(
    span="{span}", hours=LOOKBACK_MINUTES // 60
)

GOLD_INDICATORS_1M = Table(
    layer="gold",
    name="indicators_1m",
    grain="One row per (venue, symbol, one-minute bar start).",
    key=("venue", "symbol", "bar_start"),
    partition_by=("bar_date",),
    columns=(
        Column("venue", "string", "Exchange."),
        Column("symbol", "string", "Canonical symbol."),
        Column("bar_start", "timestamp", "Start of the one-minute bar, UTC, inclusive. Only minutes with trades."),
        Column("close", DECIMAL, "The bar's close."),
        *(
            Column(f"sma_{span}", DECIMAL, f"Mean close of {_WINDOW.format(span=span)}.", nullable=True)
            for span in SPANS
        ),
        *(
            Column(f"vwap_{span}", DECIMAL, f"Quote volume ÷ volume of {_WINDOW.format(span=span)}.", nullable=True)
            for span in SPANS
        ),
        Column(
            "minutes_since_previous",
            "int",
            "Minutes from the start of the bar before to this one; 1 if the minute before had trades. Missing if the "
            f"{LOOKBACK_MINUTES // 60} hours before hold no bar, as are both returns.",
            nullable=True,
        ),
        Column("simple_return", DECIMAL, "close ÷ close of the bar before − 1.", nullable=True),
        Column("log_return", DECIMAL, "Natural logarithm of close ÷ close of the bar before.", nullable=True),
        *_revision(),
    ),
)

GOLD_MOVES = Table(
    layer="gold",
    name="moves",
    grain="One row per (venue, symbol, minute) whose price moved beyond the threshold from open to close.",
    key=("venue", "symbol", "bar_start"),
    partition_by=("bar_date",),
    columns=(
        Column("venue", "string", "Exchange."),
        Column("symbol", "string", "Canonical symbol."),
        Column("bar_start", "timestamp", "Start of the minute, UTC, inclusive."),
        Column("direction", "string", "up or down."),
        Column("from_price", DECIMAL, "Open of the minute."),
        Column("to_price", DECIMAL, "Close of the minute."),
        Column(
            "change",
            DECIMAL,
            "to_price ÷ from_price − 1; its size is above the setting move_threshold. Missing from 10²⁰ on.",
            nullable=True,
        ),
        Column("trades", "bigint", "Trades of the minute."),
        Column("volume", DECIMAL, "Base units traded in the minute."),
        *_revision(),
    ),
)

GOLD_SPREADS_1M = Table(
    layer="gold",
    name="spreads_1m",
    grain="One row per (base asset, quote currency, minute) in which at least one venue traded it.",
    key=("base", "quote", "bar_start"),
    partition_by=("bar_date",),
    columns=(
        Column("base", "string", "Base asset, such as BTC."),
        Column("quote", "string", "Quote currency, such as USDT. USD and USDT are different: no price is converted."),
        Column("bar_start", "timestamp", "Start of the minute, UTC, inclusive."),
        *(
            Column(
                f"price_{venue}",
                DECIMAL,
                f"Close of the minute at {venue.capitalize()}; missing if the pair did not trade there.",
                nullable=True,
            )
            for venue in SPREAD_VENUES
        ),
        Column("venues", "int", "Venues with a price in this minute."),
        Column("lowest_venue", "string", "Venue of the lowest price; missing below two venues.", nullable=True),
        Column("highest_venue", "string", "Venue of the highest price; missing below two venues.", nullable=True),
        Column(
            "spread", DECIMAL, "Highest minus lowest price, in quote units; missing below two venues.", nullable=True
        ),
        Column("spread_bps", DECIMAL, "spread ÷ lowest price × 10,000; missing below two venues.", nullable=True),
        *_revision(),
    ),
)

#: Every table of Gold that there can be, in the order in which they are written.
GOLD_TABLES: tuple[Table, ...] = (*BARS.values(), GOLD_INDICATORS_1M, GOLD_MOVES, GOLD_SPREADS_1M)
