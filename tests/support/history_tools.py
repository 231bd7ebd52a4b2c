"""Walks through REST histories, and small models of the venues' REST that hold whatever trades a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lakehouse.exchanges.binance.history import BinanceHistory
from lakehouse.exchanges.coinbase.history import CoinbaseHistory
from lakehouse.exchanges.history import History, Reply, Request
from lakehouse.exchanges.kraken.history import KrakenHistory
from lakehouse.exchanges.model import Rejected, Trade

TS = 1_700_000_000_000_000
SYMBOL = "BTC/USDT"
Fetch = Callable[[Request], Reply]


@dataclass
class Walked:
    """The result of a walk, and how many requests it took."""

    trades: list[Trade] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [trade.trade_id for trade in self.trades]


def walk(history: History, fetch: Fetch, most: int = 5000) -> Walked:
    """The whole walk; what every page promises is checked on the way."""
    walked = Walked()
    while (request := history.request()) is not None:
        assert len(walked.requests) < most, "the walk does not end"
        assert request == history.request()
        walked.requests.append(request)
        page = history.take(fetch(request))
        ids = [trade.trade_id for trade in page.trades]
        assert ids == sorted(ids)
        assert all(trade.source == "repair" for trade in page.trades)
        walked.trades += page.trades
        walked.rejected += page.rejected
    assert len(set(walked.ids)) == len(walked.ids), "an id was delivered twice"
    return walked


def members(ranges: Any) -> list[int]:
    """The ids of an IdRanges, one by one."""
    return [trade_id for first, last in ranges for trade_id in range(first, last + 1)]


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    body = value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body, TS)


def binance_row(trade_id: int, micros: int = TS) -> str:
    return (
        f'{{"id":{trade_id},"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":{micros},'
        f'"isBuyerMaker":{"true" if trade_id % 2 else "false"},"isBestMatch":true}}'
    )


def kraken_row(trade_id: int, micros: int = TS) -> str:
    time = f"{micros // 1_000_000}.{micros % 1_000_000:06d}7"
    return f'["4.00000","12.00000000",{time},"{"s" if trade_id % 2 else "b"}","l","",{trade_id}]'


def coinbase_row(trade_id: int, micros: int = TS) -> str:
    side = "buy" if trade_id % 2 else "sell"
    return (
        f'{{"time":"2023-11-14T22:13:20.000Z","trade_id":{trade_id},"price":"4.00000000",'
        f'"size":"12.00000000","side":"{side}"}}'
    )


def kraken_body(rows: Sequence[str], last: int | str, key: str = "XBTUSDT") -> str:
    return f'{{"error":[],"result":{{"{key}":[{",".join(rows)}],"last":"{last}"}}}}'


@dataclass
class Model:
    """A venue's REST that holds `trades` (id, time in µs), ids and times ascending; `bad` ids have unreadable rows."""

    trades: list[tuple[int, int]]
    page: int
    bad: frozenset[int] = frozenset()

    def row(self, write: Callable[[int, int], str], trade_id: int, micros: int) -> str:
        text = write(trade_id, micros)
        return text.replace("4.0000", "-4.0000") if trade_id in self.bad else text

    def newest(self) -> int:
        return self.trades[-1][0] if self.trades else -1


class BinanceModel(Model):
    def history(self, first: int, last: int) -> History:
        return BinanceHistory(SYMBOL, "BTCUSDT", first, last, page=self.page)

    def __call__(self, request: Request) -> Reply:
        assert request.path == "/api/v3/historicalTrades"
        limit = int(request.params["limit"])
        assert 1 <= limit <= self.page
        found = [one for one in self.trades if one[0] >= int(request.params["fromId"])][:limit]
        return json_reply(f"[{','.join(self.row(binance_row, *one) for one in found)}]")


class KrakenModel(Model):
    def history(self, first: int, last: int, before: bool = True, after: bool = True) -> History:
        ts_before = max((micros for trade_id, micros in self.trades if trade_id < first), default=None)
        ts_after = min((micros for trade_id, micros in self.trades if trade_id > last), default=None)
        return KrakenHistory(
            SYMBOL, first, last, ts_before if before else None, ts_after if after else None, page=self.page
        )

    def __call__(self, request: Request) -> Reply:
        assert request.path == "/0/public/Trades"
        assert request.params["pair"] == "XBTUSDT"
        if "since" in request.params:
            since = int(request.params["since"])
            # Times of 100 ns: a µs and seven tenths more.
            found = [one for one in self.trades if one[1] * 1000 + 700 > since][: int(request.params["count"])]
        else:
            since, found = 0, self.trades[-self.page :]
        last = found[-1][1] * 1000 + 700 if found else since
        return json_reply(kraken_body([self.row(kraken_row, *one) for one in found], last))


class CoinbaseModel(Model):
    def history(self, first: int, last: int) -> History:
        return CoinbaseHistory(SYMBOL, "BTC-USDT", first, last, page=self.page)

    def __call__(self, request: Request) -> Reply:
        assert request.path == "/products/BTC-USDT/trades"
        limit = int(request.params["limit"])
        assert 1 <= limit <= self.page
        after = int(request.params.get("after", 2**63))
        found = [one for one in self.trades if one[0] < after][-limit:][::-1]
        return json_reply(f"[{','.join(self.row(coinbase_row, *one) for one in found)}]")


MODELS: dict[str, type[BinanceModel] | type[KrakenModel] | type[CoinbaseModel]] = {
    "binance": BinanceModel,
    "kraken": KrakenModel,
    "coinbase": CoinbaseModel,
}


class Writer(Protocol):
    """Writes a venue's row of a trade."""

    def __call__(self, trade_id: int, micros: int = TS) -> str: ...


WRITERS: dict[str, Writer] = {"binance": binance_row, "kraken": kraken_row, "coinbase": coinbase_row}


def asked(history: History) -> Request:
    request = history.request()
    assert request is not None
    return request


def rows_of(name: str, rows: list[str], last: int = TS * 1000) -> Reply:
    """A page of a venue. Coinbase's rows are given newest first."""
    return json_reply(kraken_body(rows, last) if name == "kraken" else f"[{','.join(rows)}]")
