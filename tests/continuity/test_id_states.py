"""The continuity ledger's segments: any order, any batching, any repetition of the same news ends in the same cut."""

from __future__ import annotations

import datetime as dt
import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.continuity.id_states import Arrival, News, Segment, cut, undated
from lakehouse.continuity.tries import Tried

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(trade_id: int) -> dt.datetime:
    """The time of a trade: one a second."""
    return EPOCH + dt.timedelta(seconds=trade_id)


def arrival(first: int, last: int, repaired: int = 0) -> Arrival:
    return Arrival(first, last, at(first), at(last), repaired)


def gone(first: int, last: int, when: dt.datetime = EPOCH) -> Tried:
    """An answer of the venue without some ids."""
    return Tried.once(first, last, when)


spans = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
facts = st.lists(st.tuples(st.sampled_from(["arrived", "claimed", "gone"]), spans), min_size=1, max_size=12)


def news_of(some: list[tuple[str, tuple[int, int]]]) -> News:
    news = News()
    for kind, (first, last) in some:
        if kind == "arrived":
            news.arrived.append(arrival(first, last))
        elif kind == "gone":
            news.gone.append(gone(first, last))
        else:
            news.claimed.append((first, last))
    return news


def brute_force(some: list[tuple[str, tuple[int, int]]]) -> list[tuple[int, str]]:
    """(id, state) of every id from the lowest to the highest known."""
    ids = {kind: set[int]() for kind in ("arrived", "claimed", "gone")}
    for kind, (first, last) in some:
        ids[kind] |= set(range(first, last + 1))
    known = set().union(*ids.values())
    return [
        (one, "present" if one in ids["arrived"] else "unavailable" if one in ids["gone"] else "open")
        for one in range(min(known), max(known) + 1)
    ]


def spelled_out(segments: list[Segment]) -> list[tuple[int, str]]:
    return [(one, segment.state) for segment in segments for one in range(segment.first_id, segment.last_id + 1)]


@given(facts, st.integers(1, 5), st.integers(0, 10**9))
def test_order_batching_and_repetition_do_not_matter(
    some: list[tuple[str, tuple[int, int]]], size: int, seed: int
) -> None:
    whole = cut([], news_of(some), EPOCH)
    assert spelled_out(whole) == brute_force(some)
    shuffled = [*some, *some[::2]]
    random.Random(seed).shuffle(shuffled)
    stepwise: list[Segment] = []
    for start in range(0, len(shuffled), size):
        stepwise = cut(stepwise, news_of(shuffled[start : start + size]), EPOCH)
    assert undated(stepwise) == undated(whole)


@given(facts)
def test_segments_tile_and_neighbours_differ(some: list[tuple[str, tuple[int, int]]]) -> None:
    segments = cut([], news_of(some), EPOCH)
    for one, following in itertools.pairwise(segments):
        assert one.last_id + 1 == following.first_id
        assert one.state != following.state


def test_times_at_the_ends_and_around_a_gap() -> None:
    first = cut([], News([arrival(10, 19), arrival(30, 39)]), at(100))
    assert [(s.first_id, s.last_id, s.state, s.ts_first, s.ts_last) for s in first] == [
        (10, 19, "present", at(10), at(19)),
        (20, 29, "open", at(19), at(30)),
        (30, 39, "present", at(30), at(39)),
    ]
    second = cut(first, News([arrival(22, 24, repaired=3)]), at(200))
    assert [(s.first_id, s.last_id, s.state, s.ts_first, s.ts_last, s.since, s.repaired) for s in second] == [
        (10, 19, "present", at(10), at(19), at(100), 0),
        (20, 21, "open", at(19), at(22), at(100), 0),
        (22, 24, "present", at(22), at(24), at(200), 3),
        (25, 29, "open", at(24), at(30), at(100), 0),
        (30, 39, "present", at(30), at(39), at(100), 0),
    ]
    third = cut(second, News([arrival(20, 21, 2), arrival(25, 29)]), at(300))
    assert third == [Segment(10, 39, "present", at(10), at(39), at(100), 5)]


def test_a_claim_above_everything_is_an_open_gap_at_the_tail() -> None:
    segments = cut(cut([], News([arrival(1, 5)]), at(1)), News(claimed=[(6, 9)]), at(2))
    assert segments[1:] == [Segment(6, 9, "open", at(5), None, at(2))]
    assert cut(segments, News(gone=[gone(6, 9, at(3))]), at(4))[1:] == [
        Segment(6, 9, "unavailable", at(5), None, at(3), tries=1, last_try=at(3))
    ]


def test_a_trade_beats_the_word_that_it_is_gone() -> None:
    segments = cut([], News([arrival(1, 3), arrival(5, 6)], gone=[gone(4, 4)]), at(1))
    assert [s.state for s in segments] == ["present", "unavailable", "present"]
    assert cut(segments, News([arrival(4, 4, 1)], gone=[gone(4, 4)]), at(2)) == [
        Segment(1, 6, "present", at(1), at(6), at(1), 1)
    ]
