"""Read the trade ids that the rows of silver/trades cover, and compare them with the ledger silver/continuity.

This code shares nothing with the code of the streams that writes the ledger, so that it can prove the ledger.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.lake.table_io import open_table, sql
from lakehouse.market.symbols import MarketKey
from lakehouse.quality.bitmaps import read_blocks, runs
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES

#: States of a range in the ledger; `lakehouse.tables` describes them.
STATES = ("present", "open", "unavailable")
_KEYS = ("venue", "symbol")


@dataclass(frozen=True)
class LedgerRange:
    """One row of silver/continuity: the state of the trade ids `first_id` to `last_id`, inclusive.

    Its length is the number of ids. `repaired` counts the ids that came over REST; `tries` is None if none were
    counted.
    """

    venue: str
    symbol: str
    first_id: int
    last_id: int
    state: str
    since: datetime
    repaired: int
    trades_version: int
    tries: int | None = None

    @property
    def key(self) -> MarketKey:
        return self.venue, self.symbol

    @property
    def name(self) -> str:
        """Venue, symbol, ids and state of the range, to name it in a sentence."""
        return f"{_name(self.key, self.first_id, self.last_id)} ({self.state})"

    def __len__(self) -> int:
        return max(0, self.last_id - self.first_id + 1)


@dataclass
class TradeIds:
    """Ids in silver/trades at a version, by (venue, symbol).

    `surplus` counts the rows beyond one for each id; `doubled` are the ids at or near which these rows are.
    """

    rows: int = 0
    surplus: int = 0
    ids: dict[MarketKey, IdRanges] = field(default_factory=dict)
    doubled: dict[MarketKey, IdRanges] = field(default_factory=dict)

    def of(self, key: MarketKey) -> IdRanges:
        """Return the ids of a (venue, symbol); empty if it has no trade."""
        return self.ids.get(key, IdRanges())


def ids_of_trades(settings: Settings, version: int, where: str = "TRUE") -> TradeIds:
    """Read the trade ids of silver/trades at a version, from the rows that meet the SQL condition `where`."""
    found = TradeIds()
    table = open_table(settings, SILVER_TRADES, version)
    for block in read_blocks(settings, table, _KEYS, "trade_id", where):
        key = (block.key[0], block.key[1])
        ranges = found.ids.setdefault(key, IdRanges())
        for first, last in runs(block.number, block.bits):
            ranges.add(first, last)
        found.rows += block.rows
        if block.rows > block.distinct:
            found.surplus += block.rows - block.distinct
            # A bitmap does not show which of the 64 ids it is, so all of them are named.
            doubled = found.doubled.setdefault(key, IdRanges())
            for first, last in runs(block.number, block.bits):
                doubled.add(first, last)
    return found


def read_ledger(settings: Settings, version: int | None = None) -> list[LedgerRange]:
    """Read the rows of silver/continuity at a version (None: the newest), ordered by venue, symbol and id."""
    table = open_table(settings, SILVER_CONTINUITY, version)
    there = {field.name for field in table.schema().fields}  # versions from before tries were counted lack the column
    columns = ", ".join(name for name in LedgerRange.__dataclass_fields__ if name in there)
    rows = sql(
        settings, f"SELECT {columns} FROM ledger ORDER BY venue, symbol, first_id, last_id", ledger=table
    ).to_pylist()
    return [LedgerRange(**row) for row in rows]


def present(ledger: Iterable[LedgerRange]) -> dict[MarketKey, IdRanges]:
    """Map each (venue, symbol) to the ids that the ledger calls present."""
    found: dict[MarketKey, IdRanges] = {}
    for row in ledger:
        if row.state == "present" and row.first_id <= row.last_id:
            found.setdefault(row.key, IdRanges()).add(row.first_id, row.last_id)
    return found


def count_present(ledger: Iterable[LedgerRange]) -> int:
    """Count the different ids that the ledger calls present."""
    return sum(ids.count() for ids in present(ledger).values())


def tiling_errors(ledger: Sequence[LedgerRange]) -> Iterator[str]:
    """Yield a line for each fault within the ledger, without a look at another table.

    The ranges of a (venue, symbol) must follow each other without a gap or an overlap, no two present ranges may touch,
    and all rows must describe one version of silver/trades. `ledger` is ordered by venue, symbol and id.
    """
    for row in ledger:
        if row.first_id > row.last_id:
            yield f"{row.name}: the first id is above the last"
        if row.state not in STATES:
            yield f"{row.name}: the state is none of {', '.join(STATES)}"
    for before, row in itertools.pairwise(ledger):
        if before.key != row.key:
            continue
        if row.first_id <= before.last_id:
            yield f"{row.name}: overlaps ids {before.first_id}–{before.last_id} ({before.state})"
        elif row.first_id > before.last_id + 1:
            yield f"{row.name}: nothing is said of ids {before.last_id + 1}–{row.first_id - 1} before it"
        elif row.state == before.state == "present":
            yield f"{row.name}: is one range with ids {before.first_id}–{before.last_id} before it"
    versions = {row.trades_version for row in ledger}
    if len(versions) > 1:
        yield f"rows describe different versions of silver/trades: {', '.join(map(str, sorted(versions)))}"


def absent_from_trades(ledger: Iterable[LedgerRange], trades: TradeIds) -> Iterator[str]:
    """Yield a line for each range of ids that the ledger calls present and Silver lacks."""
    for key, ranges in sorted(present(ledger).items(), key=lambda item: item[0]):
        for first, last in _only_in(ranges, trades.of(key)):
            yield f"{_name(key, first, last)}: present by the ledger, not in silver/trades"


def absent_from_ledger(ledger: Iterable[LedgerRange], trades: TradeIds) -> Iterator[str]:
    """Yield a line for each range of ids that Silver has and the ledger does not call present."""
    said = present(ledger)
    for key, ranges in sorted(trades.ids.items(), key=lambda item: item[0]):
        for first, last in _only_in(ranges, said.get(key, IdRanges())):
            yield f"{_name(key, first, last)}: in silver/trades, not present by the ledger"


def _name(key: MarketKey, first: int, last: int) -> str:
    return f"{' '.join(key)} id {first}" if first == last else f"{' '.join(key)} ids {first}–{last}"


def _only_in(some: IdRanges, others: IdRanges) -> Iterator[IdRange]:
    for first, last in some:
        yield from others.missing(first, last)
