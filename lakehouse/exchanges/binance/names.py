"""Convert symbols to and from Binance's names: base and quote run together, `BTCUSDT`."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.market.symbols import canonical_symbol


def native(symbol: str) -> str:
    """Return Binance's name of a canonical symbol: `BTC/USDT` → `BTCUSDT`. Raises ValueError if not BASE/QUOTE."""
    return canonical_symbol(symbol).replace("/", "")


class KnownNames:
    """Look up which of the subscribed canonical `symbols` a Binance name means.

    `BNBUSD` may be BNB/USD or BN/BUSD. Nothing in a frame tells which, so a name is never split: it belongs to one of
    `symbols`, or it is unknown.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._known: dict[str, list[str]] = {}
        for symbol in dict.fromkeys(map(canonical_symbol, symbols)):
            self._known.setdefault(native(symbol), []).append(symbol)

    def canonical(self, name: str) -> str:
        """Return the known symbol of a Binance name: `BTCUSDT` → `BTC/USDT`. Raises ValueError unless just one fits."""
        symbols = self._known.get(name, ())
        if len(symbols) != 1:
            several = f", which may be {' or '.join(symbols)}" if symbols else ""
            raise ValueError(f"symbol {name!r}{several}; expected the name of one symbol that is subscribed")
        return symbols[0]
