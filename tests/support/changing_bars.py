"""A table of bars that changes as Gold changes it, and the truth about it. No test module."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
from deltalake import Transaction

from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import Settings
from lakehouse.streams.replacement import flag, replace
from lakehouse.tables import Table
from lakehouse.transforms.row_keys import RowKeys
from tests.support.api_server import as_json

Bar = dict[str, Any]


class Gold:
    """A table of bars, and the truth about it in plain Python, by market and start."""

    def __init__(self, settings: Settings, table: Table) -> None:
        self.settings, self.table = settings, table
        self.bars: dict[tuple[str, dt.datetime], Bar] = {}
        self._version = 0

    def put(self, *bars: Bar) -> None:
        """Write bars over those of the same place, as Gold does."""
        rows = pa.Table.from_pylist(list(bars), schema=arrow_schema(self.table))
        self._version += 1
        replace(self.settings, self.table, RowKeys.of(rows, self.table.key), rows, Transaction("gold", self._version))
        self.bars |= {(bar["venue"], bar["bar_start"]): bar for bar in bars}

    def finish(self, *bars: Bar) -> None:
        """Make bars final, as Gold does: without a new revision."""
        rows = pa.Table.from_pylist(list(bars), schema=arrow_schema(self.table))
        flag(self.settings, self.table, RowKeys.of(rows, self.table.key), "is_final")
        for place in {(bar["venue"], bar["bar_start"]) for bar in bars} & self.bars.keys():
            self.bars[place] = self.bars[place] | {"is_final": True}

    def of(self, venue: str, start: dt.datetime) -> dict[str, Bar]:
        """The bars that a client must have in the end, by the text of their start."""
        found = (as_client(bar) for (of, at), bar in self.bars.items() if of == venue and at >= start)
        return {bar["bar_start"]: bar for bar in found}


def as_client(bar: Bar) -> Bar:
    return {
        name: value.replace(".000000Z", "Z") if isinstance(value, str) else value
        for name, value in as_json(bar).items()
    }
