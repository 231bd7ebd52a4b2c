"""The template takes all that ingest writes of ordinary trades, and nothing that the reader of JSON sees otherwise."""

from __future__ import annotations

import json
import re
from random import Random

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.data import VENUES, Tape
from lakehouse.exchanges.model import Trade, encode
from lakehouse.transforms import wire, wire_template
from tests.support.wire_messages import message
from tests.support.wire_mutations import GOOD, Values, mutated, written
from tests.support.wire_template_tools import assert_reads_as_json, assert_same_without, recognised, taken

# ------------------------------------------------------------------------------------------- all that ingest writes


def test_fields_are_those_of_a_trade() -> None:
    fields = msgspec.structs.fields(Trade)
    kinds = {field.name: pa.int64() if field.type is int else pa.string() for field in fields}
    assert list(kinds.items()) == list(wire_template.FIELDS.items())


def test_nothing_of_a_tape_is_left_to_the_reader_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [value for _, value in Tape(1, 10, VENUES, "full", 0.01).take(6_000)]
    again = [encode(msgspec.json.decode(value, type=Trade)) for value in values]
    assert again == values
    assert {json.loads(value)["venue"] for value in values} == set(VENUES)
    assert assert_reads_as_json(list(values)) == len(values)
    monkeypatch.setattr(wire, "_parsed", lambda _: pytest.fail("the reader of JSON was asked"))
    trades, left = recognised(list(values), 6_060)
    assert len(trades) == len(values)
    assert not any(left)
    assert trades["kafka_offset"].to_pylist() == list(range(len(values)))


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1).filter(
    lambda text: not text.startswith(":")
)


@given(
    st.lists(
        st.builds(
            written,
            venue=PLAIN,
            symbol=PLAIN,
            native_symbol=PLAIN,
            trade_id=st.integers(1, 10**18 - 1),
            price=st.from_regex(re.compile("[0-9.]{0,40}"), fullmatch=True),
            ts_event=st.integers(1, 10**18 - 1),
            raw=st.text(st.characters(min_codepoint=32, max_codepoint=127, exclude_characters="\\")),
        ),
        min_size=1,
        max_size=6,
    )
)
@hypothesis_settings(deadline=None)
def test_what_needs_no_escape_is_taken(values: Values) -> None:
    assert assert_reads_as_json(values) == len(values)


# ------------------------------------------------------------------------------------------- with and without it


@pytest.mark.parametrize("seed", range(8))
def test_mutations_with_and_without_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [value for number in range(8) for value in mutated(Random(f"{seed} {number}"))]
    assert 0.1 < assert_reads_as_json(values) / len(values) < 0.9
    assert_same_without(values, monkeypatch)


@given(st.randoms(use_true_random=False).map(mutated))
@hypothesis_settings(deadline=None, max_examples=150)
def test_mutations_read_as_json(values: Values) -> None:
    assert_reads_as_json(values)


def test_messages_of_all_kinds_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(3)
    assert_same_without([message(rng) for _ in range(800)], monkeypatch)


@pytest.mark.parametrize("size", [1, 300, 700, 5_000])
def test_whatever_the_slices_are(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [value for number in range(5) for value in mutated(Random(number))] + [GOOD] * 20
    found = taken(values)
    monkeypatch.setattr(wire_template, "_SLICE_BYTES", size)
    assert taken(values) == found


# ------------------------------------------------------------------------------------------- arrays of all shapes


def test_sliced_arrays_and_empty_chunks() -> None:
    ids = [written(trade_id=number) for number in range(1, 9)]
    array = pa.array([b"junk", *ids, None], pa.binary())
    chunks = pa.chunked_array([array[:0], array[2:5], array[9:], array[5:5], array[4:], array[:0]])
    assert {place: row["trade_id"] for place, row in taken(chunks).items()} == {
        0: 2, 1: 3, 2: 4, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8,
    }  # fmt: skip


@pytest.mark.parametrize("values", [[], [None], [None, None], [b""], [b"", None, b""]])
def test_nothing_to_take(values: Values) -> None:
    assert taken(values) == {}


def test_no_chunks() -> None:
    assert taken(pa.chunked_array([], pa.binary())) == {}


def test_bytes_behind_a_null_are_no_message() -> None:
    whole = pa.array([GOOD, GOOD, GOOD], pa.binary())
    _, offsets, data = whole.buffers()
    valid = pa.py_buffer(b"\x05")
    assert list(taken(pa.chunked_array([pa.Array.from_buffers(pa.binary(), 3, [valid, offsets, data])]))) == [0, 2]


def test_many_different_heads() -> None:
    values: Values = [written(native_symbol=f"X{number}") for number in range(wire_template._REMEMBERED + 500)]
    assert [row["native_symbol"] for row in taken(values).values()] == [f"X{n}" for n in range(len(values))]


def test_trades_are_in_the_order_of_messages_whoever_read_them() -> None:
    spaced = GOOD.replace(b'":', b'": ')
    values = [GOOD, spaced, None, spaced, GOOD, GOOD, b"junk", written(native_symbol="é"), GOOD]
    trades, left = recognised(
        [value and value.replace(b"12,", b"%d," % (place + 1)) for place, value in enumerate(values)]
    )
    expected = [0, 1, 3, 4, 5, 7, 8]
    assert trades["kafka_offset"].to_pylist() == expected
    assert trades["trade_id"].to_pylist() == [place + 1 for place in expected]
    assert [place for place, is_left in enumerate(left) if not is_left] == expected


def test_good_ones_among_many_bad_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of JSON gives up on a chunk like this one: only what the template takes does not depend on it."""
    monkeypatch.setattr(wire, "MOST_REFUSED", 10)
    trades, left = recognised([GOOD, b"{}", GOOD, b"junk"] * 500, 2_000)
    assert len(trades) == 1_000
    assert left == [False, True] * 1_000
