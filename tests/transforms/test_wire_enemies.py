"""Messages that no template of ours may take, whoever wrote them; and those that it may, however odd they look."""

from __future__ import annotations

import pytest

from tests.support.wire_mutations import GOOD, written
from tests.support.wire_template_tools import assert_reads_as_json, assert_same_without, taken


def altered(old: bytes, new: bytes) -> bytes:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


RAW = b'"{\\"p\\":\\"1\\"}"'

LEFT: dict[str, bytes | None] = {
    "no value": None,
    "nothing": b"",
    "a brace": b"}",
    "a quote": b'"',
    "quotes": b'"' * 38,
    "quotes in braces": b"{" + b'"' * 38 + b"}",
    "two objects": GOOD + GOOD,
    "two objects in one's number of quotes": b'{"a":"b"}' + GOOD[GOOD.index(b'"price') - 1 :],
    "a field twice": altered(b'"price":"43250.10"', b'"price":"43250.10","price":"43250.10"'),
    "a field in another's place": altered(b'"size":"0.001"', b'"price":"0.001"'),
    "nested": altered(b'"venue":"kraken"', b'"venue":{"kraken":""}'),
    "raw an object": altered(RAW, b'{"a":"b"}'),
    "raw null": altered(RAW, b"null"),
    "raw missing": altered(b',"raw":' + RAW, b""),
    "raw before": altered(b'{"venue"', b'{"raw":"","venue"').replace(b',"raw":' + RAW, b""),
    "raw ends in a backslash": altered(RAW, b'"\\"'),
    "raw with a quote and a backslash at its end": altered(RAW, b'"a"b\\"'),
    "raw with a bare quote": altered(RAW, b'"a"b"'),
    "raw with an escaped backslash": altered(RAW, b'"\\\\"'),
    "raw with an escaped backslash and a quote": altered(RAW, b'"\\\\""'),
    "raw with another escape": altered(RAW, b'"\\n"'),
    "raw with a wrong escape": altered(RAW, b'"\\x"'),
    "raw with a control character": altered(RAW, b'"\n"'),
    "raw beyond ASCII": altered(RAW, '"é"'.encode()),
    "raw no UTF-8": altered(RAW, b'"\xff"'),
    "NUL": altered(b"kraken", b"kra\0en"),
    "NUL behind": GOOD + b"\0",
    "cut": GOOD[:-1],
    "cut in raw": GOOD[:-2],
    "cut in the head": GOOD[:100],
    "begun within": GOOD[1:],
    "another bracket at the end": GOOD[:-1] + b"]",
    "another byte before": b"[" + GOOD[1:],
    "id missing": altered(b":12,", b":,"),
    "id 0": altered(b":12,", b":0,"),
    "leading zero": altered(b":12,", b":012,"),
    "plus": altered(b":12,", b":+12,"),
    "minus": altered(b":12,", b":-12,"),
    "exponent": altered(b":12,", b":1e2,"),
    "point": altered(b":12,", b":1.2,"),
    "hexadecimal": altered(b":12,", b":0x12,"),
    "white space": altered(b":12,", b": 12,"),
    "white space behind": altered(b":12,", b":12 ,"),
    "19 digits": altered(b":12,", b":1000000000000000000,"),
    "2^64 + 12": altered(b":12,", b":18446744073709551628,"),
    "id a text": altered(b":12,", b':"12",'),
    "price a number": altered(b'"43250.10"', b"43250.10"),
    "price with an exponent": altered(b"43250.10", b"1e5"),
    "price below 0": altered(b"43250.10", b"-5"),
    "price with a plus": altered(b"43250.10", b"+5"),
    "price with an escape": altered(b"43250.10", b"\\u0035"),
    "price with an escaped quote": altered(b"43250.10", b'5\\"'),
    "an escape in a word": altered(b'"symbol":"BTC', b'"symbol":"\\u0042TC'),
    "an escape in a name": altered(b'"venue"', b'"\\u0076enue"'),
    "a quote in a word": altered(b"kraken", b'kra\\"ken'),
    "a backslash at a word's end": altered(b"kraken", b"kraken\\"),
    "a backslash at a word's end, and a quote for it": altered(b"live", b"live\\").replace(RAW, b'"a"b"'),
    "an escape, and a quote less": altered(b'"venue"', b'\\nvenue"'),
    "beyond ASCII": altered(b"kraken", "krakén".encode()),
    "another name": altered(b'"side"', b'"Side"'),
    "white space in the head": altered(b',"side"', b', "side"'),
    "white space at the end": GOOD + b" ",
    "a long head": written(native_symbol="x" * 1_024),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_left_and_no_harm_to_its_neighbours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [GOOD, LEFT[name], GOOD]
    assert list(taken(values)) == [0, 2]
    assert list(taken([LEFT[name]])) == []
    assert list(taken([LEFT[name], LEFT[name]])) == []
    assert_same_without(values, monkeypatch)


TAKEN = {
    "raw empty": written(raw=""),
    "raw a quote": written(raw='"'),
    "raw that looks like an end": written(raw='"}'),
    "raw a message": written(raw=GOOD.decode().replace("\\", "")),
    "18 digits": written(trade_id=10**18 - 1),
    "empty words": written(venue="", native_symbol=""),
    "no price": written(price=""),
    "points": written(price="..", size="."),
    "DEL": written(native_symbol="\x7f", raw="\x7f"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert assert_reads_as_json([GOOD, TAKEN[name], GOOD]) == 3
    assert_same_without([GOOD, TAKEN[name], GOOD], monkeypatch)


def test_quotes_of_two_messages_do_not_make_up_for_each_other() -> None:
    more, less = altered(RAW, b'"a"b"'), altered(b',"raw":' + RAW, b"")
    for values in ([more, less], [less, more], [GOOD, more, less, GOOD]):
        assert list(taken(values)) == [place for place, value in enumerate(values) if value is GOOD]


def test_a_parted_message_is_none() -> None:
    for place in range(1, len(GOOD)):
        assert list(taken([GOOD, GOOD[:place], GOOD[place:], GOOD])) == [0, 3]
        assert list(taken([GOOD + GOOD[:place], GOOD[place:], GOOD])) == [2]
