"""Forms and bounds of a good trade, and the verdict on one trade in plain Python. No Spark.

`message_rules` states the same as Spark columns, rule by rule; it takes its forms and bounds from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lakehouse.market.symbols import SYMBOL_FORM

#: Most digits before and after the point.
WHOLE_DIGITS, DECIMALS = 20, 18

#: Bounds that keep every bar's sums within DECIMAL(38,18): price in quote units, size in base units, price × size.
MAX_PRICE, MAX_SIZE, MAX_NOTIONAL = 10**12, 10**15, 10**15

#: Form of a positive number below 10^whole, with at most 20 digits before the point, leading zeros included.
_POSITIVE = "(?=[0-9.]*[1-9])0{{0,{zeros}}}[0-9]{{1,{whole}}}([.][0-9]{{1,18}})?"
#: Form of each field of a good trade, as a regular expression that Java and Python read alike.
GOOD_FORM = {
    "venue": "[a-z0-9_-]{1,40}",
    "symbol": SYMBOL_FORM,
    "native_symbol": "[^\\x1f]+",
    "trade_id": "[0-9]{1,18}",
    "price": _POSITIVE.format(zeros=8, whole=12),
    "size": _POSITIVE.format(zeros=5, whole=15),
    "side": "(buy|sell)",
    "ts_event": "[0-9]{1,18}",
    "ts_ingest": "[0-9]{1,18}",
    "source": "(live|snapshot|repair)",
}

EARLIEST_MICROS = 1_230_768_000_000_000  # 2009-01-01, before the first exchange of crypto assets

_BELOW = 10**18
_FITS = {
    name: re.compile(GOOD_FORM[name]).fullmatch
    for name in ("venue", "symbol", "native_symbol", "price", "size", "side", "source")
}


def is_good(texts: Mapping[str, str], trade_id: int, first: int, last: int, latest: int) -> bool:
    """Return whether Silver accepts a trade with these text fields by name, this id, and these first and last times.

    `latest` is the latest time allowed: Kafka's time of the message plus the tolerance. Times are µs since the epoch.
    """
    return (
        0 < trade_id < _BELOW  # 0 may have been written as -0, which is no id
        and first >= EARLIEST_MICROS
        and last <= latest
        and all(fits(texts[name]) for name, fits in _FITS.items())
        and float(texts["price"]) * float(texts["size"]) < MAX_NOTIONAL
    )
