"""Find out why a frame, or one trade in it, could not be read. The slow path, run only after the typed decoder failed.

A check gets the JSON literal of one field (its JSON text, quotes included) and returns the `Fault` of the rule that the
field breaks, None if it breaks none. A fault's detail says what was found and what was expected, in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from lakehouse.exchanges.json_fields import (
    MAX_DECIMALS,
    MAX_INTEGER_DIGITS,
    MAX_TRADE_ID,
    epoch_micros,
    is_decimal,
    iso_micros,
    seconds_nanos,
    written_out,
)
from lakehouse.exchanges.model import Rejected

#: Every `reason` that a Rejected can have, from faults of the whole frame to faults of one field.
Reason = Literal[
    "not_utf8",
    "not_json",
    "too_long",
    "unknown_frame",
    "missing_field",
    "wrong_type",
    "no_trade_id",
    "bad_trade_id",
    "unknown_symbol",
    "bad_decimal",
    "exponent",
    "too_many_decimals",
    "too_many_digits",
    "not_positive",
    "bad_side",
    "bad_time",
    "unreadable",
]

#: Characters of raw text that a message carries at most: even with every character escaped (6 bytes each) the Kafka
#: message stays below the broker's default limit of 1 MiB.
MAX_RAW = 100_000

_any_json = msgspec.json.Decoder(msgspec.Raw)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_string = msgspec.json.Decoder(str)
#: The errors that msgspec can raise on any bytes: its own errors and bad UTF-8 are ValueErrors, deep
#: nesting is a RecursionError.
UNREADABLE = (ValueError, RecursionError)

_PLAIN = re.compile(r"(?P<sign>-?)[0-9]+(?:\.(?P<decimals>[0-9]+))?")
_EXPONENT = re.compile(r"[+-]?[0-9.]+[eE][+-]?[0-9]+")

_KINDS = {'"': "a string", "{": "an object", "[": "an array", "t": "a boolean", "f": "a boolean", "n": "null"}


class Fault(NamedTuple):
    """A rule that a frame or a field breaks: `reason`, its short name, and `detail`, one sentence for people."""

    reason: Reason
    detail: str


#: A check of one field: (its name for messages, its JSON literal) → the fault, None if the field is valid.
Check = Callable[[str, str], Fault | None]


def rejected(venue: str, fault: Fault, raw: str, ts_ingest: int, symbol: str | None = None) -> Rejected:
    """Build the Rejected for a frame, or a part of it, that has `fault`.

    `raw` is cut after MAX_RAW characters; the detail then says so.
    """
    detail = fault.detail
    if len(raw) > MAX_RAW:
        detail = f"{detail}; raw text cut after {MAX_RAW} of {len(raw)} characters"
        raw = raw[:MAX_RAW]
    return Rejected(
        venue=venue, reason=fault.reason, detail=detail, raw=raw, ts_ingest=ts_ingest, symbol=symbol or None
    )


def text_of(venue: str, frame: bytes, ts_ingest: int) -> str | Rejected:
    """Decode a frame from UTF-8. If it is not UTF-8, return a Rejected, with the bad bytes written as `\\xNN`."""
    try:
        return frame.decode()
    except UnicodeDecodeError as error:
        fault = Fault("not_utf8", f"found byte 0x{frame[error.start]:02x} at position {error.start}; expected UTF-8")
        return rejected(venue, fault, frame.decode("utf-8", "backslashreplace"), ts_ingest)


def object_fields(text: str) -> dict[str, str] | Fault:
    """Parse one level of a JSON object: field name → JSON literal, undecoded. A Fault if `text` is not an object."""
    try:
        return {name: str(raw, "utf-8") for name, raw in _object.decode(text).items()}
    except UNREADABLE as error:
        return _not_this(text, error, "an object")


def array_items(text: str) -> list[str] | Fault:
    """Parse one level of a JSON array: its items as JSON literals, undecoded. A Fault if `text` is not an array."""
    try:
        return [str(raw, "utf-8") for raw in _array.decode(text)]
    except UNREADABLE as error:
        return _not_this(text, error, "an array")


def _not_this(text: str, error: BaseException, expected: str) -> Fault:
    try:
        _any_json.decode(text)
    except UNREADABLE as syntax:
        return Fault("not_json", f"found {shorten(text)} ({syntax}); expected JSON")
    if kind(text.strip()) == expected:  # well-formed as a whole, but an unreadable field name such as a lone surrogate
        return Fault("not_json", f"found {shorten(text)} ({error}); expected JSON")
    return Fault("unknown_frame", f"found {kind(text.strip())}, {shorten(text)}; expected {expected}")


def string(literal: str | None) -> str | None:
    """Decode a JSON string literal: `"abc"` with its quotes → `abc`. None if `literal` is None or not a string."""
    if literal is None:
        return None
    try:
        return _string.decode(literal)
    except UNREADABLE:
        return None


def kind(literal: str) -> str:
    """Return the JSON type of a literal in words, with its article: `a string`, `an object`, `a number`."""
    return _KINDS.get(literal[:1], "a number")


def shorten(text: str, limit: int = 80) -> str:
    """Return `text`; if it is longer than `limit` characters, cut there, with `…` at the end."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def explain(payload: str, checks: Sequence[tuple[str, Check]]) -> Fault:
    """Return why `payload`, a trade's JSON, cannot be read: too long, not an object, or the first failing check.

    `checks` are (field name, check), in order. If every check passes, the reason is `unreadable`.
    """
    if len(payload) > MAX_RAW:
        return Fault("too_long", f"found a trade of {len(payload)} characters; expected at most {MAX_RAW}")
    fields = object_fields(payload)
    return fields if isinstance(fields, Fault) else explain_fields(fields, payload, checks)


