"""The proof of a bar by ids, without Spark: against brute force, for any order and batching."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.continuity.known_ids import KnownIds
from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.streams.gold_complete import MINUTE_US, Bar, Completeness, IdGroup, Waiting, ranges_of
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES
from tests.support.rows import NOON_US, bar_row, empty_lake, trade_row

KEY = ("binance", "BTC/USDT")
OTHER = ("kraken", "BTC/USDT")


def bar(minute: int, minutes: int = 1) -> Bar:
    return Bar(KEY, minutes, minute * MINUTE_US)


# ------------------------------------------------------------------------------------------------ groups of ids


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 3), max_size=30))
def test_counts_tell_the_ranges_or_say_that_they_cannot(where: dict[int, int]) -> None:
    """`where`: id → the group that it is in."""
    members: dict[int, list[int]] = {}
    for number, group in where.items():
        members.setdefault(group, []).append(number)
    told = ranges_of(IdGroup(min(ids), max(ids), len(ids)) for ids in members.values())
    if told is not None:
        assert IdRanges(told) == IdRanges((number, number) for number in where)
        assert sum(last - first + 1 for first, last in told) == len(where)


def test_counts_tell_where_nothing_is_left_out() -> None:
    assert ranges_of([]) == []
    assert ranges_of([IdGroup(5, 9, 5)]) == [(5, 9)]
    assert ranges_of([IdGroup(5, 9, 4)]) is None
    assert ranges_of([IdGroup(5, 9, 4), IdGroup(7, 7, 1)]) == [(5, 9)]  # one late trade in the window before
    assert ranges_of([IdGroup(10, 12, 3), IdGroup(1, 9, 5), IdGroup(2, 8, 4), IdGroup(20, 20, 1)]) == [
        (1, 9),
        (10, 12),
        (20, 20),
    ]
    assert ranges_of([IdGroup(1, 3, 2), IdGroup(4, 5, 2)]) is None
    assert ranges_of([IdGroup(1, 3, 3), IdGroup(5, 8, 2)]) is None


# ------------------------------------------------------------------------------------------------ who waits for what


def test_only_those_that_wait_for_an_id_are_taken() -> None:
    waiting = Waiting()
    for minute, lacking in ((1, 10), (2, 20), (3, 20), (4, 30)):
        waiting.put(bar(minute), lacking, (minute, minute))
    waiting.put(bar(4), 31, (4, 5))
    assert waiting.take(KEY, 11, 19) == []
    assert waiting.take(OTHER, 0, 99) == []
    assert waiting.take(KEY, 20, 30) == [(bar(2), (2, 2)), (bar(3), (3, 3))]
    waiting.drop(bar(1))
    waiting.drop(bar(1))
    assert (len(waiting), waiting.take(KEY, 0, 99), len(waiting)) == (1, [(bar(4), (4, 5))], 0)


# ------------------------------------------------------------------------------------------------ flags


class Model:
    """Gold in plain Python: the bars of ids, recomputed where a batch touches a window, with their flags."""

    def __init__(self) -> None:
        self.minute_of: dict[int, int] = {}
        self.flags: dict[Bar, tuple[IdRange, bool]] = {}
        self.completeness = Completeness(KnownIds(), -1)

    def batch(self, trades: dict[int, int], version: int) -> set[Bar]:
        """Take trades (id → minute) as the Gold query would. Returns the bars without a trade that it recomputed."""
        self.minute_of |= trades
        ids = IdRanges((number, number) for number in trades)
        self.completeness.add({KEY: list(ids)}, version)
        touched = {bar(minute // size * size, size) for minute in trades.values() for size in (1, 5)}
        due = self.completeness.take_due()
        for minutes in (1, 5):
            for place, span in self.spans(minutes).items():
                if place in touched | due:
                    self.flags[place] = span, self.completeness.judge(place, span)
        return due - touched

    def spans(self, minutes: int) -> dict[Bar, IdRange]:
        members: dict[Bar, list[int]] = {}
        for number, minute in self.minute_of.items():
            members.setdefault(bar(minute // minutes * minutes, minutes), []).append(number)
        return {place: (min(ids), max(ids)) for place, ids in members.items()}

    def restart(self, version: int) -> None:
        """A new process: ids from Silver, incomplete bars from the tables."""
        presence = KnownIds({KEY: IdRanges((number, number) for number in self.minute_of)})
        self.completeness = Completeness(presence, version)
        for place, (span, complete) in self.flags.items():
            assert complete or not self.completeness.judge(place, span)

    def assert_exact(self) -> None:
        for minutes in (1, 5):
            for place, (first, last) in self.spans(minutes).items():
                complete = all(number in self.minute_of for number in range(first - 1, last + 2))
                assert self.flags[place] == ((first, last), complete), place


@st.composite
def histories(draw: st.DrawFn) -> list[dict[int, int]]:
    """Batches of trades (id → minute): times mostly rise with ids; some ids never come, some come much later."""
    ids = draw(st.lists(st.integers(1, 30), unique=True, max_size=30))
    jitter = draw(st.lists(st.integers(-4, 4), min_size=len(ids), max_size=len(ids)))
    minutes = {number: 20 + number // 2 + shift for number, shift in zip(ids, jitter, strict=True)}
    in_order = sorted(ids, key=lambda number: (number + draw(st.sampled_from((0, 0, 0, 12))), number))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    bounds = [0, *cuts, len(ids)]
    return [{number: minutes[number] for number in in_order[a:b]} for a, b in itertools.pairwise(bounds)]


@given(histories(), st.sets(st.integers(0, 8)))
def test_flags_equal_brute_force_after_every_batch(batches: list[dict[int, int]], restarts: set[int]) -> None:
    model = Model()
    for version, trades in enumerate(batches):
        if version in restarts:
            model.restart(version - 1)
        model.batch(trades, version)
        model.assert_exact()


def test_a_trade_hours_later_names_the_bars_it_proves_and_no_other() -> None:
    model = Model()
    model.batch({1: 0, 2: 1, 3: 2}, 0)
    assert model.batch({9: 7}, 1) == set()  # 4 to 8 are not there: nothing is proved
    assert model.batch({4: 300}, 2) == {bar(2)}
    assert [model.flags[bar(minute)][1] for minute in (0, 1, 2, 7, 300)] == [False, True, True, False, False]
    assert model.batch({5: 301, 6: 301, 7: 301, 8: 301, 10: 301}, 3) == {bar(7), bar(5, 5), bar(300)}
    model.assert_exact()
    assert model.flags[bar(7)][1]
    assert model.batch({0: 0}, 4) == set()
    assert not model.flags[bar(0)][1]  # there is no id -1


def test_many_batches_of_one_symbol_leave_few_bars_waiting() -> None:
    """The proof keeps rows by gap, not by history: first and newest bar of each length, and one at the gap."""
    model = Model()
    for version in range(300):
        model.batch(
            {number: number // 3 for number in range(10 * version, 10 * version + 10) if number != 1500}, version
        )
    waiting = {place for place, (_, complete) in model.flags.items() if not complete}
    assert waiting == {bar(0), bar(0, 5), bar(999), bar(995, 5), bar(500), bar(500, 5), bar(499), bar(495, 5)}
    assert len(model.completeness._waiting) == len(waiting)
    model.assert_exact()


# ------------------------------------------------------------------------------------------------ from the tables


def test_knowledge_is_read_back_from_silver_and_gold(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    append_rows(settings, SILVER_TRADES, [trade_row(number) for number in (1, 2, 3, 5)])
    append_rows(settings, SILVER_TRADES, [trade_row(number) for number in (4, 6)])
    append_rows(settings, SILVER_TRADES, [trade_row(1, venue="kraken")])
    span = {"first_trade_id": 2, "last_trade_id": 3}
    append_rows(
        settings,
        GOLD_BARS_1M,
        [
            bar_row(NOON_US, **span),
            bar_row(NOON_US + MINUTE_US, first_trade_id=4, last_trade_id=6),
            bar_row(NOON_US + 2 * MINUTE_US, complete=True),
        ],
    )
    append_rows(settings, GOLD_BARS_5M, [bar_row(NOON_US, **span)])
    newest = open_table(settings, SILVER_TRADES).version()
    noon = {bar(NOON_US // MINUTE_US), bar(NOON_US // MINUTE_US, 5)}

    first = Completeness.at(settings, 1)  # 4 is not there yet
    assert (len(first._waiting), first.take_due()) == (3, set())
    first.read_up_to(settings, 2)
    assert (len(first._waiting), first.take_due(), first.version) == (1, noon, 2)
    assert first.take_due() == set()
    assert first.judge(bar(NOON_US // MINUTE_US), (2, 3))
    first.read_up_to(settings, 1)
    assert first.version == 2

    # Where Gold's tables lag behind what its position says, the bars are written with the next batch.
    second = Completeness.at(settings, newest)
    assert (len(second._waiting), second.take_due()) == (1, noon)
    third = Completeness.at(settings, -1)
    assert len(third._waiting) == 3
    third.read_up_to(settings, newest)
    assert (len(third._waiting), third.take_due(), third.version) == (1, noon, newest)
