"""Split Binance's names such as `BTCUSDT`, in which base and quote run together, into symbols, by a guess.

Used only for the names in recorded files that are played. The rule: of all splits whose quote is a known quote asset,
take those whose base is a known asset too (BNB/USD before BN/BUSD), then the one with the longest quote (BTC/FDUSD
before BTCFD/USD).
"""

from __future__ import annotations

from lakehouse.market.symbols import canonical_symbol

#: Assets that quote or quoted a spot market at Binance or Binance.US (`quoteAsset` of `GET /api/v3/exchangeInfo`).
#: A recorded name that ends in none of them is left out, as if the file had not asked for it.
QUOTE_ASSETS = frozenset(
    asset
    for kind in (
        "USDT USDC FDUSD TUSD BUSD USDP PAX USDS USD1 USDE BFUSD XUSD DAI VAI UST IDRT BIDR BKRW BVND EURI AEUR USD",
        "EUR GBP TRY BRL AUD JPY MXN PLN RON ARS CZK ZAR UAH RUB NGN COP KZT",
        "BTC ETH BNB XRP TRX DOGE SOL DOT",
    )
    for asset in kind.split()
)


def split_native(name: str) -> str:
    """Guess the canonical symbol of a Binance name in any case: `btcusdt` → `BTC/USDT`.

    Raises ValueError if no known quote asset ends the name.
    """
    native = name.upper()
    splits = [
        (native[:-length], native[-length:]) for length in range(2, len(native)) if native[-length:] in QUOTE_ASSETS
    ]
    if not splits:
        raise ValueError(f"symbol {name!r}; expected BASEQUOTE such as BTCUSDT with a known quote asset")
    base, quote = max(splits, key=lambda split: (split[0] in QUOTE_ASSETS, len(split[1])))
    return canonical_symbol(f"{base}/{quote}")
