"""A seeded day of trades for the proof of Gold: the true trades, their record, and the order in which they arrive.

Three venues, ten symbols each, not the same ones: a minute that one venue has, another may lack. Most pairs trade all
the time, one a venue a few times a day. Ids are contiguous per pair, times mostly rise with them. Some minutes are
empty, some jump by more than 2 %, some trades have the same time or a time before that of the id before. Trades that
only a repair brings have whole milliseconds, as over REST.

The same seed gives the same trades. Columns are arrays of integers: five million trades take about 200 MB.
"""

from __future__ import annotations

import datetime as dt
import random
from array import array
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: In the past for good, and a Monday like any other.
DAY = dt.date(2026, 1, 5)
DAY_US = (DAY - dt.date(1970, 1, 1)).days * 86_400_000_000
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US

#: Shares of the trades.
DUPLICATES, LATE, WITHHELD = 0.05, 0.01, 0.005
SAME_TIME, SWAPPED_TIME = 0.05, 0.002
#: A late trade arrives within so many hours of event time, a duplicate within them or, mostly, within a minute.
LATE_US = 6 * HOUR_US
#: Shares of a pair's minutes.
EMPTY_MINUTES, JUMP_MINUTES = 0.01, 0.01

COLUMNS: dict[str, pa.DataType] = {
    "venue": pa.string(),
    "symbol": pa.string(),
    "trade_id": pa.int64(),
    "price": pa.decimal128(20, 10),
    "size": pa.decimal128(18, 8),
    "side": pa.string(),
    "ts_event": pa.int64(),
}
SCHEMA = pa.schema(COLUMNS)


class Pair(NamedTuple):
    """A symbol at a venue. Prices move in steps of `tick` and are written with `decimals`, at Binance with more."""

    venue: str
    symbol: str
    price: Decimal
    tick: Decimal
    decimals: int
    weight: float  #: 0 for a pair that trades a few times a day


#: Symbol → price and tick. SHIB's is coarse: 19 ticks of 950 are exactly 2 %, and prices of two venues may be equal.
PRICES = {
    "BTC/USDT": ("43000", "0.01"),
    "BTC/USD": ("43010", "0.01"),
    "BTC/EUR": ("39000", "0.01"),
    "ETH/USDT": ("2300", "0.01"),
    "ETH/USD": ("2301", "0.01"),
    "ETH/BTC": ("0.05349", "0.00001"),
    "SOL/USDT": ("98", "0.01"),
    "XRP/USDT": ("0.62", "0.0001"),
    "ADA/USDT": ("0.59", "0.0001"),
    "LTC/USDT": ("71.5", "0.01"),
    "XMR/USD": ("164", "0.01"),
    "DOGE/USDT": ("0.0912", "0.000001"),
    "PEPE/USD": ("0.0000131234", "0.0000000001"),
    "SHIB/USD": ("0.00000950", "0.00000001"),
    "SHIB/USDT": ("0.00000951", "0.00000001"),
}
#: Venue → its symbols, the busiest first; the last trades a few times a day.
SYMBOLS = {
    "binance": "BTC/USDT ETH/USDT SOL/USDT XRP/USDT DOGE/USDT SHIB/USDT ADA/USDT LTC/USDT ETH/BTC BTC/EUR",
    "kraken": "BTC/USD ETH/USDT BTC/USDT ETH/USD SOL/USDT PEPE/USD XRP/USDT DOGE/USDT SHIB/USD XMR/USD",
    "coinbase": "BTC/USD BTC/USDT ETH/USD ETH/USDT SOL/USDT XRP/USDT SHIB/USD DOGE/USDT LTC/USDT ETH/BTC",
}
VENUE_WEIGHTS = {"binance": 3.0, "kraken": 1.0, "coinbase": 2.0}
THIN_TRADES_PER_HOUR = 0.5


def _pairs() -> tuple[Pair, ...]:
    pairs = []
    for venue, symbols in SYMBOLS.items():
        for rank, symbol in enumerate(symbols.split()):
            price, tick = (Decimal(text) for text in PRICES[symbol])
            decimals = 8 if venue == "binance" else -int(tick.as_tuple().exponent)
            pairs.append(Pair(venue, symbol, price, tick, decimals, VENUE_WEIGHTS[venue] / (rank + 1) * (rank < 9)))
    return tuple(pairs)


PAIRS = _pairs()


