"""One-minute bars: however trades are cut into chunks and the chunks ordered, the judge's fold, to the last decimal."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import arrow_schema
from lakehouse.simulator.record import TrueTrade
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.bars import (
    BAR_KEY,
    BAR_VALUES,
    PARTS,
    TRADE_COLUMNS,
    bars_from_trades,
    finished,
    fold,
    joined,
)
from tests.support.bar_fold import fold_bars
from tests.support.judged_rows import judged
from tests.support.messages import NEW_YEAR, trade, trades
from tests.support.rows import utc

SCHEMA = pa.schema([arrow_schema(SILVER_TRADES).field(name) for name in TRADE_COLUMNS])
MINUTE = 60_000_000
UNIT = Decimal("1E-18")
WIDEST_PRICE = Decimal("999999999999.999999999999999999")
WIDEST_SIZE = Decimal("999999999999999.999999999999999999")


def units(low: int, high: int) -> st.SearchStrategy[Decimal]:
    return st.integers(low, high).map(lambda number: Decimal(f"{number}E-18"))


#: Prices and sizes whose sums of products fit; ties of price and of time are frequent.
AMOUNTS = units(1, 10**9) | units(1, 10**27) | st.sampled_from([Decimal(1), Decimal("0.5"), UNIT, Decimal("1.5E-18")])
TRADES = st.lists(
    st.builds(
        TrueTrade,
        venue=st.sampled_from(["binance", "kraken"]),
        symbol=st.sampled_from(["BTC/USDT", "A/B"]),
        trade_id=st.integers(0, 40) | st.just(10**18 - 1),
        price=AMOUNTS.map(lambda value: Decimal(f"{value:.18f}")),
        size=AMOUNTS.map(lambda value: Decimal(f"{value:.18f}")),
        side=st.sampled_from(["buy", "sell"]),
        ts_event=st.sampled_from([NEW_YEAR - 1, NEW_YEAR, NEW_YEAR + 1, NEW_YEAR + MINUTE - 1, NEW_YEAR + MINUTE])
        | st.integers(NEW_YEAR - 2 * MINUTE, NEW_YEAR + 2 * MINUTE),
    ),
    max_size=40,
    unique_by=lambda trade: (trade.venue, trade.symbol, trade.trade_id),
)


def table(trades: Sequence[TrueTrade]) -> pa.Table:
    rows = [trade._asdict() | {"ts_event": utc(trade.ts_event)} for trade in trades]
    return pa.Table.from_pylist([{name: row[name] for name in TRADE_COLUMNS} for row in rows], schema=SCHEMA)


def expected(trades: Sequence[TrueTrade]) -> list[dict[str, Any]]:
    bars = [bar | {"bar_start": utc(bar["bar_start"])} for bar in fold_bars(trades, 1)]
    return [{name: bar[name] for name in (*BAR_KEY, *BAR_VALUES)} for bar in bars]


def one(number: int = 1, **changes: Any) -> TrueTrade:
    good = TrueTrade("binance", "BTC/USDT", number, Decimal(100), Decimal(2), "buy", NEW_YEAR)
    return good._replace(**changes)


@given(TRADES, st.data())
@hypothesis_settings(deadline=None)
def test_any_chunks_in_any_order_and_nesting_are_the_fold(trades: list[TrueTrade], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(trades))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(trades)), max_size=5)))
    chunks = [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(trades)], strict=True)]
    parts = [fold(table(chunk)) for chunk in chunks]
    while len(parts) > 1:  # some of them are joined, put anywhere among the rest, and so on
        parts = data.draw(st.permutations(parts))
        some = data.draw(st.integers(2, len(parts)))
        parts = [*parts[some:], joined(parts[:some])]
    bars = finished(parts[0])
    assert bars.schema.names == [*BAR_KEY, *BAR_VALUES]
    assert bars.to_pylist() == expected(trades)


@pytest.mark.parametrize("seed", range(20))
def test_many_bars_of_few_trades_keep_their_own_figures(seed: int) -> None:
    """Arrow gives groups in an order of its own: what comes from elsewhere must be put beside the right one."""
    rng = Random(seed)
    trades = [
        one(number, venue=rng.choice(["binance", "kraken"]), symbol=rng.choice(["A/B", "C/D", "E/F"]),
            price=Decimal(rng.randrange(1, 10**24)).scaleb(-18), size=Decimal(rng.randrange(1, 10**20)).scaleb(-18),
            side=rng.choice(["buy", "sell"]), ts_event=NEW_YEAR + rng.randrange(10_000) * MINUTE)
        for number in range(rng.choice([65, 300, 3_000]))
    ]  # fmt: skip
    assert finished(fold(table(trades))).to_pylist() == expected(trades)


def test_more_trades_than_arrow_takes_at_a_time() -> None:
    rng = Random(4)
    trades = [
        one(number, symbol=rng.choice(["A/B", "C/D"]), price=Decimal(rng.randrange(1, 10**24)).scaleb(-18),
            size=Decimal(rng.randrange(1, 10**20)).scaleb(-18), side=rng.choice(["buy", "sell"]),
            ts_event=NEW_YEAR + rng.randrange(300) * MINUTE + rng.randrange(5))
        for number in range(80_000)
    ]  # fmt: skip
    rng.shuffle(trades)
    assert finished(fold(table(trades))).to_pylist() == expected(trades)


@given(TRADES)
@hypothesis_settings(deadline=None)
def test_parts_are_a_row_a_bar_of_one_schema(trades: list[TrueTrade]) -> None:
    parts = fold(table(trades))
    assert parts.schema == PARTS
    assert joined([PARTS.empty_table(), parts, PARTS.empty_table()]).equals(parts)
    assert pc.sum(parts.column("trades")).as_py() == (len(trades) or None)


# The largest and smallest that Silver lets in (notional below 10^15), and products that round at the last decimal.
@pytest.mark.parametrize(
    "amounts",
    [
        (WIDEST_PRICE, UNIT),
        (UNIT, WIDEST_SIZE),
        (UNIT, UNIT),
        (WIDEST_PRICE, Decimal("999.999999999999999999")),
        (Decimal("0.999999999999999999"), WIDEST_SIZE),
        (Decimal("0.5"), UNIT),  # half a unit: a tie, which goes up
        (Decimal("0.499999999999999999"), UNIT),
        (Decimal("2.5"), UNIT),  # half-even would make 2 of it
        (Decimal("123456789012.123456789012345678"), Decimal("8765.432109876543210987")),
        # Arrow's division of decimal256 is wrong here, in the ninth digit.
        (Decimal("2.305843009213693952"), Decimal("78124999.999999999292885603")),
    ],
)
@pytest.mark.parametrize("sides", [("buy", "sell"), ("buy", "buy"), ("sell", "sell")])
def test_extremes_and_one_sided_minutes(amounts: tuple[Decimal, Decimal], sides: tuple[Any, Any]) -> None:
    price, size = amounts
    trades = [one(1, price=price, size=size, side=sides[0]), one(2, price=price, size=size, side=sides[1])]
    bars = finished(joined([fold(table(trades[1:])), fold(table(trades[:1]))])).to_pylist()
    assert bars == expected(trades)
    assert bars[0]["pressure"] == {("buy", "sell"): 0, ("buy", "buy"): 1, ("sell", "sell"): -1}[sides]


def test_the_lowest_id_opens_and_the_highest_closes_whatever_the_times() -> None:
    at = [one(number, price=Decimal(number)) for number in (7, 3, 9, 5)]
    later = one(1, price=Decimal(50), ts_event=NEW_YEAR + 1)  # after them in time, and the first all the same
    for first, second, *others in permutations(at):  # one part may begin before the other and end after it
        chunks = [[first, second], others]
        bar = finished(joined(fold(table(chunk)) for chunk in chunks)).to_pylist()[0]
        assert (bar["open"], bar["close"], bar["first_trade_id"], bar["last_trade_id"]) == (3, 9, 3, 9)
    bar = finished(joined([fold(table([later])), fold(table(at))])).to_pylist()[0]
    assert (bar["open"], bar["close"], bar["first_trade_id"], bar["last_trade_id"]) == (50, 9, 1, 9)


# ---------------------------------------------------------------------------------------------------- sums too large

SUMS = ("volume", "quote_volume", "buy_volume")


def parts_with(count: int, names: Sequence[str]) -> pa.Table:
    """A part of a bar with some of its sums set, in units of 10⁻¹⁸."""
    parts = fold(table([one()]))
    for name in names:
        place = PARTS.get_field_index(name)
        value = pa.array([Decimal(f"{count}E-18")], PARTS.field(name).type)
        parts = parts.set_column(place, PARTS.field(name), value)
    return parts


@given(st.integers(1, 10**38), st.integers(1, 4))
@hypothesis_settings(deadline=None)
@example(10**38 - 1, 1)
@example(10**38 // 4 - 1, 4)
def test_a_sum_that_fits_is_exact(count: int, times: int) -> None:
    count = min(count, (10**38 - 1) // times)
    bar = finished(joined([parts_with(count, SUMS)] * times)).to_pylist()[0]
    total = Decimal(f"{count * times}E-18")
    assert [bar[name] for name in (*SUMS, "sell_volume", "vwap", "pressure")] == [total, total, total, 0, 1, 1]


@pytest.mark.parametrize("name", SUMS)
@given(st.integers(10**38, 2**131), st.integers(1, 4))
@hypothesis_settings(deadline=None)
@example(2**128, 4)
@example(2**128 + 16, 4)  # in 128 bits each part would be 4 units, and so would the bar
@example(2**127, 2)
@example(10**38, 1)
@example(10**38 + 1, 2)
def test_a_sum_that_does_not_fit_is_an_error_and_never_wraps(name: str, total: int, times: int) -> None:
    parts = joined([parts_with(-(-total // times), [name])] * times)
    assert parts.column(name).to_pylist() == [Decimal(f"{-(-total // times) * times}E-18")]
    with pytest.raises(TerminalError, match=rf"{name} of a bar would be .*a figure that fits decimal\(38,18\)"):
        finished(parts)


def test_sums_of_trades_that_do_not_fit() -> None:
    widest = [one(number, price=UNIT, size=WIDEST_SIZE) for number in range(1_000)]
    part = fold(table(widest))
    assert finished(joined([part] * 100)).column("trades").to_pylist() == [100_000]
    with pytest.raises(TerminalError, match=r"volume of a bar would be 1\.010e\+20"):
        finished(joined([part] * 101))


@pytest.mark.parametrize("seed", [1, 2])
def test_bars_of_judged_messages_equal_the_fold(seed: int) -> None:
    made = trades(1_500, seed)
    made += [
        trade(venue="kraken", trade_id=number, price=f"0.{number:018d}", size="999999999.999999999999999999")
        for number in (1, 2)
    ]
    truth = [
        TrueTrade(
            t["venue"], t["symbol"], t["trade_id"], Decimal(t["price"]), Decimal(t["size"]), t["side"], t["ts_event"]
        )
        for t in made
    ]
    bars = bars_from_trades(judged(made).trades)
    expected = [bar | {"bar_start": utc(bar["bar_start"])} for bar in fold_bars(truth, 1)]
    assert len(expected) > 4
    assert bars.select(list(BAR_KEY)).to_pylist() == [{name: bar[name] for name in BAR_KEY} for bar in expected]
    assert bars.to_pylist() == [{name: bar[name] for name in bars.column_names} for bar in expected]
