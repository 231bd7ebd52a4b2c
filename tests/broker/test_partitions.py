"""In which partition a market's trades are sent, and how evenly. The figures are those of docs/adr/0025."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from lakehouse.broker.partitions import partition_of
from lakehouse.market.venues import VENUES
from lakehouse.settings import load_settings

#: Assets of the larger market; the default symbols are the first three.
ASSETS = """
    BTC ETH SOL XRP DOGE ADA AVAX LTC LINK DOT BNB TRX TON SHIB BCH XLM UNI ATOM ETC FIL
    ICP APT NEAR ARB OP INJ SUI SEI TIA PEPE WIF BONK FET RNDR GRT AAVE MKR LDO CRV ALGO
"""
SYMBOLS = [f"{asset}/USDT" for asset in ASSETS.split()]
#: Shares of the venues in the simulator's trades. A symbol's share there falls with its place in the list.
WEIGHTS = {"binance": 3.0, "coinbase": 2.0, "kraken": 1.0}


def shares(symbols: int, partitions: int) -> list[int]:
    """Percent of the trades in each partition, descending."""
    found = [0.0] * partitions
    for venue, weight in WEIGHTS.items():
        for place, symbol in enumerate(SYMBOLS[:symbols]):
            found[partition_of(venue, symbol, partitions)] += weight / math.sqrt(place + 1)
    return sorted((round(100 * one / sum(found)) for one in found), reverse=True)


def test_a_market_has_the_same_partition_in_every_process_and_version() -> None:
    code = (
        "from lakehouse.broker.partitions import partition_of as p\n"
        "print([p(v, 'BTC/USDT', 6) for v in ('binance', 'kraken', 'coinbase')], p('binance', '币安人生/USDT', 1024))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert found.stdout == "[2, 4, 5] 434\n"


def test_with_the_defaults_no_partition_is_empty_and_the_largest_holds_a_quarter() -> None:
    settings = load_settings()
    assert (settings.venues, settings.symbols, settings.topic_partitions) == (VENUES, tuple(SYMBOLS[:3]), 6)
    assert shares(3, 6) == [26, 21, 20, 15, 10, 8]


@pytest.mark.parametrize(
    ("symbols", "partitions", "largest", "empty"),
    [
        (3, 4, 40, 0),
        (3, 8, 27, 1),
        (3, 12, 22, 3),
        (3, 16, 22, 7),
        (40, 4, 25, 0),
        (40, 6, 23, 0),
        (40, 8, 14, 0),
        (40, 12, 12, 0),
        (40, 16, 9, 0),
    ],
)
def test_shares_of_other_markets_and_counts(symbols: int, partitions: int, largest: int, empty: int) -> None:
    found = shares(symbols, partitions)
    assert (found[0], found.count(0)) == (largest, empty)
