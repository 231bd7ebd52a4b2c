"""Read which integers a table holds, exactly and in little memory: 64 neighbours are one bitmap. Needs no JVM.

Kafka offsets and trade ids are almost contiguous, so a table of a hundred million rows is 1.6 million bitmaps, which
DataFusion folds in one scan without sorting a row. Bitmaps keep everything that the checks need: they show which
integers are missing, which are there more than once, and which another table has too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from deltalake import DeltaTable

from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings

#: Integers in a bitmap.
WIDTH = 64
_UNSIGNED = (1 << WIDTH) - 1

#: Values of the key columns of a row, such as (venue, symbol).
Key = tuple[Any, ...]


class Block(NamedTuple):
    """The rows of one key whose integer lies in `number * 64` .. `number * 64 + 63`.

    Bit n of `bits` is set if the integer `number * 64 + n` occurs, once or more often; `rows` counts the rows.
    """

    key: Key
    number: int
    rows: int
    bits: int

    @property
    def distinct(self) -> int:
        """Number of different integers in the rows; fewer than `rows` if one occurs twice."""
        return self.bits.bit_count()


def read_blocks(
    settings: Settings, table: DeltaTable, keys: Sequence[str], integer: str, where: str = "TRUE"
) -> Iterator[Block]:
    """Yield a bigint column ≥ 0 as blocks of 64 integers, ordered by key and number.

    `keys` and `integer` are column names as SQL writes them, quoted if they are SQL's own words. `where` is a SQL
    condition on the rows.
    """
    names = [f"k{place}" for place in range(len(keys))]
    selected = "".join(f"{key} AS {name}, " for key, name in zip(keys, names, strict=True))
    order = ", ".join((*names, "block"))
    rows = sql(
        settings,
        f"""
        SELECT {selected} {integer} >> 6 AS block, count(*) AS rows,
               bit_or(CAST(1 AS BIGINT) << ({integer} & 63)) AS bits
        FROM blocks_of WHERE {where} GROUP BY {order} ORDER BY {order}
        """,
        blocks_of=table,
    )
    for batch in rows.to_batches(max_chunksize=65_536):
        columns = [batch.column(name).to_pylist() for name in (*names, "block", "rows", "bits")]
        for *key, number, count, bits in zip(*columns, strict=True):
            yield Block(tuple(key), number, count, bits & _UNSIGNED)


def runs(number: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the contiguous runs of a block's set bits as inclusive ranges of integers, ascending.

    `number` and `bits` are those of a Block.
    """
    at = number * WIDTH
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        at += zeros
        ones = ((bits + 1) & ~bits).bit_length() - 1
        yield at, at + ones - 1
        bits >>= ones
        at += ones


def ranges_of(blocks: Iterable[Block]) -> dict[Key, IdRanges]:
    """Return the set of integers of each key in the blocks."""
    found: dict[Key, IdRanges] = {}
    for block in blocks:
        ranges = found.setdefault(block.key, IdRanges())
        for first, last in runs(block.number, block.bits):
            ranges.add(first, last)
    return found
