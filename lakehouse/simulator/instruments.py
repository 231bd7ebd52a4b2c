"""The instruments of each venue: names, decimals, first ids, typical prices and sizes of a (venue, symbol). Seeded."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass, field
from functools import cache, cached_property

#: Rough prices in US dollars, so that the synthetic market looks like the real one. Others get a seeded price.
DOLLARS = {
    "BTC": 63_000.0, "ETH": 3_100.0, "SOL": 145.0, "BNB": 580.0, "XRP": 0.58, "DOGE": 0.12, "ADA": 0.45, "AVAX": 27.0,
    "LTC": 72.0, "LINK": 13.5, "DOT": 6.1, "USDT": 1.0, "USDC": 1.0, "USD": 1.0, "EUR": 1.08, "GBP": 1.27,
}  # fmt: skip
#: So few that equal trades happen, as they do on the venues: only the id tells them apart.
SIZE_CHOICES = 2048
#: A mean trade is worth about a third more dollars than this. Sizes are log-normal; sigma is that of the Coinbase
#: recording, where the largest of 91 is 333 times the median of its pair.
TYPICAL_DOLLARS = 400.0
SIZE_MEAN, SIZE_SIGMA = -1.5, 1.9


def dollars(asset: str) -> float:
    """A price for an asset in US dollars: the table's, else one that its name decides, from 5 cents to 100 dollars."""
    known = DOLLARS.get(asset)
    return known if known else 0.05 * 2000 ** ((zlib.crc32(asset.encode()) % 1000) / 1000)


@dataclass(frozen=True)
class Size:
    """A trade size: `value / 10**decimals`."""

    value: int
    decimals: int


@dataclass(frozen=True)
class MarketRules:
    """How one venue writes symbols, prices and sizes, and how much it trades."""

    venue: str
    #: The text between base and quote in the venue's WebSocket name.
    separator: str
    #: The venue's share of all trades, compared with the others'.
    weight: float
    #: Where the venue's trade ids begin; the symbol moves it by up to half as much again.
    first_id: int
    #: Significant digits of a price, and the decimals that it has at least and at most.
    digits: int
    least_decimals: int
    most_decimals: int
    #: Decimals that every price is written with; None: those of its tick.
    written_decimals: int | None = None
    #: Lots are coarser than eight decimals, by the size of a typical trade.
    has_coarse_lots: bool = False
    #: Sizes are written without zeros at the end.
    drops_zeros: bool = False


@dataclass(frozen=True)
class Instrument:
    """One symbol on one venue. Prices are integers of `price_decimals` decimals, in steps of `step`."""

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
        """The venue's WebSocket name: BTCUSDT, BTC/USDT or BTC-USDT."""
        return self.symbol.replace("/", self.rules.separator)


@cache
def list_symbol(rules: MarketRules, symbol: str, position: int) -> Instrument:
    """The instrument of a canonical symbol; `position` in the list of symbols makes the first ones the busiest."""
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
