"""Messages as ingest writes them, and with bytes lost, moved or invented. No test module."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from lakehouse.exchanges.model import Trade, encode
from tests.support.messages import NEW_YEAR

Values = list[bytes | None]


def written(**changes: Any) -> bytes:
    """A message as ingest writes it."""
    good = Trade(
        venue="kraken",
        symbol="BTC/USD",
        native_symbol="BTC/USD",
        trade_id=12,
        price="43250.10",
        size="0.001",
        side="buy",
        ts_event=NEW_YEAR,
        ts_ingest=NEW_YEAR + 1_000,
        source="live",
        raw='{"p":"1"}',
    )
    return encode(msgspec.structs.replace(good, **changes))


GOOD = written()


_BYTES = b'"""\\\\\\{}[],::/.+-e0019 aA\x00\x1f\n\x7f\x80\xc3\xff'


def _span(rng: Random, value: bytes) -> tuple[int, int]:
    first = rng.randrange(len(value) + 1)
    return first, min(len(value), first + rng.choice((1, 1, 1, 2, 5, 30)))


def _deleted(rng: Random, value: bytes) -> bytes:
    first, until = _span(rng, value)
    return value[:first] + value[until:]


def _inserted(rng: Random, value: bytes) -> bytes:
    place = rng.randrange(len(value) + 1)
    return value[:place] + bytes(rng.choice(_BYTES) for _ in range(rng.choice((1, 1, 2, 3)))) + value[place:]


def _replaced(rng: Random, value: bytes) -> bytes:
    place = rng.randrange(len(value))
    return value[:place] + bytes([rng.choice(_BYTES)]) + value[place + 1 :]


def _repeated(rng: Random, value: bytes) -> bytes:
    first, until = _span(rng, value)
    return value[:until] + value[first:]


def _swapped(rng: Random, value: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(value) + 1) for _ in range(3))
    return value[:a] + value[b:c] + value[a:b] + value[c:]


def _quote_moved(rng: Random, value: bytes) -> bytes:
    """Mutate without changing the number of quotes."""
    quotes = [place for place, byte in enumerate(value) if byte == ord('"')] or [0]
    quote = rng.choice(quotes)
    rest = value[:quote] + value[quote + 1 :]
    place = rng.choice((rng.randrange(len(rest) + 1), max(0, quote - 1), quote + 1))
    return rest[:place] + b'"' + rest[place:]


_MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _deleted,
    _inserted,
    _replaced,
    _repeated,
    _swapped,
    _quote_moved,
    _quote_moved,
    lambda rng, value: value[: rng.randrange(len(value) + 1)],
    lambda rng, value: value[rng.randrange(len(value) + 1) :],
    lambda rng, value: value + value[: rng.randrange(len(value) + 1)],
)


def _ordinary(rng: Random) -> bytes:
    return written(
        venue=rng.choice(("kraken", "binance", "", "a:b", "Kraken")),
        native_symbol=rng.choice(("BTCUSD", "BTC-USD", "BTC/USD", ":", "é", "\\", '"')),
        trade_id=rng.choice((1, 0, -1, 10**17, 10**18 - 1, 10**18, 2**63 - 1, rng.randrange(1, 10**9))),
        price=rng.choice(("1", "1.5", "0.10", "007", ".5", "5.", "1..2", "+5", "1e5", "", "0", "9" * 20, "9" * 21)),
        size=rng.choice(("1", "0.25", "1.000000000000000001", "0." + "0" * 18 + "1")),
        side=rng.choice(("buy", "sell", "BUY")),
        source=rng.choice(("live", "snapshot", "repair", "x")),
        raw=rng.choice(("", "{}", '{"p":"1"}', ":", '"', "\\", 'a"', '\\"', "é", "x\x7f", "\n", "}")),
    )


def mutated(rng: Random) -> Values:
    values: Values = []
    while len(values) < 40:
        value = written() if rng.random() < 0.5 else _ordinary(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 1, 2))):
            value = rng.choice(_MUTATIONS)(rng, value or b"x")
        fate = rng.random()
        if fate < 0.1:  # two messages, parted at another place than their own
            place = rng.randrange(len(value) + 1)
            values += [GOOD + value[:place], value[place:]] if fate < 0.05 else [value[:place], value[place:] + GOOD]
        else:
            values.append(None if fate > 0.98 else value)
    return values
