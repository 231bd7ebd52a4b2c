"""Cursors: at which row a page ended, in which version of the table, of which query. Pure.

A cursor is opaque to a client. It carries a digest, so that a damaged one is refused instead of read as another place.
It is not a secret and grants no access.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
from typing import Any

import msgspec
import pyarrow as pa

from lakehouse.client.filters import Value
from lakehouse.serving.problems import Problem

#: Longest cursor: some 250 characters with the longest names that a key can have.
MOST_CHARACTERS = 1_000
_DIGEST = 8
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_LONG = 1 << 63


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The place at which the next page begins.

    `key` is that of the last row of the page before; `start` and `end` are the range, µs since the epoch, None without
    limit. `query` is the digest of the query's parameters, `table_id` Delta's id of the table at `version`.
    """

    table_id: str
    version: int
    query: str
    key: tuple[str | int, ...]
    start: int | None = None
    end: int | None = None

    def text(self) -> str:
        """Return the cursor as text for a URL."""
        packed = msgspec.msgpack.encode(self)
        return base64.urlsafe_b64encode(_digest(packed) + packed).rstrip(b"=").decode()


def read_cursor(text: str) -> Cursor:
    """Read a cursor. Raises Problem if the text is not what `Cursor.text` returns."""
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError(text)
        found = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        digest, packed = found[:_DIGEST], found[_DIGEST:]
        if digest != _digest(packed):
            raise ValueError(text)
        cursor = msgspec.msgpack.decode(packed, type=Cursor)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise Problem(
            "bad-cursor",
            f"cursor {text[:40]!r}; expected one of an earlier answer, unchanged; ask again without a cursor",
        ) from None
    if cursor.text() != text:  # base64 has several texts for the same bytes
        raise Problem("bad-cursor", f"cursor {text[:40]!r}; expected one of an earlier answer, unchanged")
    return cursor


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_DIGEST, person=b"api-cursor").digest()


def to_key(values: tuple[Any, ...]) -> tuple[str | int, ...]:
    """Return a row's key as a cursor holds it: times in µs since the epoch."""
    return tuple(micros(one) if isinstance(one, dt.datetime) else one for one in values)


def from_key(schema: pa.Schema, names: tuple[str, ...], key: tuple[str | int, ...]) -> tuple[Value, ...]:
    """Return a cursor's key as values of the columns `names` of an answer. Raises Problem if they do not fit."""
    kinds = [str(schema.field(name).type) for name in names]
    if len(key) != len(kinds) or not all(_fits(kind, one) for kind, one in zip(kinds, key, strict=True)):
        raise Problem("bad-cursor", "a cursor of another answer; expected one of this path")
    pairs = zip(kinds, key, strict=True)
    return tuple(moment(one) if kind.startswith("timestamp") and isinstance(one, int) else one for kind, one in pairs)


def _fits(kind: str, value: str | int) -> bool:
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, int) and -_LONG < value < _LONG - 1


def micros(time: dt.datetime) -> int:
    """Return a time as µs since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def moment(micros: int) -> dt.datetime:
    """Return the time of µs since the epoch. Raises Problem if a datetime cannot hold it."""
    try:
        return _EPOCH + micros * _MICROSECOND
    except OverflowError:
        raise Problem("bad-cursor", "a cursor with a time out of range; expected one of an earlier answer") from None
