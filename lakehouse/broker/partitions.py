"""The partition of the topic of trades in which a market's trades are sent. Pure.

The key of a message is its symbol, and the venues list the same symbols, so a hash of the key alone would put all
venues' trades of a symbol into one partition. docs/adr/0025 has the measured shares.
"""

from __future__ import annotations

import zlib


def partition_of(venue: str, symbol: str, partitions: int) -> int:
    """Return the partition for the trades of a market, of so many `partitions`; the same in every process."""
    return zlib.crc32(f"{venue}/{symbol}".encode()) % partitions
