"""Messages → fields, for messages in exactly the bytes that our own ingest writes for an ordinary trade.

`wire` tries it before its JSON reader, which costs many times as much: it cuts messages at the fixed text of `encode`
and compares. It takes a message that is one JSON object with each of FIELDS once, in their order and without white
space, with texts that need no escapes and whole numbers of 1 to 18 digits; only `raw` may have escaped quotes. It does
not judge whether the values make a good trade. A message that it leaves may still be one, with other escapes, letters
beyond ASCII or another order of fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.transforms.arrow_numpy import Bytes, Integers, Mask, Texts, has_any, no_digits, texts

#: Fields of a message in the order in which `exchanges.model.encode` writes those of a `Trade`; `raw`, the last, is
#: only checked to be JSON.
FIELDS: dict[str, pa.DataType] = {
    "venue": pa.string(),
    "symbol": pa.string(),
    "native_symbol": pa.string(),
    "trade_id": pa.int64(),
    "price": pa.string(),
    "size": pa.string(),
    "side": pa.string(),
    "ts_event": pa.int64(),
    "ts_ingest": pa.int64(),
    "source": pa.string(),
    "raw": pa.string(),
}

#: Fields that are cut out, because their values differ between messages. The text between two of them, values of other
#: fields included, is the same in many messages, and each different text is read once.
_CUT_OUT = ("trade_id", "price", "size", "ts_event", "ts_ingest", "raw")
_NUMBERS = ("trade_id", "ts_event", "ts_ingest")

#: Digits of a number: every number of 18 digits fits into an int64.
_MOST_DIGITS = 18

#: Bytes that are read together: few enough for a cache, enough to outweigh the fixed cost of each step.
_SLICE_BYTES = 1 << 20

#: Most bytes before the value of `raw`; usually some 200. With this bound, all pieces fit into Arrow arrays, which end
#: at 2 GiB, however long the messages are.
_LONGEST_HEAD = 1_024

#: Different pieces of fixed text that are remembered with their values: enough for each symbol of each venue.
_REMEMBERED = 4_096

_QUOTE, _BACKSLASH, _BRACE, _POINT, _ZERO, _SPACE = b'"\\}.0 '


class _Template(NamedTuple):
    """The alternation of fixed text and cut-out fields in a message: each of `fixed` stands before one of _CUT_OUT.

    The cuts between them are `shifts` bytes away from the bare quotes numbered `at`.
    """

    fixed: list[re.Pattern[bytes] | bytes]  #: a pattern with named words, or constant bytes
    at: Integers
    shifts: Integers
    quotes: int  #: bare quotes in a message


def _template() -> _Template:
    fixed, cuts, quotes, mark, is_behind_cut = [""], [], 0, "", False
    for name, kind in FIELDS.items():
        named = f'{mark},"{name}' if quotes else f'{{"{name}'
        mark = '"' if kind == pa.string() else ""
        closing = quotes + 1  # the quote after the name
        if is_behind_cut:
            cuts.append((closing, -len(named)))
        fixed[-1] += f'{named}":{mark}'
        is_behind_cut = name in _CUT_OUT
        if is_behind_cut:
            cuts.append((closing, len(f'":{mark}')))
            fixed.append("")
        else:
            fixed[-1] += rf'(?P<{name}>[^"\\]*)'
        quotes += 4 if mark else 2
    at, shifts = np.array(cuts, np.int64).T
    patterns = [re.compile(text.replace("{", r"\{").encode()) if "(" in text else text.encode() for text in fixed[:-1]]
    return _Template(patterns, at, shifts, quotes)


_TEMPLATE = _template()
#: Pieces of a message; the last is `raw` with everything after it.
_PIECES = len(_TEMPLATE.at) + 1


def read(values: Any) -> tuple[pa.Table, Integers]:
    """Return the fields, except `raw`, of the messages that have the exact form, and the row numbers of these messages.

    `values` is a chunked column of the messages' bytes. Names, side and source come as dictionary columns.
    """
    places: list[Integers] = [np.empty(0, np.int64)]
    pieces: list[Any] = [pa.array([], pa.binary())]
    start = 0
    for chunk in values.chunks:
        for found, cut in _cut(chunk):
            places.append(found + start)
            pieces.append(cut)
        start += len(chunk)
    columns = [
        pa.concat_arrays([_part(cut, number, len(found)) for cut, found in zip(pieces, places, strict=True)])
        for number in range(_PIECES - 1)
    ]
    return _fields(columns[0::2], dict(zip(_CUT_OUT, columns[1::2], strict=False)), np.concatenate(places))


def _part(cut: Any, number: int, length: int) -> Any:
    return cut[number * length : (number + 1) * length]


# ------------------------------------------------------------------------------------------- where messages are cut


def _cut(values: Any) -> Iterator[tuple[Integers, Any]]:
    """Yield row numbers of messages whose quotes match the template, and all their pieces but the last.

    The pieces of a slice are one array: the first piece of all its messages, then the second, and so on.
    """
    if not len(values):
        return
    data, bounds = texts(values)
    valid = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
    slices = list(_slices(bounds))
    room = np.empty((2, max(bounds[until] - bounds[first] for first, until in slices)), np.bool_)
    for first, until in slices:
        ends = bounds[first : until + 1] - bounds[first]
        text = data[bounds[first] : bounds[until]]
        places, quotes = _quoted(text, ends, None if valid is None else valid[first:until], room)
        cuts = np.empty((len(places), _PIECES), np.int64)
        cuts[:, 0] = ends[places]
        cuts[:, 1:] = quotes[:, _TEMPLATE.at] + _TEMPLATE.shifts
        fits = cuts[:, -1] - cuts[:, 0] <= _LONGEST_HEAD
        if not (fits.all() and (np.diff(cuts.ravel()) >= 0).all()):
            fits &= (np.diff(cuts, axis=1) >= 0).all(axis=1)
            places, cuts = places[fits], cuts[fits]
        if len(places):
            yield places + first, _pieces(text, cuts)


def _slices(bounds: Integers) -> Iterator[tuple[int, int]]:
    """Yield the first and the end row of slices of about _SLICE_BYTES."""
    first, last = 0, len(bounds) - 1
    while first < last:
        until = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _SLICE_BYTES, "right")) - 1)
        yield first, until
        first = until


def _quoted(text: Bytes, ends: Integers, valid: Mask | None, room: Any) -> tuple[Integers, Integers]:
    """Return the row numbers of messages with as many bare quotes as the template, and the positions of the quotes.

    The first quote must be the second byte, the last the last but one, before a brace. Other bytes are only checked for
    what must not occur: control characters, bytes beyond ASCII, and backslashes before anything but a quote. So there
    are no escaped backslashes, and a quote after a backslash is an escaped quote.
    """
    bare, is_clean = _bare_quotes(text, room)
    if is_clean and valid is None and len(bare) == (len(ends) - 1) * _TEMPLATE.quotes:
        quotes = bare.reshape(-1, _TEMPLATE.quotes)
        if _at_both_ends(text, quotes, ends[:-1], ends[1:]).all():
            return np.arange(len(quotes)), quotes
    counts = np.diff(np.searchsorted(bare, ends))
    odd = text.view(np.int8) < _SPACE
    odd[:-1] |= (text[:-1] == _BACKSLASH) & (text[1:] != _QUOTE)
    fits = (counts == _TEMPLATE.quotes) & ~has_any(odd, ends)
    if valid is not None:
        fits &= valid
    places = np.flatnonzero(fits)
    quotes = bare[np.repeat(fits, counts)].reshape(-1, _TEMPLATE.quotes)
    fits = _at_both_ends(text, quotes, ends[places], ends[places + 1])
    return places[fits], quotes[fits]


def _bare_quotes(text: Bytes, room: Any) -> tuple[Integers, bool]:
    """Return the positions of quotes without a backslash before them, and whether `_quoted` allows every byte."""
    is_quote, is_backslash = room[:, : len(text)]
    np.equal(text, _QUOTE, out=is_quote)
    np.equal(text, _BACKSLASH, out=is_backslash)
    # Where the two differ is a bare quote, or another byte after a backslash.
    np.not_equal(is_quote[1:], is_backslash[:-1], out=is_quote[1:])
    found = np.flatnonzero(is_quote)
    is_bare = text[found] == _QUOTE
    is_clean = bool(is_bare.all())
    return found if is_clean else found[is_bare], is_clean and text.view(np.int8).min(initial=_SPACE) >= _SPACE


def _at_both_ends(text: Bytes, quotes: Integers, starts: Integers, stops: Integers) -> Mask:
    """Mask of the messages whose outer quotes are at both ends: then all quotes are in the same message."""
    found: Mask = (quotes[:, 0] == starts + 1) & (quotes[:, -1] == stops - 2) & (text[stops - 1] == _BRACE)
    return found


def _pieces(text: Bytes, cuts: Integers) -> Any:
    """Return the pieces between the cuts of each message, except the last, ordered by piece number."""
    offsets = np.append(cuts, len(text)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(text.data)]
    whole: Any = pa.Array.from_buffers(pa.binary(), cuts.size, buffers, null_count=0)  # unknown, it costs as much again
    return whole.take(pa.array(np.arange(cuts.size).reshape(cuts.shape).T[:-1].ravel()))


# ------------------------------------------------------------------------------------------- what the pieces are


def _fields(fixed: list[Any], cut: dict[str, Any], places: Integers) -> tuple[pa.Table, Integers]:
    """Return the fields and row numbers of the messages whose pieces are all as expected."""
    taken = np.ones(len(places), np.bool_)
    columns: dict[str, Any] = {}
    for expected, column in zip(_TEMPLATE.fixed, fixed, strict=True):
        if isinstance(expected, bytes):
            taken &= pc.equal(column, pa.scalar(expected)).to_numpy(zero_copy_only=False)
            continue
        encoded = column.dictionary_encode()
        held = [_words(expected, piece) for piece in encoded.dictionary.to_pylist()]
        taken &= np.array([words is not None for words in held], np.bool_)[encoded.indices.to_numpy()]
        for name in expected.groupindex:
            values = pa.array([words[name] if words else "" for words in held], pa.string())
            columns[name] = pa.DictionaryArray.from_arrays(encoded.indices, values)
    for name, column in cut.items():
        taken &= (_are_numbers if name in _NUMBERS else _are_plain)(texts(column))
        columns[name] = column.view(pa.string())
    rows = pa.table({name: columns[name] for name in FIELDS if name in columns})
    if not taken.all():
        rows, places = rows.filter(pa.array(taken)), places[taken]
    for name in _NUMBERS:
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(pa.int64()))
    return rows, places


@lru_cache(_REMEMBERED)
def _words(expected: re.Pattern[bytes], piece: bytes) -> dict[str, str] | None:
    """Return the values in a piece of fixed text; None if the text is another one."""
    found = expected.fullmatch(piece)
    return {name: value.decode("ascii") for name, value in found.groupdict().items()} if found else None


def _are_numbers(words: Texts) -> Mask:
    """Mask of the texts that are whole JSON numbers above 0 and fit into an int64."""
    data, bounds = words
    lengths = np.diff(bounds)
    found: Mask = (lengths >= 1) & (lengths <= _MOST_DIGITS) & ~has_any(no_digits(data), bounds)
    found[found] = data[bounds[:-1][found]] != _ZERO
    return found


def _are_plain(words: Texts) -> Mask:
    """Mask of the texts that consist of digits and dots only, and so have no quote or backslash."""
    data, bounds = words
    return ~has_any(no_digits(data) & (data != _POINT), bounds)
