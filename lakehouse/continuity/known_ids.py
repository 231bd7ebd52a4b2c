"""Read which trade ids silver/trades has at a version, as contiguous ranges for each (venue, symbol). No JVM.

They are read from the ledger silver/continuity if it describes the version, else from the trades themselves: only the
files that were added since the ledger's version, or all files if there is no ledger. The result is the same; the ledger
only makes it cheap.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io, unreadable
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES

#: Most versions back in which a fitting ledger is looked for before all trades are read: Gold is some batches behind.
LEDGER_VERSIONS_BACK = 50

_COLUMNS = ["venue", "symbol", "trade_id", "ts_event", "source"]


@dataclass(frozen=True)
class KnownRange:
    """A contiguous range of trade ids of one (venue, symbol) in silver/trades, inclusive.

    `ts_first` and `ts_last` are the event times of the first and the last trade, None if unknown. `repaired` counts the
    trades that came over REST.
    """

    venue: str
    symbol: str
    first_id: int
    last_id: int
    ts_first: dt.datetime | None = None
    ts_last: dt.datetime | None = None
    repaired: int = 0

    @property
    def key(self) -> MarketKey:
        return self.venue, self.symbol


class KnownIds(dict[MarketKey, IdRanges]):
    """A dict (venue, symbol) → the trade ids that silver/trades has, as ranges."""

    @classmethod
    def at(cls, settings: Settings, version: int) -> KnownIds:
        """Read the ids that silver/trades has at a version of the table; none for a version below 0."""
        presence = cls()
        if version < 0:
            return presence
        ledger = _ledger_at(settings, version)
        since = ledger[0]["trades_version"] if ledger else None
        for row in ledger:
            if row["state"] == "present":
                presence.add((row["venue"], row["symbol"]), row["first_id"], row["last_id"])
        islands, _ = ranges_between(settings, since, version)
        for island in islands:
            presence.add(island.key, island.first_id, island.last_id)
        return presence

    def of(self, key: MarketKey) -> IdRanges:
        """Return the ids of a (venue, symbol), to read or to change; an unknown one gets an empty set."""
        return self.setdefault(key, IdRanges())

    def add(self, key: MarketKey, first_id: int, last_id: int) -> int:
        """Add the ids `first_id`..`last_id` (inclusive) of a (venue, symbol); return how many of them are new."""
        return self.of(key).add(first_id, last_id)

    def covers(self, key: MarketKey, first_id: int, last_id: int) -> bool:
        """Return True if every id from `first_id` to `last_id` (inclusive) of a (venue, symbol) is known."""
        ids = self.get(key)
        return ids is not None and ids.covers(first_id, last_id)


def ranges_between(settings: Settings, since: int | None, version: int) -> tuple[list[KnownRange], bool]:
    """Read the ranges of trades added to silver/trades after version `since`, up to `version`.

    Returns (ranges, is_all). If `is_all`, the ranges cover all trades of `version`: `since` is None, negative or above
    `version`, or a compaction has replaced files of version `since`. silver/trades is append-only.
    """
    if since == version:
        return [], False
    table = table_io.open_table(settings, SILVER_TRADES, version)
    if since is not None and 0 <= since < version:
        old, new = _paths(table_io.open_table(settings, SILVER_TRADES, since)), _paths(table)
        if old <= new:
            return _islands_of(_read_files(table, new - old)), False
    return _islands_of_all(settings, table), True


def _ledger_at(settings: Settings, version: int) -> list[dict[str, Any]]:
    """The ledger's rows as they were at the newest of its versions that describes `version` or an older one."""
    if not DeltaTable.is_deltatable(table_io.table_uri(settings, SILVER_CONTINUITY)):
        return []
    newest = table_io.open_table(settings, SILVER_CONTINUITY).version()
    for number in range(newest, max(-1, newest - LEDGER_VERSIONS_BACK), -1):
        rows: list[dict[str, Any]] = table_io.sql(
            settings, "SELECT * FROM ledger", ledger=table_io.open_table(settings, SILVER_CONTINUITY, number)
        ).to_pylist()
        if not rows or rows[0]["trades_version"] <= version:
            return rows
    return []


def _paths(table: DeltaTable) -> set[str]:
    return {str(path) for path in pa.table(table.get_add_actions()).column("path").to_pylist()}


def _read_files(table: DeltaTable, paths: set[str]) -> pa.Table:
    fragments = [
        fragment
        for fragment in table.to_pyarrow_dataset().get_fragments()
        if any(fragment.path.endswith(path) for path in paths)
    ]
    # Cast: a file of another writer may hold views of strings, which Arrow does not sort.
    schema = pa.schema([table_io.arrow_schema(SILVER_TRADES).field(name) for name in _COLUMNS])
    with unreadable.typed([table], of_query=False):
        found = [fragment.to_table(columns=_COLUMNS) for fragment in fragments]
    parts = [rows.cast(schema) for rows in found]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _islands_of(trades: pa.Table) -> list[KnownRange]:
    """Islands of a few trades in memory."""
    ordered = trades.sort_by([("venue", "ascending"), ("symbol", "ascending"), ("trade_id", "ascending")])
    found: list[KnownRange] = []
    for row in _batched(ordered):
        last = found[-1] if found else None
        repaired = int(row["source"] == "repair")
        if last and last.key == (row["venue"], row["symbol"]) and row["trade_id"] <= last.last_id + 1:
            found[-1] = KnownRange(
                last.venue,
                last.symbol,
                last.first_id,
                row["trade_id"],
                last.ts_first,
                row["ts_event"],
                last.repaired + repaired,
            )
        else:
            found.append(
                KnownRange(
                    row["venue"],
                    row["symbol"],
                    row["trade_id"],
                    row["trade_id"],
                    row["ts_event"],
                    row["ts_event"],
                    repaired,
                )
            )
    return found


def _batched(table: pa.Table) -> Iterable[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=65_536):
        yield from batch.to_pylist()


def _islands_of_all(settings: Settings, table: DeltaTable) -> list[KnownRange]:
    """Islands of a whole table: ids minus their rank are equal exactly within a contiguous run."""
    rows = table_io.sql(
        settings,
        """
        SELECT venue, symbol, min(trade_id) AS first_id, max(trade_id) AS last_id,
               first_value(ts_event ORDER BY trade_id) AS ts_first,
               last_value(ts_event ORDER BY trade_id) AS ts_last,
               count(*) FILTER (WHERE source = 'repair') AS repaired
        FROM (SELECT venue, symbol, trade_id, ts_event, source,
                     trade_id - CAST(row_number() OVER (PARTITION BY venue, symbol ORDER BY trade_id) AS BIGINT)
                         AS island
              FROM trades)
        GROUP BY venue, symbol, island ORDER BY venue, symbol, first_id
        """,
        trades=table,
    )
    return [KnownRange(**row) for row in rows.to_pylist()]
