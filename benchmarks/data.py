"""A seeded tape of trades, as the Kafka messages that our own ingest would write for them.

Every venue lists every symbol. Ids are contiguous per (venue, symbol), times rise from message to message, prices walk
in ticks, and few symbols have most of the trades. `raw` is the venue's own trade object in the venue's own form, so a
message has the size and the redundancy of a real one; `tests/benchmarks/test_data.py` holds each against what the
venue's adapter and `encode` make of that object, byte by byte.

The text is put together from templates instead of `Trade` and `encode`, as the tape must be several times faster than
what it measures. The same seed gives the same bytes.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Literal, NamedTuple

from lakehouse.exchanges.binance.stream import Binance
from lakehouse.exchanges.coinbase.stream import Coinbase
from lakehouse.exchanges.kraken.stream import Kraken
from lakehouse.exchanges.venue import Venue

Raw = Literal["full", "none"]

#: Key and value of a Kafka message.
Message = tuple[bytes, bytes]

#: A Monday in the past: no event time lies in the future of a run.
START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DAY_US = 86_400_000_000

VENUES = ("binance", "kraken", "coinbase")
#: The busiest first; `symbol_names` makes up the rest. Price in ticks of 0.01.
REAL_SYMBOLS = {
    "BTC/USDT": 4_325_010,
    "ETH/USDT": 230_012,
    "SOL/USDT": 9_804,
    "XRP/USDT": 6_201,
    "DOGE/USDT": 9_120,
    "ADA/USDT": 5_903,
    "LTC/USDT": 7_150,
    "LINK/USDT": 1_499,
    "DOT/USDT": 7_405,
    "AVAX/USDT": 3_311,
}
MADE_UP_PRICE = 10_000

#: A repeat is of the last minute of event time (a second socket's overlap, a producer's second try), and one of the
#: last so many trades.
REPEAT_WITHIN_US = 60_000_000
REPEAT_WITHIN = 4096
#: Draws are made for so many trades at once.
CHUNK = 10_000


class Pair:
    """A symbol at a venue, with the state from which its next trade continues."""

    __slots__ = ("first_price", "head", "key", "native", "price", "trade_id", "write")

    def __init__(self, venue: str, symbol: str, native: str, price: int, first_id: int, write: Write) -> None:
        self.key = symbol.encode()
        self.native = native
        self.head = f'{{"venue":"{venue}","symbol":"{symbol}","native_symbol":"{native}","trade_id":'
        self.price = self.first_price = price
        self.trade_id = first_id
        self.write = write


class Draw(NamedTuple):
    """Random values of one trade: prices and sizes as text, time in microseconds, 256 random bits."""

    trade_id: int
    price: str
    size: str
    is_buy: bool
    at: int
    second: str  #: of `at`, `2026-01-05T00:00:00`
    bits: int


#: The venue's own trade object inside a JSON string, so with its quotes escaped.
Write = Callable[[str, Draw], str]


def _binance(native: str, draw: Draw) -> str:
    maker = "false" if draw.is_buy else "true"  # m: the buyer is the maker, so the taker sold
    return (
        f'{{\\"e\\":\\"trade\\",\\"E\\":{draw.at + 731},\\"s\\":\\"{native}\\",\\"t\\":{draw.trade_id},'
        f'\\"p\\":\\"{draw.price}\\",\\"q\\":\\"{draw.size}\\",\\"T\\":{draw.at},\\"m\\":{maker},\\"M\\":true}}'
    )


def _kraken(native: str, draw: Draw) -> str:
    side = "buy" if draw.is_buy else "sell"
    return (
        f'{{\\"symbol\\":\\"{native}\\",\\"side\\":\\"{side}\\",\\"price\\":{draw.price},\\"qty\\":{draw.size},'
        f'\\"ord_type\\":\\"limit\\",\\"trade_id\\":{draw.trade_id},'
        f'\\"timestamp\\":\\"{draw.second}.{draw.at % 1_000_000:06d}Z\\"}}'
    )


def _coinbase(native: str, draw: Draw) -> str:
    side = "sell" if draw.is_buy else "buy"  # the maker's
    bits = f"{draw.bits:064x}"
    maker = f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:32]}"
    taker = f"{bits[32:40]}-{bits[40:44]}-{bits[44:48]}-{bits[48:52]}-{bits[52:]}"
    return (
        f'{{\\"type\\":\\"match\\",\\"trade_id\\":{draw.trade_id},\\"maker_order_id\\":\\"{maker}\\",'
        f'\\"taker_order_id\\":\\"{taker}\\",\\"side\\":\\"{side}\\",\\"size\\":\\"{draw.size}\\",'
        f'\\"price\\":\\"{draw.price}\\",\\"product_id\\":\\"{native}\\",\\"sequence\\":{draw.trade_id * 37},'
        f'\\"time\\":\\"{draw.second}.{draw.at % 1_000_000:06d}Z\\"}}'
    )


def _none(_native: str, _draw: Draw) -> str:
    return "{}"


_WRITERS: dict[str, Write] = {"binance": _binance, "kraken": _kraken, "coinbase": _coinbase}


def symbol_names(count: int) -> list[str]:
    """`count` symbols that the venues' adapters can read, the busiest first: real ones, then `AAAA/USDT`, …"""
    names = list(REAL_SYMBOLS)[:count]
    for number in range(count - len(names)):
        letters = "".join(chr(65 + number // 26**place % 26) for place in (3, 2, 1, 0))
        names.append(f"{letters}/USDT")
    return names


class Tape:
    """Endless trades of some venues and symbols; each `take` continues after the last one."""

    def __init__(
        self,
        seed: int = 1,
        symbols: int = 10,
        venues: tuple[str, ...] = VENUES,
        raw: Raw = "full",
        duplicates: float = 0.01,
        start: dt.datetime = START,
    ) -> None:
        """Trade `symbols` at each of `venues`; repeat the fraction `duplicates` of the trades, 0 for none."""
        self._rng = random.Random(f"{seed} {symbols} {venues}")
        self._repeat_every = round(1 / duplicates) if duplicates else 0
        self._recent: deque[Message] = deque(maxlen=REPEAT_WITHIN)
        self._made = 0
        self.clock = int(start.timestamp()) * 1_000_000  #: microseconds since the epoch, where the next take begins
        self.repeats = 0  #: messages so far that repeat an earlier one
        adapters: dict[str, Venue] = {"binance": Binance(), "kraken": Kraken(), "coinbase": Coinbase()}
        self.pairs: list[Pair] = []
        weights = []
        for venue in venues:
            for rank, symbol in enumerate(symbol_names(symbols)):
                price = REAL_SYMBOLS.get(symbol, MADE_UP_PRICE)
                write = _WRITERS[venue] if raw == "full" else _none
                first_id = self._rng.randrange(10**8, 10**9)
                self.pairs.append(Pair(venue, symbol, adapters[venue].native(symbol), price, first_id, write))
                weights.append(1 / (rank + 1))
        self._weights = list(accumulate(weights))

    def take(self, trades: int, microseconds: int = DAY_US) -> Iterator[Message]:
        """Yield key and value of `trades` trades, spread evenly over the event time, some of them repeated."""
        rng, begin = self._rng, self.clock
        self.clock += microseconds
        repeat_every, recent = self._repeat_every, self._recent
        within = max(1, min(REPEAT_WITHIN, trades * REPEAT_WITHIN_US // microseconds))
        for done in range(0, trades, CHUNK):
            count = min(CHUNK, trades - done)
            pairs = rng.choices(self.pairs, cum_weights=self._weights, k=count)
            times = sorted(
                begin + microseconds * done // trades + int(rng.random() * microseconds * count / trades)
                for _ in range(count)
            )
            for pair, at in zip(pairs, times, strict=True):
                message = pair.key, self._value(pair, at)
                yield message
                if not repeat_every:
                    continue
                recent.append(message)
                self._made += 1
                if self._made % repeat_every == 0:
                    self.repeats += 1
                    yield recent[-1 - int(rng.random() * min(within, len(recent)))]

    def _value(self, pair: Pair, at: int) -> bytes:
        bits = self._rng.getrandbits(256)
        # Different bits for what must not depend on each other; those of the order ids may be used again.
        step = bits % 11 - 5
        price = pair.price = pair.price + step if pair.price > pair.first_price // 2 else pair.first_price
        size = ((bits >> 64) & 0xFFFF) * ((bits >> 80) & 0xFFFF) + 1
        is_buy = bool(bits >> 128 & 1)
        received = at + 20_000 + (bits >> 160) % 60_000
        draw = Draw(
            pair.trade_id,
            f"{price // 100}.{price % 100:02d}",
            f"{size // 100_000_000}.{size % 100_000_000:08d}",
            is_buy,
            at,
            self._second(at),
            bits,
        )
        pair.trade_id += 1
        return (
            f'{pair.head}{draw.trade_id},"price":"{draw.price}","size":"{draw.size}",'
            f'"side":"{"buy" if is_buy else "sell"}","ts_event":{at},"ts_ingest":{received},'
            f'"source":"live","raw":"{pair.write(pair.native, draw)}"}}'
        ).encode()

    _known_second = 0
    _known_text = ""

    def _second(self, at: int) -> str:
        second = at // 1_000_000
        if second != self._known_second:
            self._known_second = second
            self._known_text = dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return self._known_text
