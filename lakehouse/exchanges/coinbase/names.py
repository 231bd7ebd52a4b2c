"""Convert symbols to and from Coinbase's names ("product ids"): base and quote with `-` between them."""

from __future__ import annotations

from lakehouse.market.symbols import canonical_symbol


def native(symbol: str) -> str:
    """Return Coinbase's name of a canonical symbol: `BTC/USDT` → `BTC-USDT`. Raises ValueError if not BASE/QUOTE."""
    return canonical_symbol(symbol).replace("/", "-")


def canonical(name: str) -> str:
    """Return the canonical symbol of Coinbase's name: `BTC-USDT` → `BTC/USDT`.

    Raises ValueError for any other spelling, such as `btc-usdt` or `XBT-USDT`.
    """
    if "/" not in name:
        symbol = canonical_symbol(name)
        if native(symbol) == name:
            return symbol
    raise ValueError(f"symbol {name!r}; expected BASE-QUOTE such as BTC-USDT")
