"""RowKeys of Gold's rows against sets and sorting of tuples."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.transforms.row_keys import FEW, RowKey, RowKeys, codes

#: Few of each, so that equal ones are frequent; starts also far apart.
PLACES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from([-5, 0, 1, 2, 60, 10**15])), max_size=30
)


@given(PLACES, PLACES)
@example([("a", "x", 0), ("a", "x", 3), ("a", "x", 60)], [("a", "x", 3 * number) for number in range(4 * FEW)])
@example([("a", "x", 3 * number) for number in range(4 * FEW)], [("a", "y", 0), ("a", "x", 3), ("a", "x", 60)])
def test_among(some: list[RowKey], wanted: list[RowKey]) -> None:
    found = RowKeys.of_tuples(some).among(RowKeys.of_tuples(wanted))
    assert found.tolist() == [place in set(wanted) for place in some]


@given(PLACES)
def test_once(some: list[RowKey]) -> None:
    assert RowKeys.of_tuples(some).once().tuples() == sorted(set(some))


@given(PLACES, PLACES)
def test_codes_compare_as_places_do(some: list[RowKey], others: list[RowKey]) -> None:
    ours, theirs = codes(RowKeys.of_tuples(some), RowKeys.of_tuples(others))
    every = sorted({*some, *others})
    numbers = sorted({*ours.tolist(), *theirs.tolist()})
    assert [numbers.index(code) for code in (*ours.tolist(), *theirs.tolist())] == [
        every.index(place) for place in (*some, *others)
    ]
