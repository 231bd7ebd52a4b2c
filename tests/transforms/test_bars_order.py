"""A market's trades are ordered by their ids: the same bars, whichever way a trade and its time came."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.exchanges.json_fields import epoch_micros, iso_micros, seconds_nanos
from lakehouse.simulator.record import TrueTrade
from lakehouse.tables import BARS
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, SHORTER_COLUMNS, finished, fold, joined, roll_up
from tests.support.bar_fold import fold_bars
from tests.support.messages import NEW_YEAR
from tests.support.rows import utc
from tests.transforms.test_bars import AMOUNTS, MINUTE, one, table

#: A few minutes of three hours, so that every size but a day's has several bars.
MINUTES = (0, 1, 4, 5, 14, 15, 60, 179)


def bars_of(parts: Sequence[pa.Table], minutes: int = 1) -> list[dict[str, Any]]:
    bars = finished(joined(parts))
    return (bars if minutes == 1 else roll_up(bars.select(SHORTER_COLUMNS), minutes)).to_pylist()


def expected(trades: Sequence[TrueTrade], minutes: int = 1) -> list[dict[str, Any]]:
    bars = [bar | {"bar_start": utc(bar["bar_start"])} for bar in fold_bars(trades, minutes)]
    return [{name: bar[name] for name in (*BAR_KEY, *BAR_VALUES)} for bar in bars]


def prices(*bars: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(bar["open"], bar["close"], bar["first_trade_id"], bar["last_trade_id"]) for bar in bars]


# ------------------------------------------------------------------------------------------------ by hand

#: The minute's first two trades share a millisecond, and so do its last two: id, microseconds within the minute.
MINUTE_OF_FOUR = ((10, 400), (11, 900), (19, 59_999_500), (20, 59_999_900))


@pytest.mark.parametrize("by_rest", list(product((False, True), repeat=4)))
def test_a_repair_with_milliseconds_gives_the_bar_of_the_socket(by_rest: tuple[bool, ...]) -> None:
    """With microseconds for 10 and 19 and milliseconds for 11 and 20, an order by time opens at 11 and closes at 19."""
    trades = [
        one(number, price=Decimal(number), ts_event=NEW_YEAR + (at // 1_000 * 1_000 if rest else at))
        for (number, at), rest in zip(MINUTE_OF_FOUR, by_rest, strict=True)
    ]
    repaired = [trade for trade, rest in zip(trades, by_rest, strict=True) if rest]
    live = [trade for trade, rest in zip(trades, by_rest, strict=True) if not rest]
    parts = [fold(table(some)) for some in (live, repaired) if some]
    assert prices(*bars_of(parts), *bars_of(parts[::-1])) == [(10, 20, 10, 20)] * 2


@pytest.mark.parametrize(
    ("socket", "rest"),
    [
        pytest.param(epoch_micros(1_767_225_600_000_950), epoch_micros(1_767_225_600_000), id="binance"),
        pytest.param(iso_micros("2026-01-01T00:00:00.000950Z"), iso_micros("2026-01-01T00:00:00.000Z"), id="coinbase"),
        pytest.param(
            iso_micros("2026-01-01T00:00:00.000950Z"),
            (seconds_nanos("1767225600.0009") or 0) // 1_000,
            id="kraken with four decimals",
        ),
    ],
)
def test_the_times_that_the_venues_give(socket: int, rest: int) -> None:
    """Trade 7 came over the socket, at .000920; trade 8 over both, one of which is before it."""
    assert (socket, rest // 1_000_000 * 1_000_000) == (NEW_YEAR + 950, NEW_YEAR)
    first = one(7, price=Decimal(1), ts_event=NEW_YEAR + 920)
    bars = [bars_of([fold(table([first, one(8, price=Decimal(2), ts_event=at)]))])[0] for at in (socket, rest)]
    assert rest < first.ts_event < socket
    assert bars[0] == bars[1]
    assert prices(bars[0]) == [(1, 2, 7, 8)]


def test_ids_that_fall_while_times_rise() -> None:
    trades = [one(9 - n, price=Decimal(n + 1), ts_event=NEW_YEAR + n) for n in range(5)]
    assert prices(*bars_of([fold(table(trades))])) == [(5, 1, 5, 9)]


def test_equal_times() -> None:
    trades = [one(number, price=Decimal(number)) for number in (4, 2, 6, 3)]
    assert prices(*bars_of([fold(table([trade])) for trade in trades])) == [(2, 6, 2, 6)]


def test_ids_are_compared_within_a_market_only() -> None:
    here = [one(number, price=Decimal(number)) for number in (100, 101)]
    there = [one(number, price=Decimal(number), venue="kraken", ts_event=NEW_YEAR + number) for number in (2, 1)]
    other = [one(number, price=Decimal(number), symbol="ETH/USDT", ts_event=NEW_YEAR + 1) for number in (51, 50)]
    bars = bars_of([fold(table([here[0], *there, *other])), fold(table([here[1]]))])
    assert prices(*bars) == [(100, 101, 100, 101), (50, 51, 50, 51), (1, 2, 1, 2)]


def test_a_repair_that_lands_in_the_middle_changes_neither_open_nor_close() -> None:
    live = [one(number, price=Decimal(number), ts_event=NEW_YEAR + number * 400) for number in (1, 2, 5, 6)]
    # Over REST both have the millisecond in which the bar begins: by time they would be its first trades.
    repaired = [one(number, price=Decimal(number), ts_event=NEW_YEAR) for number in (3, 4)]
    (bar,) = bars_of([fold(table(live)), fold(table(repaired))])
    assert (bar["open"], bar["close"], bar["trades"]) == (1, 6, 6)


def test_a_longer_bar_goes_by_ids_across_its_minutes() -> None:
    """The second minute has the lowest id, the first the highest: as if the trades were folded at once."""
    trades = [one(number, price=Decimal(number), ts_event=NEW_YEAR + number % 2 * MINUTE) for number in (2, 3, 7, 8)]
    trades.append(one(1, price=Decimal(1), ts_event=NEW_YEAR + 4 * MINUTE))
    assert prices(*bars_of([fold(table(trades))], 5)) == [(1, 8, 1, 8)]
    assert prices(*bars_of([fold(table(trades))])) == [(2, 8, 2, 8), (3, 7, 3, 7), (1, 1, 1, 1)]


def test_the_newest_time_is_not_that_of_the_last_id() -> None:
    """Which bars are final goes by the newest time that a market has reached."""
    late, last = one(1, ts_event=NEW_YEAR + 50), one(2, ts_event=NEW_YEAR + 7)
    parts = [fold(table([late])), fold(table([last]))]
    found = [joined(parts), joined(parts[::-1]), fold(table([last, late]))]
    assert [one.column("newest_ts").to_pylist() for one in found] == [[NEW_YEAR + 50]] * 3


# ------------------------------------------------------------------------------------------------ any order, any times

TRADES = st.lists(
    st.builds(
        TrueTrade,
        venue=st.sampled_from(["binance", "kraken"]),
        symbol=st.just("BTC/USDT"),
        trade_id=st.integers(0, 60),
        price=AMOUNTS.map(lambda value: Decimal(f"{value:.18f}")),
        size=AMOUNTS.map(lambda value: Decimal(f"{value:.18f}")),
        side=st.sampled_from(["buy", "sell"]),
        ts_event=st.builds(
            lambda minute, within: NEW_YEAR + minute * MINUTE + within,
            st.sampled_from(MINUTES),
            st.integers(0, 5_000) | st.integers(MINUTE - 5_000, MINUTE - 1) | st.integers(0, MINUTE - 1),
        ),
    ),
    max_size=30,
    unique_by=lambda trade: (trade.venue, trade.trade_id),
)
#: Microseconds that a time is cut to: as it was, milliseconds, seconds, all of the minute.
PRECISIONS = (1, 1_000, 1_000_000, MINUTE)


@given(TRADES, st.data())
@hypothesis_settings(deadline=None)
def test_any_order_of_arrival_and_any_coarser_times_give_the_same_bars(
    trades: list[TrueTrade], data: st.DataObject
) -> None:
    arrived = [
        trade._replace(ts_event=trade.ts_event - trade.ts_event % data.draw(st.sampled_from(PRECISIONS)))
        for trade in data.draw(st.permutations(trades))
    ]
    cut = data.draw(st.integers(0, len(arrived)))
    parts = [fold(table(arrived[:cut])), fold(table(arrived[cut:]))]
    for minutes in BARS:
        assert bars_of(parts, minutes) == expected(trades, minutes), minutes
