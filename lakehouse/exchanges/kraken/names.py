"""Convert symbols to and from Kraken's names.

The WebSocket's names are canonical (`BTC/USD`); the names of REST have XBT and XDG for BTC and DOGE, and no `/`.
"""

from __future__ import annotations

from lakehouse.market.symbols import CANONICAL_ASSETS, canonical_symbol

#: Ends the names of xStocks, tokenized shares such as AAPLx.
_XSTOCK = "x"
_REST_ASSETS = {canonical: rest for rest, canonical in CANONICAL_ASSETS.items()}


def native(symbol: str) -> str:
    """Return Kraken's WebSocket name of a canonical symbol: the same. Raises ValueError if not BASE/QUOTE."""
    return canonical_symbol(symbol)


def canonical(name: str) -> str:
    """Return the canonical symbol of a WebSocket name: `XBT/USD` → `BTC/USD`, `AAPLx/USD` as it is.

    Raises ValueError if it is not BASE/QUOTE.
    """
    if "/" not in name:
        raise ValueError(f"symbol {name!r}; expected BASE/QUOTE such as BTC/USDT")
    return canonical_symbol(name)


def rest_pair(symbol: str) -> str:
    """Return REST's name (`altname`) of a canonical symbol: `BTC/USDT` → `XBTUSDT`, `AAPLx/USD` → `AAPLxUSD`."""
    return "".join(_REST_ASSETS.get(asset, asset) for asset in canonical_symbol(symbol).split("/"))


def asset_class(symbol: str) -> str | None:
    """Return the parameter `asset_class` of a REST request for a symbol: None for coins ["Get Recent Trades"].

    For an xStock (a tokenized share) it is `tokenized_asset`; without it REST does not know the pair.
    """
    return "tokenized_asset" if canonical_symbol(symbol).partition("/")[0].endswith(_XSTOCK) else None