def explain_fields(fields: dict[str, str], payload: str, checks: Sequence[tuple[str, Check]]) -> Fault:
    """Return why a trade, split into `fields` (name → JSON literal), cannot be read: the first of `checks` that fails.

    Like `explain`, also for trades that are not JSON objects, such as Kraken's REST rows. `payload` is the whole text.
    """
    if len(payload) > MAX_RAW:
        return Fault("too_long", f"found a trade of {len(payload)} characters; expected at most {MAX_RAW}")
    for name, check in checks:
        literal = fields.get(name)
        if literal is None:
            return missing(name, fields)
        fault = check(name, literal)
        if fault is not None:
            return fault
    # The typed decoder looks at every occurrence of a name, the dict above only at the last.
    return Fault("unreadable", f"found {shorten(payload)}, unreadable as a whole; expected each field once")


def missing(name: str, fields: dict[str, str]) -> Fault:
    """Build the Fault `missing_field` for an object without the field `name`; `fields` are its fields."""
    present = shorten(", ".join(fields)) or "none"
    return Fault("missing_field", f"found the fields {present}; expected the field {name} too")


def wrong_type(label: str, literal: str, expected: str) -> Fault:
    """Build the Fault `wrong_type` for a field whose JSON type is not `expected` (in words, `a string`)."""
    return Fault("wrong_type", f"found {kind(literal)}, {shorten(literal)}, in {label}; expected {expected}")


