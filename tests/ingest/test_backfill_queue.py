"""The order of repairs: what is merged, who is next, what is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.ingest import backfill_queue as module
from lakehouse.ingest.backfill_queue import MERGE_IDS, BackfillOrder, BackfillQueue


class Nobody:
    """A target that wants everything."""

    def still_missing(self, first: int, last: int) -> list[IdRange]:
        return [(first, last)]

    def delivered(self, first: int, last: int) -> None:
        raise AssertionError((first, last))

    def unavailable(self, first: int, last: int) -> None:
        raise AssertionError((first, last))


def order(
    symbol: str, first: int, last: int, ts_before: int | None = None, ts_after: int | None = None
) -> BackfillOrder:
    return BackfillOrder(symbol, Nobody(), first, last, ts_before, ts_after)


def test_gaps_of_one_symbol_within_a_page_are_one_walk() -> None:
    queue = BackfillQueue()
    queue.add(order("BTC/USDT", 5000, 5001, 50, 52), due=1.0)
    queue.add(order("BTC/USDT", 5002 + MERGE_IDS, 5002 + MERGE_IDS, 60, 61), due=2.0)
    queue.add(order("BTC/USDT", 4500, 4500, 40, 41), due=3.0)
    queue.add(order("ETH/USDT", 4500, 4500), due=3.0)
    queue.add(order("BTC/USDT", 10_000, 10_000), due=3.0)
    first, other, far = queue
    assert list(first.wanted) == [(4500, 4500), (5000, 5001), (5002 + MERGE_IDS, 5002 + MERGE_IDS)]
    assert (first.ts_before, first.ts_after, first.due) == (40, 61, 1.0)  # none waits longer for being joined
    assert (other.symbol, list(far.wanted)) == ("ETH/USDT", [(10_000, 10_000)])


def test_a_walk_that_has_begun_takes_in_no_more_and_what_is_told_twice_is_asked_once() -> None:
    queue = BackfillQueue()
    queue.add(order("BTC/USDT", 1, 9), due=0.0)
    (backfill,) = queue
    backfill.is_read = True  # as after its last page
    queue.add(order("BTC/USDT", 3, 5), due=0.0)
    assert len(queue) == 1
    queue.add(order("BTC/USDT", 8, 10), due=0.0)
    assert len(queue) == 2
    assert sum(one.wanted.count() for one in queue) == 12


def test_pages_take_turns_and_the_smallest_begins() -> None:
    queue = BackfillQueue()
    queue.add(order("BTC/USDT", 1, 1_000_000), due=0.0)
    queue.add(order("ETH/USDT", 1, 3_000), due=0.0)
    queue.add(order("SOL/USDT", 1, 5), due=5.0)
    turns = []
    for _ in range(6):
        backfill = queue.next(now=1.0)
        assert backfill is not None
        backfill.pages += 1
        turns.append(backfill.symbol)
    assert turns == ["ETH/USDT", "BTC/USDT"] * 3
    late = queue.next(now=5.0)
    assert late is not None
    assert late.symbol == "SOL/USDT"  # at once, before the fourth page of the others
    assert queue.next(now=-1.0) is None
    assert queue.next_due() == 0.0


def test_what_the_venue_was_seen_to_lack_waits_for_all_others() -> None:
    queue = BackfillQueue()
    queue.add(BackfillOrder("BTC/USDT", Nobody(), 10, 10, again=True), due=0.0)
    queue.add(BackfillOrder("ETH/USDT", Nobody(), 10, 10, again=True), due=0.0)
    queue.add(order("SOL/USDT", 1, 1_000_000), due=0.0)
    for _ in range(3):
        backfill = queue.next(now=1.0)
        assert backfill is not None
        assert backfill.symbol == "SOL/USDT"
        backfill.pages += 1
    queue.add(order("ETH/USDT", 12, 90), due=0.0)  # an open gap beside it takes it along
    backfill = queue.next(now=1.0)
    assert backfill is not None
    assert (backfill.symbol, list(backfill.wanted)) == ("ETH/USDT", [(10, 10), (12, 90)])


@given(st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 30)), min_size=1, max_size=60))
def test_every_ordered_id_is_wanted_and_no_other(gaps: list[tuple[int, int]]) -> None:
    queue = BackfillQueue()
    for first, size in gaps:
        queue.add(order("BTC/USDT", first, first + size), due=0.0)
    wanted = IdRanges(part for backfill in queue for part in backfill.wanted)
    assert wanted == IdRanges((first, first + size) for first, size in gaps)


def test_the_number_of_backfills_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "MOST_BACKFILLS", 10)
    queue = BackfillQueue()
    for number in range(1000):
        queue.add(order("BTC/USDT", number * 5_000, number * 5_000), due=0.0)
    assert len(queue) == 10
    assert sum(one.wanted.count() for one in queue) == 1000
