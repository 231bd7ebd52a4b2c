"""Trades folded into bars in plain Python: what the judge holds the tables of Gold against."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from lakehouse.simulator.record import TrueTrade

MINUTE_US = 60_000_000
UNIT = Decimal(1).scaleb(-18)
#: 38 digits of price times 38 of size, and room for a sum of 10^24 of them: nothing is rounded but where we say so.
EXACT = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_UP, traps=[decimal.InvalidOperation, decimal.Overflow])
BAR_KEY = ("venue", "symbol", "bar_start")
BAR_VALUES = (
    "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades",
    "buy_volume", "sell_volume", "pressure", "first_trade_id", "last_trade_id", "complete",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the fold


class _Bar:
    """A bar in the making. Order of arrival does not matter."""

    __slots__ = ("buy", "first", "high", "last", "low", "quote", "sell", "trades")

    def __init__(self, trade: TrueTrade) -> None:
        self.first = self.last = trade
        self.high = self.low = trade.price
        self.quote = self.buy = self.sell = Decimal(0)
        self.trades = 0

    def add(self, trade: TrueTrade) -> None:
        if trade.trade_id < self.first.trade_id:
            self.first = trade
        if trade.trade_id > self.last.trade_id:
            self.last = trade
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.quote += (trade.price * trade.size).quantize(UNIT)
        if trade.side == "buy":
            self.buy += trade.size
        elif trade.side == "sell":
            self.sell += trade.size
        else:
            raise ValueError(f"side {trade.side!r} of {trade}; expected buy or sell")
        self.trades += 1

    def values(self, ids: _Ids) -> dict[str, Any]:
        volume = self.buy + self.sell
        return {
            "open": self.first.price,
            "high": self.high,
            "low": self.low,
            "close": self.last.price,
            "volume": volume,
            "quote_volume": self.quote,
            "vwap": half_up_quotient(self.quote, volume),
            "trades": self.trades,
            "buy_volume": self.buy,
            "sell_volume": self.sell,
            "pressure": half_up_quotient(self.buy - self.sell, volume),
            "first_trade_id": self.first.trade_id,
            "last_trade_id": self.last.trade_id,
            "complete": all(trade_id in ids for trade_id in range(self.first.trade_id - 1, self.last.trade_id + 2)),
        }


class _Ids:
    """A set of whole numbers, a byte for each."""

    PAGE = 4096

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        page, place = divmod(number, self.PAGE)
        self._pages.setdefault(page, bytearray(self.PAGE))[place] = 1

    def __contains__(self, number: int) -> bool:
        page, place = divmod(number, self.PAGE)
        return page in self._pages and self._pages[page][place] == 1


def fold_bars(trades: Iterable[TrueTrade | Mapping[str, Any]], minutes: int) -> list[dict[str, Any]]:
    """The bars of trades, ordered by (venue, symbol, bar_start); windows are aligned to the epoch.

    A trade is a TrueTrade or a mapping with its fields. `complete` goes by the ids of these trades.
    """
    length = minutes * MINUTE_US
    bars: dict[tuple[str, str, int], _Bar] = {}
    ids: dict[tuple[str, str], _Ids] = {}
    with decimal.localcontext(EXACT):
        for trade in map(_true_trade, trades):
            key = (trade.venue, trade.symbol, trade.ts_event - trade.ts_event % length)
            bar = bars.get(key)
            if bar is None:
                bar = bars[key] = _Bar(trade)
            bar.add(trade)
            ids.setdefault(key[:2], _Ids()).add(trade.trade_id)
        return [dict(zip(BAR_KEY, key, strict=True)) | bars[key].values(ids[key[:2]]) for key in sorted(bars)]


def half_up_quotient(numerator: Decimal, denominator: Decimal) -> Decimal:
    """numerator ÷ denominator at 18 decimals, ties away from zero; in integers, so rounded once and exactly."""
    with decimal.localcontext(EXACT):
        top, bottom = int(numerator.scaleb(36)), int(denominator.scaleb(18))
        magnitude = (2 * abs(top) + bottom) // (2 * bottom)
        return Decimal(magnitude if top >= 0 else -magnitude).scaleb(-18)


def _true_trade(trade: TrueTrade | Mapping[str, Any]) -> TrueTrade:
    if isinstance(trade, TrueTrade):
        return trade
    return TrueTrade(*(trade[name] for name in TrueTrade._fields))
