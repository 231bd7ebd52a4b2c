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
#: Kraken's REST and v1 asset names (docs/venues.md, "Kraken"), canonical → Kraken.
KRAKEN_ASSETS = {"BTC": "XBT", "DOGE": "XDG"}
#: Pairs that Kraken's REST answers under an older key than was asked for.
KRAKEN_OLD_KEYS = {
    "XBTUSD": "XXBTZUSD",
    "XBTEUR": "XXBTZEUR",
    "ETHUSD": "XETHZUSD",
    "ETHEUR": "XETHZEUR",
    "XDGUSD": "XXDGZUSD",
}

#: How a venue's share of all trades compares with the others'.
VENUE_WEIGHTS = {"binance": 3.0, "coinbase": 2.0, "kraken": 1.0}
#: Where a venue's trade ids begin; the symbol moves it by up to half as much again.
FIRST_IDS = {"binance": 4_000_000_000, "coinbase": 700_000_000, "kraken": 80_000_000}

#: So few that equal trades happen, as they do on the venues: only the id tells them apart.
SIZE_CHOICES = 2048
#: A typical trade is worth so many dollars; sizes are log-normal around it.
TYPICAL_DOLLARS = 400.0
SIZE_SIGMA = 1.6


def dollars(asset: str) -> float:
    """A price for an asset in US dollars: the table's, else one that its name decides, from 5 cents to 100 dollars."""
    known = DOLLARS.get(asset)
    return known if known else 0.05 * 2000 ** ((zlib.crc32(asset.encode()) % 1000) / 1000)


@dataclass(frozen=True)
class Size:
    """A trade size: an integer of so many decimals."""

    value: int
    decimals: int


@dataclass(frozen=True)
class Instrument:
    """One symbol on one venue. Prices are integers of `price_decimals` decimals, in steps of `step`."""

    venue: str
    symbol: str
    price_decimals: int
    step: int
    first_id: int
    price: float
    weight: float
    sizes: tuple[Size, ...] = field(repr=False)

    @cached_property
    def native(self) -> str:
        """The venue's WebSocket name: BTCUSDT, BTC/USDT or BTC-USDT."""
        joint = {"binance": "", "kraken": "/", "coinbase": "-"}[self.venue]
        return self.symbol.replace("/", joint)

    @cached_property
    def kraken_rest(self) -> str:
        """Kraken's REST name: XBTUSDT."""
        return "".join(KRAKEN_ASSETS.get(asset, asset) for asset in self.symbol.split("/"))

    @cached_property
    def kraken_key(self) -> str:
        """The key under which Kraken's REST answers: often, but not always, the REST name."""
        return KRAKEN_OLD_KEYS.get(self.kraken_rest, self.kraken_rest)

    @cached_property
    def kraken_class(self) -> str | None:
        """The asset class that Kraken's REST has to be told; None for coins. xStocks end in a small x."""
        return "tokenized_asset" if self.symbol.split("/")[0].endswith("x") else None


@cache
def list_symbol(venue: str, symbol: str, position: int) -> Instrument:
    """The instrument of a canonical symbol; `position` in the list of symbols makes the first ones the busiest."""
    base, quote = symbol.split("/")
    price = dollars(base) / dollars(quote)
    tick_decimals = _tick_decimals(venue, price)
    # Binance writes eight decimals whatever the tick is.
    decimals = 8 if venue == "binance" else tick_decimals
    salt = zlib.crc32(f"{venue}/{symbol}".encode())
    return Instrument(
        venue=venue,
        symbol=symbol,
        price_decimals=decimals,
        step=10 ** (decimals - tick_decimals),
        first_id=FIRST_IDS[venue] + salt % (FIRST_IDS[venue] // 2),
        price=price,
        weight=VENUE_WEIGHTS[venue] / math.sqrt(position + 1),
        sizes=_sizes(venue, TYPICAL_DOLLARS / dollars(base), random.Random(salt)),
    )


def _tick_decimals(venue: str, price: float) -> int:
    # Six to seven significant digits, as on the venues, within Binance's and Coinbase's 8 and Kraken's 10 decimals.
    magnitude = math.floor(math.log10(price)) + 1
    digits = {"binance": 7, "kraken": 6, "coinbase": 7}[venue]
    return max(1 if venue == "kraken" else 2, min(10 if venue == "kraken" else 8, digits - magnitude))


def _sizes(venue: str, typical: float, rng: random.Random) -> tuple[Size, ...]:
    # Binance's lots are coarser than its eight wire decimals; Coinbase drops trailing zeros.
    lot_decimals = max(0, min(8, 4 - math.floor(math.log10(typical)))) if venue == "binance" else 8
    choices = []
    for _ in range(SIZE_CHOICES):
        size = max(1, round(typical * rng.lognormvariate(-1.0, SIZE_SIGMA) * 10**lot_decimals)) * 10 ** (
            8 - lot_decimals
        )
        decimals = 8
        if venue == "coinbase":
            while decimals and size % 10 == 0:
                size, decimals = size // 10, decimals - 1
        choices.append(Size(size, decimals))
    return tuple(choices)