def decimal_string(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not a positive decimal in a JSON string; None if it is."""
    value = string(literal)
    if value is None:
        return wrong_type(label, literal, "a decimal string")
    return _decimal(label, value, scientific=False)


def decimal_number(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not a positive decimal as a JSON number; None if it is."""
    if kind(literal) != "a number":
        return wrong_type(label, literal, "a number")
    return _decimal(label, literal, scientific=True)


def _decimal(label: str, found: str, scientific: bool) -> Fault | None:
    """The rule that a decimal breaks; with `scientific`, that notation is read as the number that it writes."""
    text = (written_out(found) if scientific else None) or found
    if is_decimal(text):
        return None
    shown = f"found {shorten(found)!r} in {label}"
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        if _EXPONENT.fullmatch(text):
            return Fault("exponent", f"{shown}; expected plain digits without an exponent")
        return Fault("bad_decimal", f"{shown}; expected plain digits such as 0.001")
    sign, decimals = plain["sign"], plain["decimals"] or ""
    if sign or not text.strip("0."):
        return Fault("not_positive", f"{shown}; expected a number above 0")
    if len(decimals) > MAX_DECIMALS:
        return Fault("too_many_decimals", f"{shown}, {len(decimals)} decimals; expected {MAX_DECIMALS} at most")
    return Fault("too_many_digits", f"{shown}; expected {MAX_INTEGER_DIGITS} digits before the point at most")


def trade_id(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not a JSON integer from 0 to 2^63 - 1; None if it is."""
    if kind(literal) != "a number" or not literal.removeprefix("-").isdecimal():
        return wrong_type(label, literal, "an integer")
    if len(literal) > 19 or not 0 <= int(literal) <= MAX_TRADE_ID:
        return Fault("bad_trade_id", f"found {shorten(literal)} in {label}; expected an integer from 0 to 2^63 - 1")
    return None


def boolean(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not JSON's true or false; None if it is."""
    return None if literal in ("true", "false") else wrong_type(label, literal, "true or false")


def side(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not the JSON string buy or sell; None if it is."""
    value = string(literal)
    if value is None:
        return wrong_type(label, literal, "a string")
    if value not in ("buy", "sell"):
        return Fault("bad_side", f"found {shorten(value)!r} in {label}; expected buy or sell")
    return None


def kraken_side(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not the JSON string b or s (Kraken's side in REST); None if it is."""
    value = string(literal)
    if value is None:
        return wrong_type(label, literal, "a string")
    return None if value in ("b", "s") else Fault("bad_side", f"found {shorten(value)!r} in {label}; expected b or s")


def epoch_seconds(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not epoch seconds of 2009 to 2099 (`seconds_nanos`); None if it is."""
    if kind(literal) != "a number":
        return wrong_type(label, literal, "a number")
    if seconds_nanos(literal) is None:
        expected = "seconds since the epoch, from 2009 to 2099, such as 1762795433.9717445"
        return Fault("bad_time", f"found {shorten(literal)} in {label}; expected {expected}")
    return None


def epoch_time(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not epoch ms or µs of 2009 to 2099 (`epoch_micros`); None if it is."""
    if kind(literal) != "a number" or not literal.removeprefix("-").isdecimal():
        return wrong_type(label, literal, "an integer")
    if len(literal) > 19 or epoch_micros(int(literal)) is None:
        expected = "milliseconds or microseconds since the epoch, from 2009 to 2099"
        return Fault("bad_time", f"found {shorten(literal)} in {label}; expected {expected}")
    return None


def iso_time(label: str, literal: str) -> Fault | None:
    """Return the fault of a field that is not a string with a UTC time, 2009 to 2099 (`iso_micros`); None if it is."""
    value = string(literal)
    if value is None:
        return wrong_type(label, literal, "a time string")
    if iso_micros(value) is None:
        expected = "a UTC time from 2009 to 2099 such as 2021-04-17T16:43:37.089723Z"
        return Fault("bad_time", f"found {shorten(value)!r} in {label}; expected {expected}")
    return None


def symbol(canonical: Callable[[str], str]) -> Check:
    """Make a check that a field is a string that `canonical` accepts as the venue's name of a symbol.

    `canonical` raises ValueError for a name that it does not know; the fault is then `unknown_symbol`.
    """

    def check(label: str, literal: str) -> Fault | None:
        value = string(literal)
        if value is None:
            return wrong_type(label, literal, "a symbol string")
        try:
            canonical(value)
        except ValueError as error:
            return Fault("unknown_symbol", shorten(f"found {error}", 200))
        return None

    return check
