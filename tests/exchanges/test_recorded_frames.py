"""The parsers against real traffic: ../shared/data, see its NOTICE.md. Skipped where that folder is missing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lakehouse.exchanges.model import Heartbeat, Parsed, Rejected, Subscribed, Trade
from lakehouse.exchanges.registry import VENUES

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded frames in {DATA}")


def received(name: str) -> list[tuple[int, str]]:
    """(receive time in microseconds, frame) of the lines that were received."""
    frames = []
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        head, separator, frame = line.partition(": ")
        if separator and "<-" not in head:
            seconds, _, fraction = head.partition(".")
            frames.append((int(seconds) * 1_000_000 + int(fraction.ljust(6, "0")[:6] or 0), frame))
    return frames


def parsed_frames(venue: str, name: str) -> list[tuple[str, list[Parsed]]]:
    return [(frame, VENUES[venue].parse(frame.encode(), ts_ingest)) for ts_ingest, frame in received(name)]


def test_coinbase() -> None:
    results = parsed_frames("coinbase", "coinbase-2021-04-17.ws")
    values = [value for _, parsed in results for value in parsed]
    trades = [value for value in values if isinstance(value, Trade)]
    assert Counter(type(value) for value in values) == {Trade: 107, Subscribed: 1}
    assert Counter(trade.source for trade in trades) == {"live": 97, "snapshot": 10}
    assert all(len(parsed) <= 1 for _, parsed in results)

    takers = {}
    for frame, _ in results:
        message = json.loads(frame)
        if message["type"] == "ticker" and "trade_id" in message:
            takers[message["product_id"], message["trade_id"]] = message["side"]
    compared = 0
    for trade in trades:
        venues_own = json.loads(trade.raw)
        assert {trade.side, venues_own["side"]} == {"buy", "sell"}
        assert (trade.price, trade.size) == (venues_own["price"], venues_own["size"])
        assert abs(trade.ts_ingest - trade.ts_event) < 5_000_000 or trade.source == "snapshot"
        compared += takers.get((trade.native_symbol, trade.trade_id)) == trade.side
        assert takers.get((trade.native_symbol, trade.trade_id), trade.side) == trade.side
    assert compared == 107

    live: dict[str, list[int]] = {}
    for trade in trades:
        live.setdefault(trade.symbol, []).append(trade.trade_id)
    for ids in live.values():  # ids were contiguous per symbol, which the whole design rests on
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_binance_us_has_no_trades() -> None:
    results = parsed_frames("binance", "binance-us-aggtrade-2021-10-12.ws")
    assert len(results) == 480
    assert sum('"e":"aggTrade"' in frame for frame, _ in results) == 11
    assert [parsed for _, parsed in results if parsed] == []


def test_kraken_v1_has_trades_without_ids() -> None:
    results = parsed_frames("kraken", "kraken-v1-2021-04-17.ws")
    values = [value for _, parsed in results for value in parsed]
    assert Counter(type(value) for value in values) == {Rejected: 10, Heartbeat: 30, Subscribed: 10}
    rejected = [value for value in values if isinstance(value, Rejected)]
    assert {value.reason for value in rejected} == {"no_trade_id"}
    assert all(len(json.loads(value.raw)) == 6 for value in rejected)
    assert sum("XMR/USD" in value.detail for value in rejected) == 4
    subscribed = {symbol for value in values if isinstance(value, Subscribed) for symbol in value.symbols}
    assert {"BTC/CHF", "KSM/BTC", "ADA/BTC"} <= subscribed
