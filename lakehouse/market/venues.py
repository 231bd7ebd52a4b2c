"""The names of the venues, in the order in which settings, tables and reports list them.

`exchanges/registry.py` has the `Venue` of each name, in this order.
"""

from __future__ import annotations

VENUES = ("binance", "kraken", "coinbase")
