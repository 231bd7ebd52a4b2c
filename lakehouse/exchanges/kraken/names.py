"""Kraken's names of symbols: canonical on the socket; REST still says XBT and XDG, and joins base and quote."""

from __future__ import annotations

from lakehouse.market.symbols import CANONICAL_ASSETS, canonical_symbol

#: Ends the names of xStocks, tokenized shares such as AAPLx.
_XSTOCK = "x"
_REST_ASSETS = {canonical: rest for rest, canonical in CANONICAL_ASSETS.items()}


def native(symbol: str) -> str:
    """The canonical symbol itself. Raises ValueError if it is no BASE/QUOTE."""
    return canonical_symbol(symbol)


def canonical(name: str) -> str:
    """`XBT/USD` → `BTC/USD`; `DOGE/USD` and `AAPLx/USD` as they are. Raises ValueError if it is no BASE/QUOTE."""
    if "/" not in name:
        raise ValueError(f"symbol {name!r}; expected BASE/QUOTE such as BTC/USDT")
    return canonical_symbol(name)


def rest_pair(symbol: str) -> str:
    """REST's name (`altname`) of a canonical symbol: `BTC/USDT` → `XBTUSDT`, `AAPLx/USD` → `AAPLxUSD`."""
    return "".join(_REST_ASSETS.get(asset, asset) for asset in canonical_symbol(symbol).split("/"))


def asset_class(symbol: str) -> str | None:
    """The asset class that REST must be told for a symbol ["Get Recent Trades"]; None for coins.

    Without it the pair of an xStock is unknown to REST.
    """
    return "tokenized_asset" if canonical_symbol(symbol).partition("/")[0].endswith(_XSTOCK) else None
