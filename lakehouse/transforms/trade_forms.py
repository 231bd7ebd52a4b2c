"""Forms and bounds of a good trade: what `message_rules` judges by, and what `wire` is sure of."""

from __future__ import annotations

from typing import get_args

from lakehouse.exchanges.model import Side, Source
from lakehouse.market.symbols import SYMBOL_FORM

#: Most digits before and after the point.
WHOLE_DIGITS, DECIMALS = 20, 18

#: Bounds that keep every bar's sums within DECIMAL(38,18): price in quote units, size in base units, price × size.
MAX_PRICE, MAX_SIZE, MAX_NOTIONAL = 10**12, 10**15, 10**15

#: Form of a field's whole text, as a regular expression.
GOOD_FORM = {"venue": "[a-z0-9_-]{1,40}", "symbol": SYMBOL_FORM, "native_symbol": "[^\\x1f]+"}
#: The words that a field may have.
CHOICES: dict[str, frozenset[str]] = {"side": frozenset(get_args(Side)), "source": frozenset(get_args(Source))}

EARLIEST_MICROS = 1_230_768_000_000_000  # 2009-01-01, before the first exchange of crypto assets
