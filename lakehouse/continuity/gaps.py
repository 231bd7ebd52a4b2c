"""Read silver/continuity: the newest id of each (venue, symbol), and the gaps to repair. No JVM.

The Silver stream writes the ledger; this module only reads it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable

from lakehouse.continuity.tries import SET_BACK_SECONDS
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY

#: A venue that lacked some ids is asked for them again so many seconds after its first answer: venues publish skipped
#: rows minutes later, seldom after an hour (docs/venues.md, "REST lags"). Later they are asked for on demand only.
AGAIN_SECONDS = (300.0, 3600.0)
#: Most unavailable ranges in one repair: a quarter of Kraken's budget is a request in four seconds, and each range
#: needs one at least. The others come in the next repair, because their last try is longer ago.
MOST_AGAIN = 500

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Mark:
    """The trade with the highest id of a (venue, symbol) in Silver; `ts_event` is µs since the epoch or None."""

    trade_id: int
    ts_event: int | None = None


@dataclass(frozen=True)
class LedgerGap:
    """A gap in the ledger: trade ids, inclusive, that exist at the venue but are not in Silver.

    `ts_before` and `ts_after` are the event times (µs since the epoch) of the trades before and after it, None if
    unknown; Kraken's history is requested by time. `tries` counts the venue's answers without these ids: 0 for an open
    gap.
    """

    venue: str
    symbol: str
    first_id: int
    last_id: int
    ts_before: int | None = None
    ts_after: int | None = None
    tries: int = 0

    def __len__(self) -> int:
        return self.last_id - self.first_id + 1


def marks(settings: Settings) -> dict[MarketKey, Mark]:
    """Read (venue, symbol) → the trade with the highest id in Silver. Empty if there is no lake yet."""
    rows = _rows(settings, "state = 'present'")
    found: dict[MarketKey, Mark] = {}
    for row in rows:
        key = row["venue"], row["symbol"]
        if key not in found or row["last_id"] > found[key].trade_id:
            found[key] = Mark(row["last_id"], _micros(row["ts_last"]))
    return found


def open_gaps(settings: Settings, older_than_seconds: float = 0.0) -> list[LedgerGap]:
    """Read the open gaps that have been in the ledger for `older_than_seconds` or longer, the oldest first.

    A gap whose `since` lies as far in the future is returned, too: the clock was set back, and its true age is not
    known. Empty if there is no lake.
    """
    now, age = dt.datetime.now(dt.UTC), dt.timedelta(seconds=older_than_seconds)
    rows = [row for row in _rows(settings, "state = 'open'") if abs(now - row["since"]) >= age]
    rows.sort(key=lambda row: (row["since"], row["venue"], row["symbol"], row["first_id"]))
    return [_gap(row) for row in rows]


def unavailable_gaps(settings: Settings, tried_before: dt.datetime | None = None) -> list[LedgerGap]:
    """Read the unavailable ranges: ids that the venue lacked in its answers, ordered by last try, the oldest first.

    With `tried_before` only ranges whose last try was before that time. Empty if there is no lake.
    """
    rows = [row for row in _unavailable(settings) if tried_before is None or row["last_try"] < tried_before]
    return [_gap(row) for row in rows]


def due_again(settings: Settings, now: dt.datetime | None = None) -> list[LedgerGap]:
    """Read the unavailable ranges that should be asked for again at `now`, ordered by last try, the oldest first.

    A range is due if one of AGAIN_SECONDS has passed since the first answer, and it has not been tried since. It is
    also due if its first answer lies SET_BACK_SECONDS or more in the future: the clock was set back, and its true age
    is not known. Empty if there is no lake. `now` defaults to the present.
    """
    now = now or dt.datetime.now(dt.UTC)
    times = [dt.timedelta(seconds=seconds) for seconds in AGAIN_SECONDS]
    set_back = dt.timedelta(seconds=SET_BACK_SECONDS)
    return [
        _gap(row)
        for row in _unavailable(settings)
        if row["since"] - now >= set_back or any(row["last_try"] < row["since"] + time <= now for time in times)
    ]


def gaps_to_repair(
    settings: Settings, older_than_seconds: float = 0.0, all_unavailable: bool = False
) -> list[LedgerGap]:
    """Read the gaps that a repair should fetch: the open ones, then at most MOST_AGAIN unavailable ranges.

    Open gaps must have been open for `older_than_seconds`. Unavailable ranges must be due (`due_again`) unless
    `all_unavailable` is true.
    """
    again = unavailable_gaps(settings) if all_unavailable else due_again(settings)
    return [*open_gaps(settings, older_than_seconds), *again[:MOST_AGAIN]]


def _unavailable(settings: Settings) -> list[dict[str, Any]]:
    """Rows with `tries` and `last_try`, also of a ledger of before tries were counted."""
    rows = [
        row | {"tries": row.get("tries") or 1, "last_try": row.get("last_try") or row["since"]}
        for row in _rows(settings, "state = 'unavailable'")
    ]
    return sorted(rows, key=lambda row: (row["last_try"], row["venue"], row["symbol"], row["first_id"]))


def _gap(row: dict[str, Any]) -> LedgerGap:
    ends = _micros(row["ts_first"]), _micros(row["ts_last"])
    tries = row["tries"] if row["state"] == "unavailable" else 0
    return LedgerGap(row["venue"], row["symbol"], row["first_id"], row["last_id"], *ends, tries)


def _rows(settings: Settings, where: str) -> list[dict[str, Any]]:
    if not DeltaTable.is_deltatable(table_io.table_uri(settings, SILVER_CONTINUITY)):
        return []
    rows: list[dict[str, Any]] = table_io.sql(
        settings, f"SELECT * FROM ledger WHERE {where}", ledger=SILVER_CONTINUITY
    ).to_pylist()
    return rows


def _micros(moment: dt.datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // dt.timedelta(microseconds=1)
