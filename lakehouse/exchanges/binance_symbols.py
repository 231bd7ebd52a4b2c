"""Binance writes `BTCUSDT`: base and quote run together. Here they are told apart again.

The sure way is to know what was subscribed (`Binance.for_symbols`). For any other name the rule is: of all splits whose
quote is a known quote asset, take those whose base is a known asset too (BNB/USD before BN/BUSD), then the one with the
longest quote (BTC/FDUSD before BTCFD/USD).
"""

from __future__ import annotations

from functools import lru_cache

from lakehouse.settings import canonical_symbol

#: Assets that quote or quoted a spot market at Binance or Binance.US (`quoteAsset` of `GET /api/v3/exchangeInfo`).
#: A name that is missing here only matters for symbols that nobody subscribed: those are rejected as unknown_symbol.
QUOTE_ASSETS = frozenset(
    asset
    for kind in (
        "USDT USDC FDUSD TUSD BUSD USDP PAX USDS USD1 USDE BFUSD XUSD DAI VAI UST IDRT BIDR BKRW BVND EURI AEUR USD",
        "EUR GBP TRY BRL AUD JPY MXN PLN RON ARS CZK ZAR UAH RUB NGN COP KZT",
        "BTC ETH BNB XRP TRX DOGE SOL DOT",
    )
    for asset in kind.split()
)


@lru_cache(maxsize=8192)
def split_native(native: str) -> str:
    """`BTCUSDT` → `BTC/USDT`. Raises ValueError where no known quote asset ends the name."""
    splits = [
        (native[:-length], native[-length:])
        for length in range(2, len(native))
        if native[-length:] in QUOTE_ASSETS and native[:-length].isalnum()
    ]
    if not splits or native != native.upper():
        raise ValueError(f"symbol {native!r}; expected upper-case BASEQUOTE such as BTCUSDT with a known quote asset")
    base, quote = max(splits, key=lambda split: (split[0] in QUOTE_ASSETS, len(split[1])))
    return canonical_symbol(f"{base}/{quote}")
