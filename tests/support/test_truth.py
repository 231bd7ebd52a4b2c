from __future__ import annotations

import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake.table_io import append_rows
from lakehouse.settings import Settings
from lakehouse.simulator.record import Row, TrueTrade
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES
from tests.support import truth
from tests.support.bar_fold import fold_bars, half_up_quotient
from tests.support.rows import NOON_US, bar_rows, empty_lake, trade_row, write_record

MINUTE = 60_000_000
PAIR = ("binance", "BTC/USDT")


def trade(trade_id: int, price: str, size: str, side: Any, at: int, venue: str = "binance") -> TrueTrade:
    return TrueTrade(venue, "BTC/USDT", trade_id, Decimal(price), Decimal(size), side, NOON_US + at)


# ------------------------------------------------------------------------------------------------ the fold


def test_a_bar_computed_by_hand() -> None:
    trades = [
        trade(12, "101", "2", "sell", 59_999_999),  # the latest, and not the last: that is 13
        trade(10, "100", "1", "buy", 5),
        trade(11, "103", "0.5", "buy", 0),  # a millisecond's trade over REST: earlier than 10 by its time, and after it
        trade(13, "99.5", "1", "sell", 30_000_000),
    ]
    (bar,) = fold_bars(trades, 1)
    assert bar == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": NOON_US,
        "open": Decimal("100"),
        "high": Decimal("103"),
        "low": Decimal("99.5"),
        "close": Decimal("99.5"),
        "volume": Decimal("4.5"),
        "quote_volume": Decimal("453"),  # 202 + 100 + 51.5 + 99.5
        "vwap": Decimal("100.666666666666666667"),
        "trades": 4,
        "buy_volume": Decimal("1.5"),
        "sell_volume": Decimal("3"),
        "pressure": Decimal("-0.333333333333333333"),
        "first_trade_id": 10,
        "last_trade_id": 13,
        "complete": False,  # neither the trade before 10 nor the one after 13 is there
    }
    assert fold_bars([item._asdict() for item in trades], 1) == [bar]


