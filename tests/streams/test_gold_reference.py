"""The judge of Gold judged: its bars against the other judge's fold, the rest against figures worked out by hand."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.tables import BARS, GOLD_INDICATORS_1M, GOLD_MOVES, GOLD_SPREADS_1M
from tests.support.bar_fold import BAR_KEY, BAR_VALUES, fold_bars
from tests.support.gold_reference import logarithm, quotient, reference
from tests.support.gold_verdict import table_differences
from tests.support.rows import NOON_US

MINUTE = 60_000_000
COLUMNS: dict[str, pa.DataType] = {
    "venue": pa.string(),
    "symbol": pa.string(),
    "trade_id": pa.int64(),
    "price": pa.decimal128(38, 18),
    "size": pa.decimal128(38, 18),
    "side": pa.string(),
    "ts_event": pa.int64(),
}
SCHEMA = pa.schema(COLUMNS)
NOTHING = dict.fromkeys(("lowest_venue", "highest_venue", "spread", "spread_bps"))


def trade(minute: float, price: str, **changes: Any) -> dict[str, Any]:
    """A trade so many minutes after noon; the id follows the time unless given."""
    at = NOON_US + round(minute * MINUTE)
    fields: dict[str, Any] = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "trade_id": round(minute * 100) + 100_000,
        "price": Decimal(price),
        "size": Decimal(1),
        "side": "buy",
        "ts_event": at,
    } | changes
    return fields | {"size": Decimal(fields["size"])}


def table(trades: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(trades), schema=SCHEMA)


def random_trades(count: int, seed: int) -> list[dict[str, Any]]:
    """Ids with gaps, equal times, times against the order of the ids, a third of the minutes empty."""
    rng = random.Random(seed)
    trades = []
    for venue, symbol in (("binance", "BTC/USDT"), ("kraken", "BTC/USDT"), ("kraken", "SHIB/USD")):
        for trade_id in range(rng.randrange(10), count):
            if rng.random() < 0.02:
                continue
            minute = trade_id // 20 * 1.5 + rng.choice([0.0, 0.1, 0.7, rng.random() * 2])
            price, size = f"{rng.randrange(1, 10**10)}e-{rng.choice([1, 5, 10])}", f"{rng.randrange(1, 10**12)}e-8"
            side = rng.choice(["buy", "sell"])
            trades.append(trade(minute, price, venue=venue, symbol=symbol, trade_id=trade_id, size=size, side=side))
    rng.shuffle(trades)
    return trades


# ---------------------------------------------------------------------------------------------------- bars


@pytest.mark.parametrize("minutes", BARS)
def test_bars_are_those_of_the_fold(minutes: int, tmp_path: Path) -> None:
    trades = random_trades(3_000, minutes)
    file = tmp_path / "it's.parquet"
    pq.write_table(table(trades), file)
    wanted = fold_bars(trades, minutes)
    bars = reference(file, [minutes])[BARS[minutes].path]
    assert [{name: bar[name] for name in (*BAR_KEY, *BAR_VALUES)} for bar in bars] == wanted
    assert minutes > 15 or {bar["complete"] for bar in bars} == {True, False}


def test_an_arrow_table_with_timestamps_as_silver_has_them() -> None:
    trades = table(random_trades(200, 1))
    place = SCHEMA.get_field_index("ts_event")
    stamped = trades.set_column(place, "ts_event", trades["ts_event"].cast(pa.timestamp("us", tz="UTC")))
    assert reference(stamped) == reference(trades)


def test_what_would_be_rounded_or_counted_twice_is_refused() -> None:
    fine = trade(0, "1")
    for bad in ({"price": Decimal("1e-11")}, {"size": Decimal("1e-9")}, {"side": "none"}):
        with pytest.raises(ValueError, match="expected 10"):
            reference(table([fine | bad]))
    with pytest.raises(ValueError, match="more than once"):
        reference(table([fine, fine | {"price": Decimal(2)}]))


# ---------------------------------------------------------------------------------------------------- figures


def test_quotients_are_half_up_once() -> None:
    assert quotient(Decimal(2), Decimal(3)) == Decimal("0.666666666666666667")
    assert quotient(Decimal(-2), 3) == Decimal("-0.666666666666666667")
    # 2^-19 has 19 decimals and ends in 5: a tie, away from zero on both sides
    assert quotient(1, 2**19) == Decimal("0.000001907348632813")
    assert quotient(-1, 2**19) == Decimal("-0.000001907348632813")


def test_logarithms() -> None:
    # ln 2 = 0.693147180559945309417…, ln 1.1 = 0.0953101798043248600439…
    assert logarithm(Decimal("4.2"), Decimal("2.1")) == Decimal("0.693147180559945309")
    assert logarithm(Decimal("2.1"), Decimal("4.2")) == Decimal("-0.693147180559945309")
    assert logarithm(Decimal("1.1"), Decimal(1)) == Decimal("0.095310179804324860")
    assert logarithm(Decimal(7), Decimal(7)) == 0


# ---------------------------------------------------------------------------------------------------- indicators


def indicators(*trades: dict[str, Any]) -> list[dict[str, Any]]:
    return reference(table(trades))[GOLD_INDICATORS_1M.path]


def test_the_fifth_bar_has_a_mean_of_five() -> None:
    # Minute 2 is empty and minute 3 has two trades: five bars, not five minutes, and closes, not trades.
    trades = [trade(0, "10"), trade(1, "11"), trade(3, "99", size="3"), trade(3.5, "12"), trade(4, "13")]
    rows = indicators(*trades, trade(5, "15", size="2"))
    assert [row["minutes_since_previous"] for row in rows] == [None, 1, 2, 1, 1]
    assert [row["sma_5"] for row in rows] == [None] * 4 + [Decimal("12.2")]  # (10 + 11 + 12 + 13 + 15) ÷ 5
    # (10 + 11 + 3 × 99 + 12 + 13 + 2 × 15) ÷ (1 + 1 + 3 + 1 + 1 + 2) = 373 ÷ 9
    assert rows[-1]["vwap_5"] == Decimal("41.444444444444444444")
    assert (rows[-1]["sma_20"], rows[-1]["vwap_20"], rows[-1]["sma_60"], rows[-1]["vwap_60"]) == (None,) * 4
    assert (rows[0]["simple_return"], rows[0]["log_return"]) == (None, None)
    assert rows[1]["simple_return"] == Decimal("0.1")
    assert rows[1]["log_return"] == Decimal("0.095310179804324860")
    assert rows[2]["simple_return"] == Decimal("0.090909090909090909")  # 1 ÷ 11
    assert rows[2]["log_return"] == Decimal("0.087011376989629766")  # ln 12 − ln 11 = 0.08701137698962976561…


def test_longer_spans_count_bars_of_one_pair() -> None:
    here = [trade(minute, str(minute + 1)) for minute in range(60)]
    there = [trade(minute + 0.5, "1000", venue="kraken") for minute in range(60)]
    rows = indicators(*here, *there)
    assert [row["sma_20"] for row in rows[:60]] == [None] * 19 + [Decimal(n) - Decimal("9.5") for n in range(20, 61)]
    assert [row["sma_60"] for row in rows[:60]] == [None] * 59 + [Decimal("30.5")]
    assert {row["sma_5"] for row in rows[60:]} == {None, Decimal(1000)}


@pytest.mark.parametrize(("back", "reached"), [(239, True), (240, False), (241, False)])
def test_nothing_reaches_back_four_hours(back: int, reached: bool) -> None:
    # Five bars, the first of which is `back` minutes before the last.
    last = indicators(*(trade(minute, "8") for minute in (0, back - 3, back - 2, back - 1, back)))[-1]
    assert (last["sma_5"], last["vwap_5"]) == ((Decimal(8), Decimal(8)) if reached else (None, None))
    # Two bars.
    last = indicators(trade(0, "8"), trade(back, "6"))[-1]
    figures = (last["minutes_since_previous"], last["simple_return"], last["log_return"])
    # ln 0.75 = −0.287682072451780927439…
    assert figures == ((back, Decimal("-0.25"), Decimal("-0.287682072451780927")) if reached else (None,) * 3)


# ---------------------------------------------------------------------------------------------------- moves


def test_a_move_is_beyond_the_threshold_and_not_at_it() -> None:
    trades = [
        *(trade(0, "100"), trade(0.5, "102")),  # 2 % up: at it
        *(trade(1, "100"), trade(1.2, "500", size="2"), trade(1.5, "102.01")),  # above it
        *(trade(2, "100"), trade(2.5, "98")),  # 2 % down: at it
        *(trade(3, "300"), trade(3.5, "293.9999999999")),  # below it
        *(trade(4, "1"), trade(4.2, "9"), trade(4.5, "1")),  # back where it was
    ]
    up, down = reference(table(trades))[GOLD_MOVES.path]
    assert up == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": NOON_US + MINUTE,
        "direction": "up",
        "from_price": Decimal(100),
        "to_price": Decimal("102.01"),
        "change": Decimal("0.0201"),
        "trades": 3,
        "volume": Decimal(4),
    }
    assert (down["bar_start"], down["direction"], down["trades"]) == (NOON_US + 3 * MINUTE, "down", 2)
    assert down["change"] == Decimal("-0.020000000000333333")  # −6.0000000001 ÷ 300
    assert len(reference(table(trades), threshold=Decimal("0.0199"))[GOLD_MOVES.path]) == 4
    assert len(reference(table(trades), threshold=Decimal("0.0201"))[GOLD_MOVES.path]) == 0


# ---------------------------------------------------------------------------------------------------- spreads


def spreads(*trades: dict[str, Any]) -> list[dict[str, Any]]:
    keys = ("base", "quote", "bar_start")
    rows = reference(table(trades))[GOLD_SPREADS_1M.path]
    return [{name: value for name, value in row.items() if name not in keys} for row in rows]


def prices(binance: str | None, kraken: str | None, coinbase: str | None) -> dict[str, Decimal | None]:
    given = {"price_binance": binance, "price_kraken": kraken, "price_coinbase": coinbase}
    return {name: None if price is None else Decimal(price) for name, price in given.items()}


def test_a_spread_is_between_the_closes() -> None:
    rows = spreads(
        *(trade(0, "1"), trade(0.9, "30000")),
        trade(0.2, "30010.5", venue="kraken"),
        trade(0.99, "30003", venue="coinbase"),
        trade(1, "30000", venue="kraken"),
        *(trade(2, "7", venue="kraken"), trade(2, "6", venue="coinbase")),
    )
    first, second, third = rows
    assert first == prices("30000", "30010.5", "30003") | {
        "venues": 3,
        "lowest_venue": "binance",
        "highest_venue": "kraken",
        "spread": Decimal("10.5"),
        "spread_bps": Decimal("3.5"),
    }
    assert second == prices(None, "30000", None) | {"venues": 1} | NOTHING
    assert third == prices(None, "7", "6") | {
        "venues": 2,
        "lowest_venue": "coinbase",
        "highest_venue": "kraken",
        "spread": Decimal(1),
        "spread_bps": Decimal("1666.666666666666666667"),
    }


def test_equal_prices_go_to_the_first_venue() -> None:
    all_equal = spreads(trade(0, "5", venue="coinbase"), trade(0, "5", venue="kraken"), trade(0, "5.0"))[0]
    assert (all_equal["lowest_venue"], all_equal["highest_venue"]) == ("binance", "binance")
    assert (all_equal["spread"], all_equal["spread_bps"]) == (0, 0)
    high = spreads(trade(0, "6", venue="coinbase"), trade(0, "6", venue="kraken"), trade(0, "5"))[0]
    assert (high["lowest_venue"], high["highest_venue"]) == ("binance", "kraken")
    low = spreads(trade(0, "5", venue="coinbase"), trade(0, "5", venue="kraken"), trade(0, "6"))[0]
    assert (low["lowest_venue"], low["highest_venue"]) == ("kraken", "binance")


def test_quotes_are_told_apart() -> None:
    trades = [trade(0, "5"), trade(0, "6", venue="kraken", symbol="BTC/USD"), trade(0, "7", symbol="ETH/USDT")]
    rows = reference(table(trades))[GOLD_SPREADS_1M.path]
    assert [(row["base"], row["quote"], row["venues"]) for row in rows] == [
        ("BTC", "USD", 1),
        ("BTC", "USDT", 1),
        ("ETH", "USDT", 1),
    ]


# ---------------------------------------------------------------------------------------------------- the verdict


def test_each_kind_of_difference_is_named() -> None:
    trades = [trade(0, "1"), trade(1, "2"), trade(2, "3")]
    moves = [trade(minute + 0.5, "9", trade_id=minute) for minute in range(3)]
    wanted = reference(table([*trades, *moves]))[GOLD_MOVES.path]
    date = {"bar_date": dt.date(2026, 11, 1)}
    right = [row | date for row in wanted]
    assert table_differences(GOLD_MOVES, right, wanted) == []
    assert table_differences(GOLD_MOVES, [right[0] | {"revision": 7}, *right[1:]], wanted) == []
    alien = right[0] | {"symbol": "X/Y"}
    wrong = [right[0] | {"trades": 3}, right[1], right[1], alien]
    assert table_differences(GOLD_MOVES, wrong, wanted) == [
        "binance BTC/USDT 2026-11-01 12:00: trades is 3, expected 2",
        "binance BTC/USDT 2026-11-01 12:01: more than once",
        "binance X/Y 2026-11-01 12:00: there, not expected",
        "binance BTC/USDT 2026-11-01 12:02: missing",
    ]
    assert len(table_differences(GOLD_MOVES, [right[0] | {"bar_date": None}, *right[1:]], wanted)) == 1


def test_a_settled_bar_is_final() -> None:
    wanted = reference(table([trade(0, "1")]), [1])[BARS[1].path]
    row = wanted[0] | {"bar_date": dt.date(2026, 11, 1), "is_final": False}
    assert table_differences(BARS[1], [row], wanted) == [
        "binance BTC/USDT 2026-11-01 12:00: is_final is False, expected True"
    ]
    assert table_differences(BARS[1], [row], wanted, settled=False) == []
