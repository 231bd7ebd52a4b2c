"""The data for Python: `Lake.open(home)`, then lazy scans of trades, bars, indicators, moves, spreads, completeness.

    from lakehouse.client import Lake
    lake = Lake.open(".lakehouse/demo")
    bars = lake.bars("binance", "BTC/USDT", size="15m", start="2026-11-30", end="2026-12-01").arrow()

Reads go through deltalake: no JVM, no lock, and no stream waits for them. docs/reading-the-data.md has an example of
each kind.
"""

from lakehouse.client.lake import Lake
from lakehouse.client.scan import Scan

__all__ = ["Lake", "Scan"]
