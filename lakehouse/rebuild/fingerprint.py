"""Fingerprint of a set of rows, whatever their order and the files that they lie in. Arrow and NumPy, no I/O.

Each row gets two 64-bit hashes of all its columns, in the table's order; the fingerprint is the number of rows and the
two sums of the hashes modulo 2^64. Sets of rows that differ have the same one with a chance of about 2^-128, unless
somebody has looked for such rows. A null is unlike an empty text, a zero and every other value.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.tables import Table
from lakehouse.transforms.arrow_numpy import whole

Words = npt.NDArray[np.uint64]

#: Starts of the two hashes: any two numbers would do.
_SEEDS = (np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344))


@dataclass(frozen=True)
class Fingerprint:
    """Number of rows, and the two sums of their hashes modulo 2^64; those of several sets of rows add up."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: Fingerprint) -> Fingerprint:
        first, second = self.first + other.first, self.second + other.second
        return Fingerprint(self.rows + other.rows, first % 2**64, second % 2**64)


def fingerprint(rows: pa.Table, table: Table) -> Fingerprint:
    """Compute the fingerprint of `rows`, which have the columns and types of `table`."""
    hashes = [np.full(rows.num_rows, seed) for seed in _SEEDS]
    for name in table.column_names:
        column = whole(rows.column(name))
        words = _words(column)
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False)
            words = [*(np.where(nulls, np.uint64(0), word) for word in words), nulls.astype(np.uint64)]
        else:
            words = [*words, np.zeros(1, np.uint64)]
        for word in words:
            for number, hashed in enumerate(hashes):
                hashes[number] = _mixed(hashed ^ word)
    return Fingerprint(rows.num_rows, *(int(hashed.sum(dtype=np.uint64)) for hashed in hashes))


def _words(column: Any) -> list[Words]:
    """Return for each value of a column one or two whole numbers that are the same for the same values only.

    Texts are hashed to one. Those of nulls are undefined.
    """
    kind = column.type
    if pa.types.is_decimal128(kind):
        words = np.frombuffer(column.buffers()[1], np.uint64)[2 * column.offset :][: 2 * len(column)].reshape(-1, 2)
        return [words[:, 0], words[:, 1]]
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        found = column.dictionary_encode()
        values = (value or b"" for value in found.dictionary.cast(pa.binary()).to_pylist())
        hashed = [int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little") for value in values]
        places = pc.fill_null(found.indices, 0).to_numpy(zero_copy_only=False)
        return [np.array([*hashed, 0], np.uint64)[places]]
    kinds = {64: pa.int64(), 32: pa.int32()}
    numbers = column.cast(kinds[kind.bit_width]).cast(pa.int64())
    return [pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False).view(np.uint64)]


def _mixed(words: Words) -> Words:
    """Mix the bits of each number, one to one. Source: the finalizer of SplitMix64 (Steele, Lea, Flood, 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