class Market:
    """The true trades of one day's first hours, and the order of arrival."""

    def __init__(self, trades: int, seed: int, hours: int = 24) -> None:
        self.hours = hours
        #: By trade: its pair's place in PAIRS, id, time, price and size in units of the last decimal, flags.
        self.pair, self.buy, self.withheld = array("B"), array("B"), array("B")
        self.trade_id, self.ts, self.price, self.size = array("q"), array("q"), array("q"), array("q")
        self.duplicates = self.late = 0
        thin = max(4, round(THIN_TRADES_PER_HOUR * hours))
        total = sum(pair.weight for pair in PAIRS)
        rest = trades - thin * sum(not pair.weight for pair in PAIRS)
        counts = [round(rest * pair.weight / total) if pair.weight else thin for pair in PAIRS]
        counts[0] += trades - sum(counts)
        for place, pair in enumerate(PAIRS):
            self._trade(place, counts[place], random.Random(f"{seed} {pair.venue} {pair.symbol}"))
        self.order = self._arrival(random.Random(seed))

    def __len__(self) -> int:
        return len(self.ts)

    # ---- the trades

    def _trade(self, place: int, count: int, rng: random.Random) -> None:
        pair, draw = PAIRS[place], rng.random
        unit = int(pair.tick.scaleb(pair.decimals))  # of a tick, in the last written decimal
        start = int(pair.price / pair.tick)
        low, high, step = start * 7 // 10, start * 13 // 10, max(1, start // 5000)
        price, first_id = start, rng.randrange(1, 10**10)
        biggest = 10 ** rng.randrange(7, 12)  # of sizes, in 10^-8
        times = self._times(count, rng)
        minutes = range(self.hours * 60)
        jumps = set(rng.sample(minutes, max(1, round(len(minutes) * JUMP_MINUTES))))
        for number, at in enumerate(times):
            price += int(draw() * (2 * step + 1)) - step
            minute, within = divmod(at - DAY_US, MINUTE_US)
            if minute in jumps and within > MINUTE_US // 3:
                jumps.discard(minute)
                price += start * (25 + int(draw() * 30)) // 1000 * (1 if draw() < 0.5 else -1)
            if price > high:
                price = 2 * high - price
            elif price < low:
                price = 2 * low - price
            self.pair.append(place)
            self.trade_id.append(first_id + number)
            self.ts.append(at)
            self.price.append(price * unit)
            self.size.append(1 + int(draw() * draw() * biggest))
            self.buy.append(draw() < 0.5)

    def _times(self, count: int, rng: random.Random) -> list[int]:
        """Event times by id; some are equal, and some neighbours are swapped."""
        draw, minutes = rng.random, range(self.hours * 60)
        empty = set(rng.sample(minutes, round(len(minutes) * EMPTY_MINUTES)))
        open_minutes = [DAY_US + minute * MINUTE_US for minute in minutes if minute not in empty]
        choices = len(open_minutes)
        times = sorted(open_minutes[int(draw() * choices)] + int(draw() * MINUTE_US) for _ in range(count))
        for place in range(1, count):
            chance = draw()
            if chance < SAME_TIME:
                times[place] = times[place - 1]
            elif chance < SAME_TIME + SWAPPED_TIME:
                times[place - 1], times[place] = times[place], times[place - 1]
        return times

    # ---- the arrival

    def _arrival(self, rng: random.Random) -> pa.Array[Any]:
        """Indexes of the trades, some of them twice, in the order in which they are sent."""
        draw = rng.random
        keys, places = array("q"), array("q")
        repairs = DAY_US + 2 * self.hours * HOUR_US + 2 * LATE_US
        for place, at in enumerate(self.ts):
            chance, key = draw(), at
            self.withheld.append(chance < WITHHELD)
            if chance < WITHHELD:
                key = repairs + place
                self.ts[place] -= at % 1_000
            elif chance < WITHHELD + LATE:
                self.late += 1
                key = at + int(draw() * LATE_US)
            keys.append(key)
            places.append(place)
            if draw() < DUPLICATES:
                self.duplicates += 1
                keys.append(key + 1 + int(draw() * (LATE_US if draw() < 0.2 else MINUTE_US)))
                places.append(place)
        table = pa.table({"key": _int64(keys), "place": _int64(places)})
        order = pc.sort_indices(table, sort_keys=[("key", "ascending"), ("place", "ascending")])
        return table["place"].take(order).combine_chunks()

    def messages(self, first: int, last: int) -> Iterator[tuple[str, bytes]]:
        """Key and value of the messages from `first` up to, not including, `last`, in the order of arrival."""
        heads = [
            f'{{"venue":"{pair.venue}","symbol":"{pair.symbol}",'
            f'"native_symbol":"{pair.symbol.replace("/", "-")}","trade_id":'
            for pair in PAIRS
        ]
        sides, sources = ("sell", "buy"), ("live", "repair")
        powers = [(10**pair.decimals, pair.decimals) for pair in PAIRS]
        for start in range(first, last, 100_000):
            places = cast("list[int]", self.order.slice(start, min(100_000, last - start)).to_pylist())
            for place in places:
                which, at = self.pair[place], self.ts[place]
                power, decimals = powers[which]
                whole, part = divmod(self.price[place], power)
                units, rest = divmod(self.size[place], 100_000_000)
                value = (
                    f'{heads[which]}{self.trade_id[place]},"price":"{whole}.{part:0{decimals}d}",'
                    f'"size":"{units}.{rest:08d}","side":"{sides[self.buy[place]]}","ts_event":{at},'
                    f'"ts_ingest":{at + 1000},"source":"{sources[self.withheld[place]]}","raw":"{{}}"}}'
                )
                yield PAIRS[which].symbol, value.encode()

    # ---- the record

    def write_record(self, path: Path) -> None:
        """Write all true trades as Parquet, one row group per pair."""
        path.parent.mkdir(parents=True, exist_ok=True)
        first = 0
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for place, pair in enumerate(PAIRS):
                last = first + self.pair.count(place)
                rows = slice(first, last)
                columns = {
                    "venue": pa.repeat(pair.venue, last - first),
                    "symbol": pa.repeat(pair.symbol, last - first),
                    "trade_id": _int64(self.trade_id[rows]),
                    "price": _decimals(self.price[rows], pair.decimals).cast(SCHEMA.field("price").type),
                    "size": _decimals(self.size[rows], 8).cast(SCHEMA.field("size").type),
                    "side": pc.if_else(pa.array([bool(buy) for buy in self.buy[rows]]), "buy", "sell"),
                    "ts_event": _int64(self.ts[rows]),
                }
                writer.write_table(pa.table(columns, schema=SCHEMA))
                first = last


def _int64(values: array[int]) -> pa.Array[Any]:
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values.tobytes())])


def _decimals(values: array[int], scale: int) -> pa.Array[Any]:
    """Convert whole numbers ≥ 0 to decimals of that scale; the bits are the same except for 8 bytes of zeros."""
    wide = array("q", bytes(16 * len(values)))
    wide[::2] = values
    return pa.Array.from_buffers(pa.decimal128(18, scale), len(values), [None, pa.py_buffer(wide.tobytes())])
