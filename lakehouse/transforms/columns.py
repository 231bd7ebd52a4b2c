"""Columns of Arrow as NumPy: whole numbers, codes of names, and where a value changes. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def coded(column: Any) -> tuple[list[Any], Any]:
    """The different values of a column without nulls, ascending, and of each row which of them it has."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = whole.dictionary_encode()
    names: list[Any] = encoded.dictionary.to_pylist()
    places = np.array(sorted(range(len(names)), key=lambda place: names[place]), np.int64)
    ranks = np.empty(len(names), np.int64)
    ranks[places] = np.arange(len(names))
    return [names[place] for place in places], ranks[encoded.indices.to_numpy(zero_copy_only=False)]


def integers(column: Any) -> Integers:
    """A column without nulls of whole numbers, or of times, as int64; times in their own unit since the epoch."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: Integers = column.to_numpy().astype(np.int64, copy=False)
    return values


def differs(values: Integers) -> Mask:
    """Whether each value differs from the one before it; the first does."""
    found = np.ones(len(values), np.bool_)
    found[1:] = values[1:] != values[:-1]
    return found
