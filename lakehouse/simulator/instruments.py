"""The instruments of the simulated venues: name, decimals, first trade id, typical price and sizes of each.

An instrument is one symbol on one venue. All values follow from the venue's rules and the symbol's name.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass, field
from functools import cache, cached_property

#: Rough prices of assets in US dollars, so that the market looks like the real one. Others get one by their name.
DOLLARS = {
    "BTC": 63_000.0, "ETH": 3_100.0, "SOL": 145.0, "BNB": 580.0, "XRP": 0.58, "DOGE": 0.12, "ADA": 0.45, "AVAX": 27.0,
    "LTC": 72.0, "LINK": 13.5, "DOT": 6.1, "USDT": 1.0, "USDC": 1.0, "USD": 1.0, "EUR": 1.08, "GBP": 1.27,
}  # fmt: skip
#: Different trade sizes of an instrument: so few that equal trades happen, as they do on the venues.
SIZE_CHOICES = 2048
#: A mean trade is worth about a third more dollars than this. Sizes are log-normal; sigma is that of the Coinbase
#: recording, where the largest of 91 is 333 times the median of its pair.
TYPICAL_DOLLARS = 400.0
SIZE_MEAN, SIZE_SIGMA = -1.5, 1.9


def dollars(asset: str) -> float:
    """Return an asset's price in US dollars: from DOLLARS, else 5 cents to 100 dollars by a hash of its name."""
    known = DOLLARS.get(asset)
    return known if known else 0.05 * 2000 ** ((zlib.crc32(asset.encode()) % 1000) / 1000)


@dataclass(frozen=True)
class Size:
    """A trade size in integers: `value / 10**decimals`; 150 with 2 decimals is written 1.50."""

    value: int
    decimals: int


@dataclass(frozen=True)
class MarketRules:
    """One venue's rules for its instruments: how it writes symbols, prices and sizes, and how much it trades."""

    venue: str
    #: The text between base and quote in the venue's WebSocket name.
    separator: str
    #: The venue's share of all trades, relative to the other venues' weights.
    weight: float
    #: Lowest first trade id of a symbol; the symbol's name adds up to half as much again.
    first_id: int
    #: Significant digits of a price, and the fewest and most decimals that it may have.
    digits: int
    least_decimals: int
    most_decimals: int
    #: Decimals that every price is written with; None: those of its tick (the smallest step of the price).
    written_decimals: int | None = None
    #: True if sizes have fewer than eight decimals, chosen by the size of a typical trade.
    has_coarse_lots: bool = False
    #: True if sizes are written without zeros at the end.
    drops_zeros: bool = False


@dataclass(frozen=True)
class Instrument:
    """One symbol on one simulated venue.

    Prices of trades are integers with `price_decimals` decimals, in multiples of `step`; `price` is a typical price as
    a float, `weight` the share of all trades, `sizes` the sizes that trades are drawn from.
    """

    rules: MarketRules
    symbol: str
    price_decimals: int
    step: int
    first_id: int
    price: float
    weight: float
    sizes: tuple[Size, ...] = field(repr=False)

    @property
    def venue(self) -> str:
        """The venue's name."""
        return self.rules.venue

    @cached_property
    def native(self) -> str:
        """The symbol in the venue's spelling on the WebSocket: BTCUSDT, BTC/USDT or BTC-USDT."""
        return self.symbol.replace("/", self.rules.separator)


@cache
def list_symbol(rules: MarketRules, symbol: str, position: int) -> Instrument:
    """Build the instrument of a canonical symbol under a venue's rules; the same arguments give the same instrument.

    `position` is the symbol's place in the list of symbols, from 0: the earlier, the larger its share of the trades.
    """
    base, quote = symbol.split("/")
    price = dollars(base) / dollars(quote)
    tick_decimals = _tick_decimals(rules, price)
    decimals = tick_decimals if rules.written_decimals is None else rules.written_decimals
    salt = zlib.crc32(f"{rules.venue}/{symbol}".encode())
    return Instrument(
        rules=rules,
        symbol=symbol,
        price_decimals=decimals,
        step=10 ** (decimals - tick_decimals),
        first_id=rules.first_id + salt % (rules.first_id // 2),
        price=price,
        weight=rules.weight / math.sqrt(position + 1),
        sizes=_sizes(rules, TYPICAL_DOLLARS / dollars(base), random.Random(salt)),
    )


def _tick_decimals(rules: MarketRules, price: float) -> int:
    magnitude = math.floor(math.log10(price)) + 1
    return max(rules.least_decimals, min(rules.most_decimals, rules.digits - magnitude))


def _sizes(rules: MarketRules, typical: float, rng: random.Random) -> tuple[Size, ...]:
    lot_decimals = max(0, min(8, 4 - math.floor(math.log10(typical)))) if rules.has_coarse_lots else 8
    choices = []
    for _ in range(SIZE_CHOICES):
        size = max(1, round(typical * rng.lognormvariate(SIZE_MEAN, SIZE_SIGMA) * 10**lot_decimals)) * 10 ** (
            8 - lot_decimals
        )
        decimals = 8
        if rules.drops_zeros:
            while decimals and size % 10 == 0:
                size, decimals = size // 10, decimals - 1
        choices.append(Size(size, decimals))
    return tuple(choices)
