"""Known trade ids of all markets as a few bytes, for works in other processes.

docs/adr/0024 says how many. A reader makes objects only of the markets that it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.id_ranges import IdRanges
from lakehouse.market.symbols import MarketKey

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def packed(markets: Iterable[tuple[MarketKey, IdRanges]]) -> bytes:
    """Return the ids of (venue, symbol)s as bytes for `PackedIds`; each market comes once."""
    venues: list[str] = []
    symbols: list[str] = []
    bounds = [0]
    ids: list[int] = []
    for (venue, symbol), ranges in markets:
        venues.append(venue)
        symbols.append(symbol)
        ids.extend(chain.from_iterable(ranges))
        bounds.append(len(ids))
    # Each number as its distance from the one before: most are small, and compress well.
    steps = np.diff(np.array(ids, np.int64), prepend=np.int64(0))
    table = pa.table(
        {
            "venue": pa.array(venues, pa.string()),
            "symbol": pa.array(symbols, pa.string()),
            "steps": pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(steps)),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class PackedIds:
    """The reader of the bytes that `packed` returns."""

    def __init__(self, data: bytes) -> None:
        table = pa.ipc.open_stream(data).read_all().combine_chunks()
        keys = zip(table.column("venue").to_pylist(), table.column("symbol").to_pylist(), strict=True)
        self._places = {key: place for place, key in enumerate(keys)}
        steps: Any = table.column("steps").combine_chunks()
        self._bounds = steps.offsets.to_numpy()
        self._ids = np.cumsum(steps.values.to_numpy(), dtype=np.int64)
        self._made: dict[MarketKey, IdRanges] = {}

    def of(self, key: MarketKey) -> IdRanges:
        """Return the ids of a (venue, symbol); none if it is unknown."""
        found = self._made.get(key)
        if found is None:
            place = self._places.get(key)
            first, end = (0, 0) if place is None else self._bounds[place : place + 2]
            pairs = self._ids[first:end].reshape(-1, 2).tolist()
            found = self._made[key] = IdRanges((low, high) for low, high in pairs)
        return found
