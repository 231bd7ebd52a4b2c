"""Rows of the REST histories, each with one value for each rule: good ones as documented and recorded, and bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse.exchanges.history import Page
from lakehouse.exchanges.model import Trade
from lakehouse.exchanges.registry import VENUES
from tests.support.history_tools import SYMBOL, TS, WRITERS, members, rows_of

EACH_VENUE = pytest.mark.parametrize("name", VENUES)


def one_row(name: str, row: str, first: int = 0, last: int = 2**63 - 2) -> Page:
    """The result of a page with a single row."""
    return VENUES[name].history(SYMBOL, first, last, TS, None).take(rows_of(name, [row]))


# Rows, as the venues' documentation and recordings have them.

BINANCE_ROW = (
    '{"id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012",'
    ' "time": 1499865549590, "isBuyerMaker": true, "isBestMatch": true}'
)
KRAKEN_ROW = '["105433.60000", "0.00027625", 1762795433.9717445, "b", "l", "", 10218208]'
COINBASE_ROW = (
    '{"trade_id": 74, "side": "sell", "size": "0.01000000", "price": "10.00000000", "time": "2014-11-07T22:19:28.578Z"}'
)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("binance", BINANCE_ROW, (28457, "4.00000100", "12.00000000", "sell", 1_499_865_549_590_000)),
        ("kraken", KRAKEN_ROW, (10218208, "105433.60000", "0.00027625", "buy", 1_762_795_433_971_744)),
        # The venue's side is the maker's.
        ("coinbase", COINBASE_ROW, (74, "10.00000000", "0.01000000", "buy", 1_415_398_768_578_000)),
    ],
)
def test_rows(name: str, row: str, expected: tuple[Any, ...]) -> None:
    page = one_row(name, row)
    (trade,) = page.trades
    assert (trade.trade_id, trade.price, trade.size, trade.side, trade.ts_event) == expected
    assert (trade.venue, trade.symbol, trade.native_symbol) == (name, SYMBOL, VENUES[name].native(SYMBOL))
    assert (trade.source, trade.raw, trade.ts_ingest) == ("repair", row, TS)
    assert page.rejected == ()


@pytest.mark.parametrize(
    ("row", "side", "micros"),
    [
        (BINANCE_ROW.replace("true,", "false,", 1), "buy", 1_499_865_549_590_000),
        (BINANCE_ROW.replace("1499865549590", "1499865549590123"), "sell", 1_499_865_549_590_123),
    ],
)
def test_binance_sides_and_times_of_either_unit(row: str, side: str, micros: int) -> None:
    (trade,) = one_row("binance", row).trades
    assert (trade.side, trade.ts_event) == (side, micros)


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        ("1762795433", 1_762_795_433_000_000),
        ("1762795433.9", 1_762_795_433_900_000),
        ("1762795433.971744", 1_762_795_433_971_744),
        # Cut, not rounded; a double would make …971745 of it.
        ("1762795433.9717449999", 1_762_795_433_971_744),
        ("1762795433.999999999", 1_762_795_433_999_999),
        ("1762795433.0000005", 1_762_795_433_000_000),
    ],
)
def test_kraken_times_are_cut_to_microseconds(time: str, micros: int) -> None:
    (trade,) = one_row("kraken", KRAKEN_ROW.replace("1762795433.9717445", time)).trades
    assert trade.ts_event == micros


def test_kraken_sides() -> None:
    (trade,) = one_row("kraken", KRAKEN_ROW.replace('"b"', '"s"')).trades
    assert trade.side == "sell"


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("binance", '"4.00000100"', "4.000001", "wrong_type"),
        ("binance", '"4.00000100"', '"-4"', "not_positive"),
        ("binance", '"12.00000000"', '"0.0000000000000000001"', "too_many_decimals"),
        ("binance", "1499865549590", '"1499865549590"', "wrong_type"),
        ("binance", "1499865549590", "5", "bad_time"),
        ("binance", '"isBuyerMaker": true', '"isBuyerMaker": 1', "wrong_type"),
        ("binance", '"price"', '"p"', "missing_field"),
        ("binance", '"id": 28457', '"id": 28457, "id": "x"', "wrong_type"),
        ("binance", '"id": 28457', '"id": "x", "id": 28457', "unreadable"),
        ("kraken", '"105433.60000"', "105433.6", "wrong_type"),
        ("kraken", '"105433.60000"', '"1e5"', "exponent"),
        ("kraken", '"0.00027625"', '"0.0"', "not_positive"),
        ("kraken", "1762795433.9717445", '"1762795433.9717445"', "wrong_type"),
        ("kraken", "1762795433.9717445", "1e9", "bad_time"),
        ("kraken", "1762795433.9717445", "-1762795433.9", "bad_time"),
        ("kraken", "1762795433.9717445", "9762795433.9", "bad_time"),
        ("kraken", '"b"', '"buy"', "bad_side"),
        ("kraken", '"b"', "1", "wrong_type"),
        ("kraken", ', "", 10218208', ', ""', "missing_field"),
        ("kraken", "10218208", "10218208.0", "wrong_type"),
        ("kraken", "10218208", "-1", "bad_trade_id"),
        ("kraken", KRAKEN_ROW, "{}", "unknown_frame"),
        ("kraken", KRAKEN_ROW, "[]", "missing_field"),
        ("coinbase", '"10.00000000"', "null", "wrong_type"),
        ("coinbase", '"sell"', '"SELL"', "bad_side"),
        ("coinbase", "2014-11-07", "2014-02-30", "bad_time"),
        ("coinbase", "2014-11-07", "2114-11-07", "bad_time"),
        ("coinbase", '"trade_id": 74', '"trade_id": 9223372036854775808', "bad_trade_id"),
        ("coinbase", COINBASE_ROW, "[1]", "unknown_frame"),
        ("coinbase", '"side"', f'"junk": "{"x" * 100_000}", "side"', "too_long"),
    ],
)
def test_bad_rows(name: str, old: str, new: str, reason: str) -> None:
    row = {"binance": BINANCE_ROW, "kraken": KRAKEN_ROW, "coinbase": COINBASE_ROW}[name]
    assert old in row
    row = row.replace(old, new)
    page = one_row(name, row)
    assert page.trades == ()
    (rejected,) = page.rejected
    assert (rejected.venue, rejected.reason, rejected.ts_ingest) == (name, reason, TS)
    assert rejected.raw == row[:100_000]
    assert "found" in rejected.detail


def test_kraken_rows_may_grow() -> None:
    (trade,) = one_row("kraken", KRAKEN_ROW.replace("10218208", '10218208, "new"')).trades
    assert trade.trade_id == 10218208


@EACH_VENUE
def test_a_bad_row_can_be_closed_with_a_reason(name: str) -> None:
    """Its id stays missing, and is unavailable at the end; a bad row outside the range is not ours to tell."""
    write = WRITERS[name]
    rows = [write(one, TS + one) for one in (9, 10, 11, 12)]
    rows[1] = rows[1].replace("4.0000", "-4.0000")
    rows[3] = rows[3].replace("4.0000", "-4.0000")
    if name == "coinbase":
        rows.reverse()
    history = VENUES[name].history(SYMBOL, 9, 11, TS, None)
    page = history.take(rows_of(name, rows, (TS + 12) * 1000))
    assert [trade.trade_id for trade in page.trades] == [9, 11]
    assert [value.reason for value in page.rejected] == ["not_positive"]
    assert members(history.missing) == members(history.unavailable) == [10]
    assert history.request() is None


@EACH_VENUE
def test_trades_of_a_page_ascend_whatever_their_order(name: str) -> None:
    write = WRITERS[name]
    history = VENUES[name].history(SYMBOL, 5, 9, TS, None)
    page = history.take(rows_of(name, [write(one) for one in (9, 5, 7, 5, 4, 10)]))
    assert [trade.trade_id for trade in page.trades] == [5, 7, 9]
    assert all(isinstance(trade, Trade) for trade in page.trades)


@EACH_VENUE
def test_of_two_rows_with_one_id_the_first_stays(name: str) -> None:
    write = WRITERS[name]
    rows = [write(5), write(5).replace("12.0000", "13.0000")]
    page = VENUES[name].history(SYMBOL, 5, 9, TS, None).take(rows_of(name, rows))
    assert [trade.raw for trade in page.trades] == rows[:1]
