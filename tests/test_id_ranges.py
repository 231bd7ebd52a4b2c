"""Ranges of ids behave as the set of their ids would, whatever the order of what comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRanges

ranges = st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def ids(pairs: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in pairs for number in range(first, last + 1)}


def islands(numbers: set[int]) -> list[tuple[int, int]]:
    """The maximal runs of a set, by brute force."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


@given(st.lists(st.tuples(st.booleans(), ranges)))
def test_it_is_the_set_of_its_ids(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    have, want = IdRanges(), set[int]()
    for is_add, (first, last) in steps:
        part = set(range(first, last + 1))
        if is_add:
            assert have.add(first, last) == len(part - want)
            want |= part
        else:
            assert have.remove(first, last) == len(part & want)
            want -= part
    assert list(have) == islands(want)
    assert have.count() == len(want)
    assert len(have) == len(islands(want))
    assert (have.lowest, have.highest) == (min(want, default=None), max(want, default=None))


@given(st.lists(ranges), ranges)
def test_questions_about_a_span(pairs: list[tuple[int, int]], span: tuple[int, int]) -> None:
    have, asked = IdRanges(pairs), set(range(span[0], span[1] + 1))
    assert have.within(*span) == islands(ids(pairs) & asked)
    assert have.missing(*span) == islands(asked - ids(pairs))
    assert have.covers(*span) == (asked <= ids(pairs))
    assert (span[0] in have) == (span[0] in ids(pairs))


@given(st.lists(ranges), st.randoms())
def test_the_order_does_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert IdRanges(pairs) == IdRanges(shuffled) == IdRanges([*pairs, *shuffled])


@pytest.mark.parametrize("method", ["add", "remove"])
def test_a_reversed_range_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="expected the first id not above the last"):
        getattr(IdRanges(), method)(2, 1)
