"""The strict reader of a message's JSON: what it reads, letter by letter, and what it refuses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.transforms.message_fields import field_texts
from tests.support.wire_messages import message, read_strictly


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b'"a"', "a"),
        (b'""', ""),
        (b'"\\u0061\\n\\"\\\\\\/"', 'a\n"\\/'),
        (b'"\\ud83d\\ude80"', "\U0001f680"),
        ('"é🚀"'.encode(), "é🚀"),
        (b'"null"', "null"),
        (b"1.50", "1.50"),
        (b"-0", "-0"),
        (b"1e5", "1e5"),
        (b"1E-7", "1E-7"),
        (b"1e400", "1e400"),
        (b"9" * 5_000, "9" * 5_000),
        (b"1." + b"9" * 5_000, "1." + "9" * 5_000),
        (b"true", "true"),
        (b"false", "false"),
        (b'{"a" : [1.0, null]}', '{"a" : [1.0, null]}'),
        (b"[]", "[]"),
    ],
)
def test_a_value_is_its_text(written: bytes, text: str) -> None:
    value = b' {"other": 1, "venue" :\t' + written + b'\n, "x": [{"venue": "inner"}]}\r\n'
    assert field_texts(value) == {"venue": text}


def test_null_and_missing_fields_are_left_out_and_the_last_of_two_counts() -> None:
    assert field_texts(b'{"venue": null, "side": "buy", "Side": "sell"}') == {"side": "buy"}
    assert field_texts(b'{"side": "buy", "side": 1, "s\\u0069de": "sell"}') == {"side": "sell"}
    assert field_texts(b'{"side": "buy", "side": null}') == {}


NOT_STRICT = {
    "no value": None,
    "nothing": b"",
    "a text": b'"venue"',
    "an array": b'[{"venue": "a"}]',
    "null": b"null",
    "cut": b'{"venue": "a"',
    "something behind": b'{"venue": "a"} x',
    "another object behind": b'{"venue": "a"}{}',
    "NUL behind": b'{"venue": "a"}\0',
    "a comma at the end": b'{"venue": "a",}',
    "single quotes": b"{'venue': 'a'}",
    "a bare name": b'{venue: "a"}',
    "a comment": b'{"venue": "a" /* */}',
    "NaN": b'{"venue": "a", "x": NaN}',
    "Infinity": b'{"venue": "a", "x": -Infinity}',
    "a leading zero": b'{"venue": "a", "x": 01}',
    "a plus": b'{"venue": "a", "x": +1}',
    "a bare point": b'{"venue": "a", "x": 1.}',
    "a wrong word": b'{"venue": "a", "x": True}',
    "a control character": b'{"venue": "a", "x": "\n"}',
    "a wrong escape": b'{"venue": "a", "x": "\\x41"}',
    "a lone surrogate": b'{"venue": "a", "x": "\\ud800"}',
    "a lone surrogate in a name": b'{"venue": "a", "\\udc00": 1}',
    "surrogates in the wrong order": b'{"venue": "\\ude80\\ud83d"}',
    "no UTF-8 in a field": b'{"venue": "\xff"}',
    "no UTF-8 in what is skipped": b'{"venue": "a", "x": "\xff"}',
    "an encoded surrogate": b'{"venue": "a", "x": "\xed\xa0\x80"}',
    "a byte order mark": b'\xef\xbb\xbf{"venue": "a"}',
    "UTF-16": '{"venue": "a"}'.encode("utf-16"),
    "another white space": b'{\xc2\xa0"venue": "a"}',
}


@pytest.mark.parametrize("name", NOT_STRICT)
def test_what_is_no_strict_json_has_no_fields(name: str) -> None:
    assert field_texts(NOT_STRICT[name]) == {}


def nested(depth: int, more: bytes = b"") -> bytes:
    """An object of a venue with arrays and objects to a depth, itself included."""
    inner = b"".join(b"[" if level % 2 else b'{"a\\"[{":' for level in range(1, depth)) + b"1"
    ends = b"".join(b"]" if level % 2 else b"}" for level in reversed(range(1, depth)))
    return b'{"venue": "a", "x": ' + inner + ends + more + b"}"


def test_nesting_has_a_bound() -> None:
    wide = b', "y": "' + b"[{" * 1_000 + b'", "z": [' + b"[], {}," * 1_000 + b"0]"
    for more in (b"", wide):
        assert field_texts(nested(256, more)) == {"venue": "a"}
        assert field_texts(nested(257, more)) == {}
    assert field_texts(b"[" * 1_000_000) == field_texts(b'{"venue":' * 100_000) == {}


def called(depth: int) -> Mapping[str, str]:
    """Read a nested message within so many calls."""
    return called(depth - 1) if depth else field_texts(nested(256))


def test_the_bound_does_not_depend_on_the_caller() -> None:
    assert called(500) == {"venue": "a"}
    left = sys.getrecursionlimit() - len(inspect.stack())
    assert called(left - 100) in ({}, {"venue": "a"})  # it raises nothing; Python from 3.12 on has room all the same


@given(st.randoms(use_true_random=False))
def test_a_second_reader_reads_the_same(rng: Random) -> None:
    value = message(rng)
    read, found = read_strictly(value or b""), field_texts(value)
    names = {"venue", "symbol", "native_symbol", "trade_id", "price", "size", "side", "ts_event", "ts_ingest", "source"}
    wanted = {name: one for name, one in (read or {}).items() if name in names and one is not None}
    assert found.keys() == wanted.keys()
    assert {name: found[name] for name, one in wanted.items() if isinstance(one, str)} == {
        name: one for name, one in wanted.items() if isinstance(one, str)
    }
