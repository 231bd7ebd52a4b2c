"""Wishes that `/v1/stream` cannot meet: a problem in words, then code 1008."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("venue=x&symbol=BTC/USDT", "venue 'x'; expected one of"),
        ("venue=binance&symbol=BTC", "symbol 'BTC'"),
        ("venue=binance&symbol=BTC/USDT&kind=candles", "kind 'candles'"),
        ("venue=binance&symbol=BTC/USDT&from=yesterday", "time 'yesterday'"),
        ("venue=binance&symbol=BTC/USDT&from=2026-01-01&speed=-1", "speed '-1'"),
        ("venue=binance&symbol=BTC/USDT&from=2026-01-01&speed=nan", "speed 'nan'"),
        ("venue=binance&symbol=BTC/USDT&to=2026-01-01", "without a beginning"),
        ("venue=binance&symbol=BTC/USDT&since=2026-01-01", "parameter 'since'"),
        ("venue=binance&symbol=BTC/USDT&kind=bars&size=7m", "bar size '7m'"),
        ("", "venue ''"),
        ("venue=binance&symbol=BTC/USDT&venue=kraken", "parameter 'venue' more than once"),
        ("venue=binance&symbol=BTC/USDT&after=5", "without a beginning"),
        ("venue=binance&symbol=BTC/USDT&from=2026-01-01&missing=5", "of a stream that begins"),
        ("venue=binance&symbol=BTC/USDT&from=2026-01-01&after=-5", "after '-5'; expected a trade id"),
        ("venue=binance&symbol=BTC/USDT&from=2026-01-01&after=9&missing=8-10", "missing '8-10'"),
        ("venue=binance&symbol=BTC/USDT&hold=301", "hold '301'"),
        ("venue=binance&symbol=BTC/USDT&kind=bars&hold=3", "parameter 'hold' of bars"),
    ],
)
def test_a_wrong_wish_is_told(url: str, query: str, words: str) -> None:
    with connect(f"{url.replace('http', 'ws')}/v1/stream?{query}", open_timeout=20) as socket:
        message = json.loads(socket.recv(timeout=20))
        assert message["type"] == "problem"
        assert words in message["detail"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
