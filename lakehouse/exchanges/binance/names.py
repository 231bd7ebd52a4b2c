"""Binance's names of symbols: base and quote run together."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.market.symbols import canonical_symbol


def native(symbol: str) -> str:
    """`BTC/USDT` → `BTCUSDT`. Raises ValueError if it is no BASE/QUOTE."""
    return canonical_symbol(symbol).replace("/", "")


class KnownNames:
    """The names of `symbols`, and no others.

    `BNBUSD` may be BNB/USD or BN/BUSD. Nothing in a frame tells which, so a name is never split: it belongs to a symbol
    that is known to be subscribed, or it is unknown.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._known: dict[str, list[str]] = {}
        for symbol in dict.fromkeys(map(canonical_symbol, symbols)):
            self._known.setdefault(native(symbol), []).append(symbol)

    def canonical(self, name: str) -> str:
        """`BTCUSDT` → `BTC/USDT`, if that is one of the known symbols. Raises ValueError if none is, or several are."""
        symbols = self._known.get(name, ())
        if len(symbols) != 1:
            several = f", which may be {' or '.join(symbols)}" if symbols else ""
            raise ValueError(f"symbol {name!r}{several}; expected the name of one symbol that is subscribed")
        return symbols[0]
