"""The names of the venues, in the order of settings, tables and reports.

`exchanges/registry.py` has one venue for each name, in this order.
"""

from __future__ import annotations

VENUES = ("binance", "kraken", "coinbase")
