"""What silver/continuity says: the newest id of each (venue, symbol), and the holes to mend. No JVM.

The ledger is written by the Silver stream; this only reads it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY

Key = tuple[str, str]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Mark:
    """The newest trade of a (venue, symbol) in Silver. `ts_event` in microseconds, None where it is not known."""

    trade_id: int
    ts_event: int | None = None


@dataclass(frozen=True)
class Hole:
    """Trade ids, inclusive, that exist at the venue and that we do not have.

    `ts_before` and `ts_after` are the event times, in microseconds, of the trades around it, where known; Kraken's
    history is asked by time.
    """

    venue: str
    symbol: str
    first_id: int
    last_id: int
    ts_before: int | None = None
    ts_after: int | None = None

    def __len__(self) -> int:
        return self.last_id - self.first_id + 1


def marks(settings: Settings) -> dict[Key, Mark]:
    """(venue, symbol) → its newest trade in Silver. Empty where there is no lake yet."""
    rows = _rows(settings, "state = 'present'")
    found: dict[Key, Mark] = {}
    for row in rows:
        key = row["venue"], row["symbol"]
        if key not in found or row["last_id"] > found[key].trade_id:
            found[key] = Mark(row["last_id"], _micros(row["ts_last"]))
    return found


def open_holes(settings: Settings, older_than_seconds: float = 0.0) -> list[Hole]:
    """The open holes that the ledger has held for so many seconds, oldest first. Empty where there is no lake yet.

    One that was opened as far in the future, before the clock was set back, counts: its true age is not known.
    """
    now, age = dt.datetime.now(dt.UTC), dt.timedelta(seconds=older_than_seconds)
    rows = [row for row in _rows(settings, "state = 'open'") if abs(now - row["since"]) >= age]
    rows.sort(key=lambda row: (row["since"], row["venue"], row["symbol"], row["first_id"]))
    return [
        Hole(
            row["venue"],
            row["symbol"],
            row["first_id"],
            row["last_id"],
            _micros(row["ts_first"]),
            _micros(row["ts_last"]),
        )
        for row in rows
    ]


def _rows(settings: Settings, where: str) -> list[dict[str, Any]]:
    if not DeltaTable.is_deltatable(lake.table_uri(settings, SILVER_CONTINUITY)):
        return []
    rows: list[dict[str, Any]] = lake.sql(
        settings, f"SELECT * FROM ledger WHERE {where}", ledger=SILVER_CONTINUITY
    ).to_pylist()
    return rows


def _micros(moment: dt.datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // dt.timedelta(microseconds=1)
