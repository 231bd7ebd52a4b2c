"""Coinbase's names of symbols ("product ids"): base and quote with `-` between them."""

from __future__ import annotations

from lakehouse.market.symbols import canonical_symbol


def native(symbol: str) -> str:
    """`BTC/USDT` → `BTC-USDT`. Raises ValueError if it is no BASE/QUOTE."""
    return canonical_symbol(symbol).replace("/", "-")


def canonical(name: str) -> str:
    """`BTC-USDT` → `BTC/USDT`. Raises ValueError for any other spelling, such as `btc-usdt` or `XBT-USDT`."""
    if "/" not in name:
        symbol = canonical_symbol(name)
        if native(symbol) == name:
            return symbol
    raise ValueError(f"symbol {name!r}; expected BASE-QUOTE such as BTC-USDT")
