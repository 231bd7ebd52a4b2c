"""The id ledger against a brute-force set of ids."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRanges
from lakehouse.ingest.id_tracker import Gap, IdTracker, Kind, Observation

IDS = st.integers(min_value=-40, max_value=40)


def expand(gaps: tuple[Gap, ...]) -> list[int]:
    return [trade_id for gap in gaps for trade_id in range(gap.first_id, gap.last_id + 1)]


@given(st.lists(IDS))
def test_missing_is_what_a_set_says(ids: list[int]) -> None:
    tracker = IdTracker()
    seen: set[int] = set()
    opened: set[int] = set()
    for trade_id in ids:
        before = set(range(min(seen), max(seen) + 1)) - seen if seen else set()
        found = tracker.observe(trade_id)
        expected = (
            Kind.FIRST
            if not seen
            else Kind.DUPLICATE
            if trade_id in seen
            else Kind.NEXT
            if trade_id == max(seen) + 1
            else Kind.JUMP
            if trade_id > max(seen)
            else Kind.LATE
        )
        assert found.kind is expected
        seen.add(trade_id)
        missing = set(range(min(seen), max(seen) + 1)) - seen
        assert expand(tracker.missing()) == sorted(missing)
        # A gap is announced exactly once, when its ids begin to be missing.
        fresh = missing - before
        assert (expand((found.gap,)) if found.gap else []) == sorted(fresh)
        assert not fresh & opened
        opened |= fresh
        assert (tracker.low, tracker.mark) == (min(seen), max(seen))
        assert tracker.open_ids == len(missing)


def after(ids: list[int]) -> IdTracker:
    tracker = IdTracker()
    for trade_id in ids:
        tracker.observe(trade_id)
    return tracker


@given(st.lists(IDS), st.randoms(use_true_random=False), st.data())
def test_any_order_and_duplication_of_observed_ids_ends_the_same(ids, rng, data) -> None:  # type: ignore[no-untyped-def]
    again = ids + (data.draw(st.lists(st.sampled_from(ids))) if ids else [])
    rng.shuffle(again)
    one, other = after(ids), after(again)
    assert (one.low, one.mark, one.missing(), one.open_ids) == (other.low, other.mark, other.missing(), other.open_ids)
    missing = set(range(min(ids), max(ids) + 1)) - set(ids) if ids else set()
    assert expand(one.missing()) == sorted(missing)


@given(st.lists(IDS, min_size=1), st.integers(-40, 40), st.integers(0, 30))
def test_closed_ids_are_missing_no_more_and_nothing_else_changes(ids: list[int], first: int, size: int) -> None:
    tracker = after(ids)
    before, marks = set(expand(tracker.missing())), (tracker.low, tracker.mark)
    closed = tracker.close(first, first + size)
    asked = set(range(first, first + size + 1))
    assert closed == len(before & asked)
    assert set(expand(tracker.missing())) == before - asked
    assert tracker.missing_within(first, first + size) == []
    assert tracker.open_ids == len(before - asked)
    assert (tracker.low, tracker.mark) == marks


@given(st.lists(IDS))
def test_ranges_are_ascending_and_apart(ids: list[int]) -> None:
    tracker = IdTracker()
    for trade_id in ids:
        tracker.observe(trade_id)
    gaps = tracker.missing()
    assert all(len(gap) == gap.last_id - gap.first_id + 1 > 0 for gap in gaps)
    assert all(before.last_id + 1 < after.first_id for before, after in pairwise(gaps))


@given(st.integers(0, 10**18), st.integers(1, 200), st.randoms(use_true_random=False), st.data())
def test_a_shuffled_feed_with_nothing_lost_ends_without_gaps(first: int, count: int, rng, data) -> None:  # type: ignore[no-untyped-def]
    ids = list(range(first, first + count))
    ids += data.draw(st.lists(st.sampled_from(ids)))
    rng.shuffle(ids)
    tracker = IdTracker()
    for trade_id in ids:
        tracker.observe(trade_id)
    assert tracker.missing() == ()


def test_a_jump_names_the_missing_range() -> None:
    tracker = IdTracker()
    assert tracker.observe(100) == Observation(Kind.FIRST)
    assert tracker.observe(101) == Observation(Kind.NEXT)
    assert tracker.observe(105) == Observation(Kind.JUMP, Gap(102, 104))
    assert tracker.observe(103) == Observation(Kind.LATE)
    assert tracker.observe(103) == Observation(Kind.DUPLICATE)
    assert tracker.missing() == (Gap(102, 102), Gap(104, 104))


def test_a_heartbeat_alone_proves_nothing() -> None:
    tracker = IdTracker()
    tracker.observe(10)
    assert tracker.heartbeat(12) is None
    tracker.observe(11)
    tracker.observe(12)  # they were in flight
    assert tracker.heartbeat(14) is None
    assert tracker.missing() == ()


def test_two_heartbeats_ahead_show_a_gap_at_the_tail() -> None:
    tracker = IdTracker()
    tracker.observe(10)
    assert tracker.heartbeat(12) is None
    tracker.observe(11)
    assert tracker.heartbeat(15) == Gap(12, 12)  # 13 to 15 may still come
    assert tracker.heartbeat(15) == Gap(13, 15)
    assert tracker.heartbeat(15) is None  # announced once
    assert tracker.observe(14).kind is Kind.LATE
    assert tracker.observe(16).kind is Kind.NEXT
    assert tracker.missing() == (Gap(12, 13), Gap(15, 15))


def test_heartbeats_of_two_connections_are_not_consecutive() -> None:
    tracker = IdTracker()
    tracker.observe(10)
    tracker.heartbeat(12)
    tracker.reconnected()
    assert tracker.heartbeat(12) is None
    assert tracker.heartbeat(12) == Gap(11, 12)


def test_a_heartbeat_before_the_first_trade_is_no_gap() -> None:
    tracker = IdTracker()
    assert tracker.heartbeat(5) is None
    assert tracker.heartbeat(5) is None
    assert tracker.observe(6) == Observation(Kind.FIRST)


def test_two_looks_at_rest_show_a_gap_and_heartbeats_do_not_count_as_looks() -> None:
    tracker = IdTracker()
    tracker.observe(10)
    assert tracker.heartbeat(12) is None
    assert tracker.look(12) is None  # a heartbeat a moment ago is no look
    tracker.reconnected()
    assert tracker.look(15) == Gap(11, 12)  # what REST showed before the connection will not come on it
    assert tracker.look(15) == Gap(13, 15)
    assert tracker.look(15) is None
    assert tracker.open_ids == 5


def test_what_an_earlier_process_left_open_is_missing_and_the_rest_below_its_mark_is_not() -> None:
    tracker = IdTracker()
    tracker.resume_at(100, [(40, 42), (98, 100)])
    assert tracker.missing() == (Gap(40, 42), Gap(98, 100))
    assert tracker.observe(41).kind is Kind.LATE
    # A snapshot of a new connection reaches below the mark: that is no history of its own, and no gap.
    assert tracker.observe(51) == Observation(Kind.DUPLICATE)
    assert tracker.observe(101).kind is Kind.NEXT
    assert tracker.missing() == (Gap(40, 40), Gap(42, 42), Gap(98, 100))
    assert tracker.open_ids == 5
    with pytest.raises(ValueError, match="none above the mark 100"):
        IdTracker().resume_at(100, [(99, 101)])


@given(st.lists(st.tuples(IDS, st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1]))), st.lists(IDS))
def test_resumed_and_observed_is_what_a_set_says(gaps: list[tuple[int, int]], ids: list[int]) -> None:
    tracker = IdTracker()
    tracker.resume_at(50, gaps)
    missing = {trade_id for first, last in IdRanges(gaps) for trade_id in range(first, last + 1)}
    for trade_id in ids:
        expected = Kind.LATE if trade_id in missing else Kind.DUPLICATE
        assert tracker.observe(trade_id).kind is expected
        missing.discard(trade_id)
    assert expand(tracker.missing()) == sorted(missing)
    assert tracker.mark == 50


def test_a_mark_of_an_earlier_process_shows_what_was_traded_in_between() -> None:
    tracker = IdTracker()
    tracker.resume_at(100)
    assert tracker.observe(104) == Observation(Kind.JUMP, Gap(101, 103))
    with pytest.raises(ValueError, match="resume_at"):
        tracker.resume_at(7)
