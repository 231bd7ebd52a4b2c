"""Arrow columns as NumPy arrays: whole numbers, codes of names, bytes of texts, masks of rows. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
#: The bytes of all texts, and the offset of each; one more offset ends the last.
Texts = tuple[Bytes, Integers]


def whole(column: Any) -> Any:
    """Return a column, which may be chunked, as one contiguous array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def coded(column: Any) -> tuple[list[Any], Any]:
    """Return the distinct values of a column without nulls, ascending, and for each row the number of its value."""
    names, order, indices = _encoded(column)
    return names.take(order).to_pylist(), _ranks(order)[indices]


def ranked(column: Any) -> tuple[int, Integers]:
    """Return how many distinct texts a column without nulls has, and for each row its text's rank."""
    names, order, indices = _encoded(column)
    return len(names), _ranks(order)[indices]


def _encoded(column: Any) -> tuple[Any, Any, Any]:
    """Return the distinct values, their sort order, and for each row the index of its value."""
    encoded = whole(column).dictionary_encode()
    names = encoded.dictionary
    # Arrow does not sort views of text, which a file of another writer may hold.
    order = pc.sort_indices(names.cast(pa.string()) if pa.types.is_string_view(names.type) else names)
    return names, order, encoded.indices.to_numpy(zero_copy_only=False)


def _ranks(order: Any) -> Integers:
    ranks = np.empty(len(order), np.int64)
    ranks[order.to_numpy()] = np.arange(len(order))
    return ranks


def integers(column: Any) -> Integers:
    """Return a column of whole numbers or times, without nulls, as int64; times in their own unit since the epoch."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: Integers = column.to_numpy().astype(np.int64, copy=False)
    return values


def kept(rows: pa.Table, which: Mask) -> pa.Table:
    """Return the rows that a mask selects; the table itself if it selects all."""
    return rows if which.all() else rows.filter(pa.array(which))


def differs(values: Integers) -> Mask:
    """Mask of the values that differ from the one before; the first counts as different."""
    found = np.ones(len(values), np.bool_)
    found[1:] = values[1:] != values[:-1]
    return found


def texts(array: Any) -> Texts:
    """Return the bytes and offsets (Texts) of a string or binary array; the text of a null is undefined."""
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    bounds = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def has_any(flags: Mask, bounds: Integers) -> Mask:
    """Mask of the texts with a flagged byte: `flags` has one entry per byte, `bounds` the texts' offsets (Texts)."""
    if not flags.any():
        return np.zeros(len(bounds) - 1, np.bool_)
    found: Mask = np.diff(np.searchsorted(np.flatnonzero(flags), bounds)) > 0
    return found


def no_digits(data: Bytes) -> Mask:
    """Mask of the bytes that are not a digit."""
    found: Mask = data - np.uint8(ord("0")) > 9
    return found
