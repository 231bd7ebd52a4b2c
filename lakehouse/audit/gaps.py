"""Proof of the id ledger at the audit's snapshot: ids present, missing, and no longer available at the venue.

It counts the ids in every state for each (venue, symbol). The checks in `lakehouse.quality.gaps` only give a verdict,
on the newest version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.audit.snapshot import Snapshot
from lakehouse.lake.table_io import open_table, row_count, sql
from lakehouse.market.symbols import MarketKey
from lakehouse.quality.id_coverage import (
    LedgerRange,
    TradeIds,
    absent_from_ledger,
    absent_from_trades,
    tiling_errors,
)
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES

#: Differences that are named; the rest are counted.
_NAMED = 5


@dataclass(frozen=True)
class SymbolProof:
    """The trade ids of one (venue, symbol), counted by their state in the ledger; `repaired` ids came over REST.

    `ranges` and `open_holes` count ranges of present ids and open gaps. `oldest_open`: since when the oldest gap has
    been open, UTC; None if no gap is open. `tries` maps a number of answers of the venue to the number of ids that the
    venue lacked in all of them.
    """

    venue: str
    symbol: str
    first_id: int
    last_id: int
    present: int
    ranges: int
    repaired: int
    open: int
    open_holes: int
    unavailable: int
    oldest_open: datetime | None
    tries: dict[int, int] = field(default_factory=dict)


@dataclass
class GapsProof:
    """The ledger of ids at the snapshot, by symbol.

    `trades_version`: the version of silver/trades that the ledger describes; None if the ledger is empty. `faults` has
    a sentence for each fault.
    """

    trades_version: int | None
    symbols: list[SymbolProof]
    faults: list[str] = field(default_factory=list)

    def total(self, figure: str) -> int:
        """Return the sum of a figure of SymbolProof, such as `open`, over all symbols."""
        return sum(getattr(symbol, figure) for symbol in self.symbols)


def prove_gaps(settings: Settings, snapshot: Snapshot, ledger: Sequence[LedgerRange], trades: TradeIds) -> GapsProof:
    """Compare `ledger`, silver/continuity's rows at the snapshot, with `trades`, the ids of silver/trades there."""
    version = ledger[0].trades_version if ledger else None
    proof = GapsProof(version, _symbols(ledger))
    proof.faults += [f"silver/continuity: {line}" for line in tiling_errors(ledger)]
    if version is not None and version != snapshot.trades_version:
        rows = row_count(open_table(settings, SILVER_TRADES, version))
        if rows != snapshot.trades_rows:
            proof.faults.append(
                f"silver/continuity describes silver/trades at version {version} with {rows:,} rows, "
                f"not at {snapshot.trades_version} with {snapshot.trades_rows:,}"
            )
    differences = [*absent_from_trades(ledger, trades), *absent_from_ledger(ledger, trades)]
    proof.faults += [f"silver/continuity: {line}" for line in differences[:_NAMED]]
    if len(differences) > _NAMED:
        proof.faults.append(f"silver/continuity: {len(differences):,} ranges differ from silver/trades")
    proof.faults += _repair_faults(settings, snapshot.trades_version, proof.symbols)
    return proof


def _symbols(ledger: Sequence[LedgerRange]) -> list[SymbolProof]:
    by_key: dict[MarketKey, list[LedgerRange]] = {}
    for row in ledger:
        by_key.setdefault(row.key, []).append(row)
    found: list[SymbolProof] = []
    for key, rows in by_key.items():
        of_state = {state: [row for row in rows if row.state == state] for state in ("present", "open", "unavailable")}
        found.append(
            SymbolProof(
                *key,
                first_id=min(row.first_id for row in rows),
                last_id=max(row.last_id for row in rows),
                present=sum(map(len, of_state["present"])),
                ranges=len(of_state["present"]),
                repaired=sum(row.repaired for row in of_state["present"]),
                open=sum(map(len, of_state["open"])),
                open_holes=len(of_state["open"]),
                unavailable=sum(map(len, of_state["unavailable"])),
                oldest_open=min((row.since for row in of_state["open"]), default=None),
                tries=_tries(of_state["unavailable"]),
            )
        )
    return found


def _tries(unavailable: Sequence[LedgerRange]) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for row in unavailable:
        counts[row.tries or 1] += len(row)  # a ledger from before tries were counted means one try
    return dict(sorted(counts.items()))


def _repair_faults(settings: Settings, version: int, symbols: Sequence[SymbolProof]) -> list[str]:
    """Compare the ids that the ledger calls repaired with the rows of silver/trades whose source is a repair."""
    rows = sql(
        settings,
        "SELECT venue, symbol, count(*) AS n FROM trades WHERE source = 'repair' GROUP BY venue, symbol",
        trades=open_table(settings, SILVER_TRADES, version),
    ).to_pylist()
    there = {(row["venue"], row["symbol"]): int(row["n"]) for row in rows}
    said = {(symbol.venue, symbol.symbol): symbol.repaired for symbol in symbols}
    return [
        f"silver/continuity: {key[0]} {key[1]} has {count_of(said.get(key, 0), 'repaired id')}, "
        f"silver/trades {count_of(there.get(key, 0), 'row')} with source repair"
        for key in sorted({*there, *said})
        if there.get(key, 0) != said.get(key, 0)
    ]