def test_windows_are_aligned_and_bars_are_per_venue() -> None:
    trades = [
        trade(1, "1", "1", "buy", -1),
        trade(2, "1", "1", "buy", 0),
        trade(3, "1", "1", "buy", MINUTE),
        trade(4, "1", "1", "buy", 5 * MINUTE - 1),
        trade(5, "1", "1", "buy", 5 * MINUTE),
        trade(1, "1", "1", "buy", 0, venue="kraken"),
    ]
    one = [(bar["venue"], (bar["bar_start"] - NOON_US) // MINUTE, bar["trades"]) for bar in fold_bars(trades, 1)]
    five = [(bar["venue"], (bar["bar_start"] - NOON_US) // MINUTE, bar["trades"]) for bar in fold_bars(trades, 5)]
    assert one == [("binance", n, 1) for n in (-1, 0, 1, 4, 5)] + [("kraken", 0, 1)]
    assert five == [("binance", -5, 1), ("binance", 0, 3), ("binance", 5, 1), ("kraken", 0, 1)]


@pytest.mark.parametrize(
    ("price", "size", "product"),
    [
        ("0.000000005", "0.0000000001", "0.000000000000000001"),  # 5e-19: half goes up
        ("0.0000000049999", "0.0000000001", "0"),
    ],
)
def test_a_product_is_rounded_half_up_once_a_trade(price: str, size: str, product: str) -> None:
    (bar,) = fold_bars([trade(1, price, size, "buy", 0), trade(2, price, size, "buy", 0)], 1)
    assert bar["quote_volume"] == 2 * Decimal(product)


def test_large_products_lose_no_digit() -> None:
    # 18 decimals and 38 digits, beyond the 28 digits of Python's default context.
    (bar,) = fold_bars([trade(1, "99999999999.1234567890", "12345678.12345678", "buy", 0)], 1)
    assert f"{bar['quote_volume']:f}".replace(".", "") == str(999999999991234567890 * 1234567812345678)


@pytest.mark.parametrize(
    ("numerator", "denominator", "quotient"),
    [
        ("1", "3", "0.333333333333333333"),
        ("2", "3", "0.666666666666666667"),
        ("-2", "3", "-0.666666666666666667"),
        ("1e-18", "2", "1e-18"),
        ("-1e-18", "2", "-1e-18"),  # ties away from zero, as HALF_UP is defined
        ("1e-18", "2.000000000000000001", "0"),
        ("0", "7", "0"),
    ],
)
def test_quotients_are_half_up(numerator: str, denominator: str, quotient: str) -> None:
    assert half_up_quotient(Decimal(numerator), Decimal(denominator)) == Decimal(quotient)


def test_order_of_arrival_does_not_matter() -> None:
    trades = [trade(n, f"{n % 7 + 1}.25", "0.1", ("buy", "sell")[n % 2], n % 13 * MINUTE) for n in range(200)]
    shuffled = trades.copy()
    random.Random(1).shuffle(shuffled)
    assert fold_bars(shuffled, 5) == fold_bars(trades, 5)


@pytest.mark.parametrize(
    ("ids", "complete"),
    [
        ({1: [9], 2: [10, 11, 12], 3: [13]}, [False, True, False]),
        ({1: [9], 2: [10, 12], 3: [13]}, [False, False, False]),  # 11 never came
        ({1: [9], 2: [10, 11, 12]}, [False, False]),
        ({2: [10, 11, 12], 3: [13]}, [False, False]),
        ({1: [9, 11], 2: [10, 12], 3: [13]}, [False, True, False]),  # ids of the bar's range in another bar
        ({1: [4095], 2: [4096], 3: [4097, 8192]}, [False, True, False]),
        ({1: [0], 2: [1], 3: [2]}, [False, True, False]),
        ({1: [13], 2: [10, 11, 12], 3: [9]}, [False, True, False]),
    ],
)
def test_complete_goes_by_the_ids(ids: dict[int, list[int]], complete: list[bool]) -> None:
    trades = [trade(number, "1", "1", "buy", minute * MINUTE) for minute in ids for number in ids[minute]]
    others = [trade(number, "1", "1", "buy", 0, venue="kraken") for number in (8, 11, 14)]
    bars = fold_bars([*trades, *others], 1)
    assert [bar["complete"] for bar in bars if bar["venue"] == "binance"] == complete


def test_a_wrong_flag_is_a_difference(lake: Settings) -> None:
    bars = bar_rows(truth.read_bars(lake, 1))
    assert [bar["complete"] for bar in bars] == [False, True, True, False]
    append_rows(lake, SILVER_TRADES, [trade_row(31, NOON_US + 60 * MINUTE)])  # proves the bar of 12:03, an hour later
    with pytest.raises(AssertionError, match="2 differences") as error:
        truth.assert_bars_equal_fold(lake, 1)
    assert "12:03: complete is False, expected True" in str(error.value)
    assert "13:00: missing, expected 1 trades" in str(error.value)


def test_an_unknown_side_is_not_folded_away() -> None:
    with pytest.raises(ValueError, match="expected buy or sell"):
        fold_bars([trade(1, "1", "1", "bid", 0)], 1)


# ------------------------------------------------------------------------------------------------ the verdicts


def row(n: int) -> Row:
    """The recorded form of `silver(n)`: price 100.5, size 0.25, the taker bought in every other."""
    return Row(n, NOON_US + n * 7_000_001, 1005, 25, 1, 2, n % 2 == 0)


def silver(n: int, **columns: Any) -> dict[str, Any]:
    return trade_row(n, NOON_US + n * 7_000_001, **{"side": "buy" if n % 2 == 0 else "sell"} | columns)


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """A record of trades 1 to 30 and tables that hold exactly these."""
    settings = empty_lake(tmp_path)
    write_record(tmp_path / "simulator" / "record", {PAIR: [row(n) for n in range(1, 31)]})
    append_rows(settings, SILVER_TRADES, [silver(n) for n in range(30, 15, -1)])
    append_rows(settings, SILVER_TRADES, [silver(n) for n in range(1, 16)])
    trades = list(truth.iter_silver(settings, *PAIR))
    append_rows(settings, GOLD_BARS_1M, bar_rows(fold_bars(trades, 1)))
    append_rows(settings, GOLD_BARS_5M, bar_rows(fold_bars(trades, 5)))
    return settings


def compare(settings: Settings, **options: Any) -> int:
    return truth.assert_silver_equals_record(settings, settings.home / "simulator" / "record", **options)


def test_equal_tables_are_equal(lake: Settings) -> None:
    assert compare(lake) == 30
    assert truth.assert_bars_equal_fold(lake, 1) == 4
    assert truth.assert_bars_equal_fold(lake, 5) == 1
    first = truth.read_silver(lake)[0]
    assert (first["trade_id"], first["ts_event"], first["price"]) == (1, NOON_US + 7_000_001, Decimal("100.5"))
    assert truth.read_bars(lake, 1)[1]["bar_start"] == NOON_US + MINUTE


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (silver(31), "binance BTC/USDT 31: in Silver, not recorded"),
        (silver(7), "binance BTC/USDT 7: more than once in Silver"),
        (silver(1, venue="kraken"), "kraken BTC/USDT 1: in Silver, not recorded"),
    ],
)
def test_a_row_too_many(lake: Settings, extra: dict[str, Any], message: str) -> None:
    append_rows(lake, SILVER_TRADES, [extra])
    with pytest.raises(AssertionError, match=f"1 differences, of which:\n  {message}"):
        compare(lake)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"price": Decimal("100.500000000000000001")}, "price is 100.500000000000000001, expected 100.5"),
        ({"size": Decimal("0.249999999999999999")}, "size is 0.249999999999999999, expected 0.25"),
        ({"side": "sell"}, "side is sell, expected buy"),
    ],
)
def test_another_value(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    settings = empty_lake(tmp_path)
    write_record(tmp_path / "simulator" / "record", {PAIR: [row(2)]})
    append_rows(settings, SILVER_TRADES, [silver(2, **columns)])
    with pytest.raises(AssertionError, match=f"binance BTC/USDT 2: {message}"):
        compare(settings)


def test_missing_trades_and_at_most_five_are_shown(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    write_record(tmp_path / "simulator" / "record", {PAIR: [row(n) for n in range(1, 21)]})
    append_rows(settings, SILVER_TRADES, [silver(n) for n in (8, 10, 11)])
    with pytest.raises(AssertionError, match="17 differences") as error:
        compare(settings)
    assert len(str(error.value).splitlines()) == 6
    with pytest.raises(
        AssertionError, match="10 differences, of which:\n  binance BTC/USDT 9: recorded, not in Silver"
    ):
        compare(settings, from_first_seen=True)


def test_a_pair_without_trades_and_an_empty_record_do_not_pass(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    with pytest.raises(AssertionError, match="holds no trade"):
        compare(settings)
    write_record(tmp_path / "simulator" / "record", {PAIR: [row(1)], ("kraken", "BTC/USDT"): [row(1)]})
    append_rows(settings, SILVER_TRADES, [silver(1)])
    with pytest.raises(AssertionError, match="kraken BTC/USDT: 1 trades recorded, none in Silver"):
        compare(settings, from_first_seen=True)


def test_a_wrong_missing_double_and_surplus_bar(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    append_rows(settings, SILVER_TRADES, [silver(n) for n in (1, 10, 20)])
    wrong, missing, twice = bar_rows(fold_bars(truth.iter_silver(settings, *PAIR), 1))
    wrong["vwap"] += Decimal("1e-18")
    surplus = twice | {"venue": "kraken"}
    append_rows(settings, GOLD_BARS_1M, [wrong, twice, twice, surplus])
    with pytest.raises(AssertionError, match="4 differences") as error:
        truth.assert_bars_equal_fold(settings, 1)
    text = str(error.value)
    assert "12:00: vwap is 100.500000000000000001, expected 100.5" in text
    assert "12:01: missing, expected 1 trades" in text
    assert "12:02: more than once" in text
    assert "kraken BTC/USDT 2026-11-01 12:02: a bar without trades" in text
    assert missing["trades"] == 1


def judge(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.truth", "--home", str(home)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def test_the_command(lake: Settings) -> None:
    done = judge(lake.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        "gold/bars_1m equals the fold of silver/trades: 4 bars",
        "gold/bars_5m equals the fold of silver/trades: 1 bars",
    ]
    append_rows(lake, SILVER_TRADES, [silver(31)])
    done = judge(lake.home)
    assert done.returncode == 1
    assert "31: in Silver, not recorded" in done.stderr


def test_the_command_without_a_lake(tmp_path: Path) -> None:
    done = judge(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("truth: ")
    assert len(done.stderr.splitlines()) == 1
