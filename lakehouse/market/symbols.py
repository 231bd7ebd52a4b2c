"""The form of a symbol: one rule for settings, venues, replay, Silver and the simulator.

A symbol is BASE/QUOTE. Each of the two is an asset's name of 1 to 20 characters that begins with a letter or a digit:
ASCII letters and digits, `.` and `_`, and the visible characters of every other script. So `币安人生/USDT` (Binance,
change log of 2025-12-15: names may hold characters beyond ASCII), `AAPLx/USD` and `BRK.Bx/USD` (Kraken's xStocks) are
symbols. `-` is not part of a name, because Coinbase puts it between the two.

The case is the venue's: `AAPLx` is another asset than `AAPLX`. Only an asset's name without a capital of A to Z is read
as if typed in capitals, as people type `btc/usdt`; no venue lists such a name. Text is in Unicode's form NFC, so that
names that look the same are the same; `native_symbol` keeps the bytes of the venue.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

#: (venue, canonical symbol): the key of everything that is kept for each market.
MarketKey = tuple[str, str]

#: Most characters of an asset's name. Binance takes 20 for base and quote together (`legal range` in its error −1100),
#: and the longest name of its futures has 17.
MAX_ASSET = 20

#: Kraken's REST and v1 names (Kraken "asset names" page) → the names everybody else uses.
CANONICAL_ASSETS = {"XBT": "BTC", "XDG": "DOGE"}

#: Beyond ASCII, what cannot be seen: controls, spaces, marks that turn the direction of text, fillers, variation
#: selectors, surrogates, private use. Written as ranges, for Python and Java know different versions of Unicode, and a
#: character must not be a letter here and none there. The last range has no escape that both understand.
_INVISIBLE = (
    r"\x7f-\xa0\xad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u2800\u3000\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff" + "\U000e0000-\U0010ffff"
)
_FIRST = rf"(?:[A-Za-z0-9]|[^\x00-\x7f{_INVISIBLE}])"
_ASSET = rf"(?:(?=[^A-Z/\x1f]*[A-Z])|(?![^a-z/\x1f]*[a-z])){_FIRST}(?:[._]|{_FIRST}){{0,{MAX_ASSET - 1}}}"
#: A regular expression that matches a whole canonical symbol, for Python's `re` and Java alike. It may stand before a
#: U+001F in a longer expression.
SYMBOL_FORM = f"{_ASSET}/{_ASSET}"

_has_form = re.compile(SYMBOL_FORM).fullmatch
_has_capital = re.compile("[A-Z]").search
_CAPITALS = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


#: Once a name and not once a trade; a venue lists some thousands. Only good names are kept.
@lru_cache(maxsize=8192)
def canonical_symbol(name: str) -> str:
    """Normalise the name of a symbol: `btc-usdt`, `XBT/USDT` → `BTC/USDT`; `AAPLx/usd` → `AAPLx/USD`.

    A canonical symbol is returned as it is. Raises ValueError if the name is not BASE/QUOTE.
    """
    text = name if "/" in name else name.replace("-", "/")
    symbol = "/".join(map(_canonical_asset, text.split("/")))
    if not _has_form(symbol):
        raise ValueError(
            f"symbol {name!r}; expected BASE/QUOTE such as BTC/USDT, each of 1 to {MAX_ASSET} letters, digits, . or _"
        )
    return symbol


def _canonical_asset(name: str) -> str:
    asset = unicodedata.normalize("NFC", name)
    if not _has_capital(asset):
        asset = unicodedata.normalize("NFC", asset.translate(_CAPITALS))
    return CANONICAL_ASSETS.get(asset, asset)
