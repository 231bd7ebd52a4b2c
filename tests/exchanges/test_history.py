"""The walks of Binance and Coinbase with replies made for each rule: ids that are gone, skipped or not there yet."""

from __future__ import annotations

import pytest

from lakehouse.exchanges.binance.history import BinanceHistory
from lakehouse.exchanges.coinbase.history import CoinbaseHistory
from lakehouse.exchanges.history import Page, Request
from lakehouse.exchanges.registry import VENUES
from tests.support.history_tools import SYMBOL, asked, binance_row, coinbase_row, members, rows_of, walk

# Binance


def test_binance_asks_by_id_and_in_microseconds() -> None:
    history = VENUES["binance"].history("btc-usdt", 100, 2500, None, None)
    request = asked(history)
    assert request == Request(
        "/api/v3/historicalTrades",
        {"symbol": "BTCUSDT", "fromId": "100", "limit": "1000"},
        {"X-MBX-TIME-UNIT": "MICROSECOND"},
        25.0,
    )
    history.take(rows_of("binance", [binance_row(one) for one in range(100, 1100)]))
    assert asked(history).params["fromId"] == "1100"
    history.take(rows_of("binance", [binance_row(one) for one in range(1100, 2100)]))
    assert asked(history).params == {"symbol": "BTCUSDT", "fromId": "2100", "limit": "401"}
    history.take(rows_of("binance", [binance_row(one) for one in range(2100, 2501)]))
    assert history.request() is None
    assert not history.missing


def test_binance_silently_begins_with_the_first_id_that_it_has() -> None:
    history = BinanceHistory(SYMBOL, "BTCUSDT", 5, 8)
    page = history.take(rows_of("binance", [binance_row(one) for one in (7, 8, 9, 10)]))
    assert [trade.trade_id for trade in page.trades] == [7, 8]
    assert members(history.unavailable) == members(history.missing) == [5, 6]
    assert (history.newest_seen, history.request()) == (10, None)


def test_binance_has_nothing_of_the_range_any_more() -> None:
    history = BinanceHistory(SYMBOL, "BTCUSDT", 5, 8)
    assert history.take(rows_of("binance", [binance_row(one) for one in (70, 71, 72, 73)])) == Page()
    assert members(history.unavailable) == [5, 6, 7, 8]
    assert history.request() is None


@pytest.mark.parametrize(("shown", "newest"), [([], None), ([5, 6], 6)])
def test_binance_lags(shown: list[int], newest: int | None) -> None:
    history = BinanceHistory(SYMBOL, "BTCUSDT", 5, 8)
    history.take(rows_of("binance", [binance_row(one) for one in shown]))
    assert (history.request(), history.newest_seen) == (None, newest)
    assert members(history.missing) == [one for one in (5, 6, 7, 8) if one not in shown]
    assert not history.unavailable


def test_binance_bad_rows_without_an_id_end_a_full_page() -> None:
    """Each stands for an id, so that the walk gets past them."""
    history = BinanceHistory(SYMBOL, "BTCUSDT", 1, 9, page=3)
    page = history.take(rows_of("binance", ["null", "{}", "[]"]))
    assert len(page.rejected) == 3
    assert asked(history).params["fromId"] == "4"
    assert members(history.unavailable) == [1, 2, 3]


# Coinbase


def test_coinbase_walks_downwards_from_one_above_the_range() -> None:
    history = VENUES["coinbase"].history(SYMBOL, 100, 1500, None, None)
    assert asked(history) == Request("/products/BTC-USDT/trades", {"limit": "1000", "after": "1502"}, {}, 1.0)
    page = history.take(rows_of("coinbase", [coinbase_row(one) for one in range(1501, 501, -1)]))
    assert [trade.trade_id for trade in page.trades] == list(range(502, 1501))
    assert asked(history).params == {"limit": "402", "after": "502"}
    history.take(rows_of("coinbase", [coinbase_row(one) for one in range(501, 99, -1)]))
    assert history.request() is None
    assert not history.missing
    assert history.newest_seen == 1501


def test_coinbase_has_nothing_older() -> None:
    history = CoinbaseHistory(SYMBOL, "BTC-USDT", 5, 8)
    history.take(rows_of("coinbase", [coinbase_row(one) for one in (9, 8, 7)]))
    assert asked(history).params["after"] == "7"
    assert not history.unavailable
    assert history.take(rows_of("coinbase", [])) == Page()
    assert members(history.unavailable) == members(history.missing) == [5, 6]
    assert history.request() is None


def test_coinbase_tells_lag_from_skipped_ids() -> None:
    """The newest trade is asked for, and only a page that was asked for later may call an id unavailable."""
    rows = [coinbase_row(one) for one in (6, 5, 4)]
    for newest, unavailable in ((6, []), (8, [7]), (20, [7, 8])):
        history = CoinbaseHistory(SYMBOL, "BTC-USDT", 5, 8)
        history.take(rows_of("coinbase", rows))
        assert asked(history).params == {"limit": "1"}
        assert not history.unavailable
        page = history.take(rows_of("coinbase", [coinbase_row(newest)]))
        assert [trade.trade_id for trade in page.trades] == [8] * (newest == 8)
        assert asked(history).params["after"] == str(min(newest, 9) + 1)
        assert not history.unavailable
        history.take(rows_of("coinbase", [coinbase_row(8)] * (newest == 8) + rows))
        assert history.request() is None
        assert members(history.unavailable) == unavailable
        assert history.newest_seen == newest


def test_coinbase_that_repeats_itself_ends() -> None:
    history = CoinbaseHistory(SYMBOL, "BTC-USDT", 5, 8000)
    walked = walk(history, lambda _: rows_of("coinbase", [coinbase_row(9000)]))
    assert walked.trades == []
    assert len(walked.requests) < 15
