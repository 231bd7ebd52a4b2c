"""How often the venues were asked for what they lack: counting, splitting, and that nothing is counted twice."""

from __future__ import annotations

import datetime as dt
import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.continuity.id_states import Arrival, News, Segment, cut, tried
from lakehouse.continuity.tries import ONE_TRY_SECONDS, Tried, TriedIds

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return EPOCH + dt.timedelta(seconds=seconds)


def word(first: int, last: int, seconds: float) -> Tried:
    return Tried.once(first, last, at(seconds))


def found(ids: TriedIds) -> list[tuple[int, int, int, dt.datetime, dt.datetime]]:
    return [(one.first_id, one.last_id, one.tries, one.since, one.last_try) for one in ids]


def test_answers_are_counted_range_by_range() -> None:
    ids = TriedIds([word(10, 19, 0), word(30, 30, 0)])
    ids.add(word(15, 24, 300))
    assert found(ids) == [
        (10, 14, 1, at(0), at(0)),
        (15, 19, 2, at(0), at(300)),
        (20, 24, 1, at(300), at(300)),
        (30, 30, 1, at(0), at(0)),
    ]
    ids.add(word(10, 30, 3600))
    assert [(first, last, tries) for first, last, tries, _, _ in found(ids)] == [
        (10, 14, 2), (15, 19, 3), (20, 24, 2), (25, 29, 1), (30, 30, 2),
    ]  # fmt: skip
    assert [(one.first_id, one.last_id, one.tries) for one in ids.within(12, 16)] == [(12, 14, 2), (15, 16, 3)]


def test_ranges_that_touch_and_were_tried_alike_are_one() -> None:
    assert found(TriedIds([word(1, 4, 0), word(8, 9, 0), word(5, 7, 0)])) == [(1, 9, 1, at(0), at(0))]
    assert len(list(TriedIds([word(1, 4, 0), word(5, 7, 1)]))) == 2


def test_answers_within_a_minute_are_one_try_and_earlier_ones_none() -> None:
    ids = TriedIds([word(1, 1, 0), word(1, 1, ONE_TRY_SECONDS - 1)])
    assert found(ids) == [(1, 1, 1, at(0), at(ONE_TRY_SECONDS - 1))]
    ids.add(word(1, 1, 2 * ONE_TRY_SECONDS - 1))
    assert found(ids) == [(1, 1, 2, at(0), at(2 * ONE_TRY_SECONDS - 1))]
    ids.add(word(1, 1, 0))
    assert [one.tries for one in ids] == [2]


words = st.lists(
    st.builds(
        lambda first, length, seconds: word(first, first + length, seconds),
        st.integers(0, 30),
        st.integers(0, 6),
        st.integers(0, 20).map(lambda number: number * 25.0),
    ),
    min_size=1,
    max_size=15,
)


def one_by_one(some: list[Tried]) -> dict[int, tuple[int, dt.datetime, dt.datetime]]:
    """Id → tries, first and last, by the rule said in plain Python."""
    ids: dict[int, tuple[int, dt.datetime, dt.datetime]] = {}
    for answer in some:
        for number in range(answer.first_id, answer.last_id + 1):
            tries, first, last = ids.get(number, (0, answer.last_try, dt.datetime.min.replace(tzinfo=dt.UTC)))
            if answer.last_try > last:
                is_another = not tries or (answer.last_try - last).total_seconds() >= ONE_TRY_SECONDS
                ids[number] = tries + is_another, first, answer.last_try
    return ids


@given(words)
def test_every_id_is_counted_by_itself(some: list[Tried]) -> None:
    ids = TriedIds(some)
    spelled_out = {
        number: (one.tries, one.since, one.last_try) for one in ids for number in range(one.first_id, one.last_id + 1)
    }
    assert spelled_out == one_by_one(some)
    parts = list(ids)
    for before, part in itertools.pairwise(parts):
        assert before.last_id < part.first_id


@given(words, st.integers(1, 5))
def test_batches_that_run_again_count_no_try_twice(some: list[Tried], size: int) -> None:
    """The words come in the order of time, as one process tells them; a batch is taken twice, then the whole again."""
    some = sorted(some, key=lambda one: one.last_try)
    now, segments = at(10_000), list[Segment]()
    for start in range(0, len(some), size):
        batch = News(gone=some[start : start + size])
        segments = cut(cut(segments, batch, now), batch, now)
    whole = cut([], News(gone=some), now)
    assert tried(segments) == tried(whole)
    assert tried(cut(segments, News(gone=some), now)) == tried(whole)


@given(words, st.integers(0, 36), st.integers(0, 3))
def test_a_trade_that_comes_takes_its_ids_out_and_leaves_the_tries_of_the_others(
    some: list[Tried], first: int, length: int
) -> None:
    last = first + length
    segments = cut(cut([], News(gone=some), at(0)), News([Arrival(first, last)]), at(1))
    counts = {
        number: one.tries
        for one in segments
        for number in range(one.first_id, one.last_id + 1)
        if one.tries is not None
    }
    expected = {number: tries for number, (tries, _, _) in one_by_one(some).items() if not first <= number <= last}
    assert counts == expected
    assert {one.tries for one in segments if one.state != "unavailable"} <= {None}


def test_a_ledger_of_before_stands_for_one_try_each() -> None:
    old = [Segment(1, 4, "present", at(1), at(4), at(0)), Segment(5, 9, "unavailable", at(4), None, at(7))]
    assert tried(old) == [Tried(5, 9, at(7), at(7), 1)]
    again = cut(old, News(gone=[word(6, 6, 400)]), at(401))
    assert [(one.first_id, one.last_id, one.since, one.tries, one.last_try) for one in again[1:]] == [
        (5, 5, at(7), 1, at(7)), (6, 6, at(7), 2, at(400)), (7, 9, at(7), 1, at(7)),
    ]  # fmt: skip


def test_many_ranges_are_cheap() -> None:
    """A venue that skips every other id: taking in a try of each is seconds at most, not minutes."""
    rng, numbers = random.Random(3), list(range(0, 40_000, 2))
    rng.shuffle(numbers)
    ids = TriedIds(word(number, number, 0) for number in numbers)
    for number in numbers:
        ids.add(word(number, number, 300))
    assert {one.tries for one in ids} == {2}
