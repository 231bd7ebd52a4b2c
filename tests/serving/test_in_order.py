"""Order by id: every id once and ascending, whatever the order and the repeats in which trades come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRange
from lakehouse.serving.in_order import InOrder


def taken(order: InOrder[int], ids: list[int], give_up: set[int] | None = None) -> tuple[list[int], list[int]]:
    """Put ids one by one; returns those sent in order and the late ones. `give_up`: steps that wait no more."""
    sent: list[int] = []
    late: list[int] = []
    for step, one in enumerate(ids):
        order.put(one, one, float(step))
        late += order.late()
        sent += order.ready()
        while give_up and step in give_up and order.hole():
            order.pass_over()
            sent += order.ready()
    return sent, late


@given(st.data(), st.integers(0, 50), st.integers(1, 60))
def test_any_order_and_repeats_give_every_id_once(data: st.DataObject, first: int, count: int) -> None:
    ids = data.draw(st.permutations([*range(first, first + count)]))
    ids += data.draw(st.lists(st.integers(0, first + count - 1), max_size=20))
    order: InOrder[int] = InOrder(first)
    assert taken(order, ids) == ([*range(first, first + count)], [])
    assert order.hole() is None
    assert order.held == 0


@given(st.data(), st.integers(1, 60))
def test_what_is_passed_over_comes_late_and_once(data: st.DataObject, count: int) -> None:
    ids = data.draw(st.permutations([*range(count)])) + data.draw(st.lists(st.integers(0, count - 1), max_size=20))
    give_up = {*data.draw(st.lists(st.integers(0, len(ids))))}
    sent, late = taken(InOrder(0), ids, give_up)
    assert sent == sorted(sent)
    assert sorted(sent + late) == [*range(count)]


@given(st.data(), st.lists(st.integers(0, 80), min_size=1, unique=True))
def test_a_client_that_is_cut_goes_on_exactly(data: st.DataObject, ids: list[int]) -> None:
    """At any moment: what it has, and then whatever comes, give each id once."""
    sent, late = taken(InOrder(min(ids)), ids, {*range(len(ids))})
    cut = data.draw(st.integers(1, len(sent)))
    after = sent[cut - 1]
    late = [one for one in late if one < after]
    has = {*sent[:cut], *data.draw(st.lists(st.sampled_from(late), unique=True) if late else st.just([]))}
    missing: list[IdRange] = [(one, one) for one in range(min(ids), after) if one not in has]
    order: InOrder[int] = InOrder(after + 1, missing)
    more, late = taken(order, data.draw(st.permutations(ids)), {len(ids) - 1})
    assert sorted([*has, *more, *late]) == sorted(ids)


@given(st.lists(st.integers(0, 80), min_size=1))
def test_a_hole_is_what_the_lowest_that_waits_waits_for(ids: list[int]) -> None:
    order: InOrder[int] = InOrder(0)
    taken(order, ids)
    following = next(one for one in range(100) if one not in ids)
    waiting = [one for one in ids if one > following]
    hole = order.hole()
    if not waiting:
        assert hole is None
    else:
        assert hole is not None
        assert (hole.first, hole.last) == (following, min(waiting) - 1)
        assert hole.since == float(ids.index(min(waiting)))
        assert order.wanted() == [(one, one + length - 1) for one, length in _gaps({*ids}, max(ids))]


def _gaps(ids: set[int], last: int) -> list[tuple[int, int]]:
    found, one = [], 0
    while one <= last:
        length = next(length for length in range(last + 2) if one + length in ids)
        if length:
            found.append((one, length))
        one += length + 1
    return found


def test_without_a_beginning_it_begins_with_the_first() -> None:
    order: InOrder[int] = InOrder()
    assert order.highest is None
    assert order.wanted() == []
    assert taken(order, [7, 5, 8, 7, 9]) == ([7, 8, 9], [])
