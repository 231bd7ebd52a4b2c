"""The fields of a message's JSON object as texts, by a strict reader.

Strict: UTF-8, and one JSON object by RFC 8259 with white space around it at most. Without single quotes, NaN or
Infinity, a byte order mark, or lone surrogates (RFC 7493, as Arrow and Delta can hold none), and without nesting deeper
than MAX_NESTING. The last one of two fields of the same name counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import astuple

#: Most objects and arrays within each other. An own bound, because the one of the JSON reader depends on how deep the
#: calling code is nested.
MAX_NESTING = 256

_NULL = msgspec.Raw(b"null")
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")


class _Fields(msgspec.Struct):
    """The fields of all kinds of messages that are read, as the bytes of their values."""

    venue: msgspec.Raw = _NULL
    symbol: msgspec.Raw = _NULL
    native_symbol: msgspec.Raw = _NULL
    trade_id: msgspec.Raw = _NULL
    price: msgspec.Raw = _NULL
    size: msgspec.Raw = _NULL
    side: msgspec.Raw = _NULL
    ts_event: msgspec.Raw = _NULL
    ts_ingest: msgspec.Raw = _NULL
    source: msgspec.Raw = _NULL
    event: msgspec.Raw = _NULL
    connection_id: msgspec.Raw = _NULL
    first_id: msgspec.Raw = _NULL
    last_id: msgspec.Raw = _NULL
    reason: msgspec.Raw = _NULL
    detail: msgspec.Raw = _NULL


_NAMES = _Fields.__struct_fields__
_read = msgspec.json.Decoder(_Fields).decode
_read_text = msgspec.json.Decoder(str).decode


def field_texts(value: bytes | None) -> Mapping[str, str]:
    """Return the texts of the fields that a message has; none for a value that is no strict JSON object.

    A field that is null is left out. The text of a value that is no JSON text is its JSON, as written: `1.50`, `true`,
    `{"a": 1}`.
    """
    if value is None:
        return {}
    try:
        value.decode()  # all of it is UTF-8, also what is skipped
        if _is_too_deep(value):
            return {}
        texts: dict[str, str] = {}
        for name, raw in zip(_NAMES, astuple(_read(value)), strict=True):
            if raw is _NULL:
                continue
            text = str(raw, "utf-8")
            if text.startswith('"'):
                texts[name] = _read_text(raw) if "\\" in text else text[1:-1]
            elif text != "null":
                texts[name] = text
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return texts


def _is_too_deep(value: bytes) -> bool:
    """Return whether brackets outside of texts are nested deeper than MAX_NESTING."""
    if value.count(b"{") + value.count(b"[") <= MAX_NESTING:
        return False
    outside = b"".join(value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    depth = 0
    for byte in outside:
        if byte in _OPENING:
            depth += 1
            if depth > MAX_NESTING:
                return True
        elif byte in _CLOSING:
            depth -= 1
    return False
