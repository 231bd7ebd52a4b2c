"""The recogniser of plain messages takes good trades only, with the rules' values, and all that ingest writes."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.recognised_rows import GOOD, LEFT, lineage, literal, recognised
from tests.support.wire_messages import judged, message


@given(st.lists(st.randoms(use_true_random=False).map(message), max_size=12))
@hypothesis_settings(deadline=None)
def test_what_is_recognised_is_good_and_has_the_rules_values(values: list[bytes | None]) -> None:
    for offset, row in recognised(values).items():
        good = judged(values[offset])
        assert good is not None, values[offset]
        assert row == good | lineage(offset)


def test_the_generator_reaches_every_kind_of_verdict() -> None:
    rng = Random(1)
    values = [message(rng) for _ in range(4_000)]
    taken = recognised(values)
    kinds = Counter((judged(value) is not None, offset in taken) for offset, value in enumerate(values))
    assert kinds[False, True] == 0
    assert min(kinds[True, True], kinds[True, False], kinds[False, False]) > 100


@pytest.mark.parametrize("name", GOOD)
def test_good_at_the_edge(name: str) -> None:
    good = judged(GOOD[name])
    assert good is not None
    assert recognised([GOOD[name], None]) == {0: good | lineage(0)}


@pytest.mark.parametrize("name", LEFT)
def test_left(name: str) -> None:
    assert list(recognised([literal(), LEFT[name], literal()])) == [0, 2]


@pytest.mark.parametrize(
    "values",
    [
        [literal() + literal(), b" "],
        [literal() + literal(), b"{}"],
        [literal()[:-1], b"{}}"],
        [literal()[:40], literal()[40:]],
        [literal() + literal()[:40], literal()[40:]],
        [literal(raw='"{')[:-1], b'{"}'],
    ],
)
def test_messages_are_no_trades_together(values: list[bytes]) -> None:
    assert list(recognised([literal(), *values, literal()])) == [0, len(values) + 1]


@pytest.mark.parametrize("values", [[], [None], [b"junk", None], [literal(price='"0"')]])
def test_nothing_recognised(values: list[bytes | None]) -> None:
    assert recognised(values) == {}
