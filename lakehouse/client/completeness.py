"""The certificate of a market's range: which trade ids it has, which were repaired, which are missing.

A venue numbers the trades of a market without gaps (docs/venues.md), so the ids between a lowest and a highest prove by
themselves whether a trade is missing. silver/continuity keeps them as ranges.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import partial
from typing import Any

import pyarrow as pa

from lakehouse.client.filters import Filter, where
from lakehouse.client.scan import OpenAt
from lakehouse.client.time_range import TimeRange
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES

_FIELDS: dict[str, Any] = {
    **dict.fromkeys(("venue", "symbol"), pa.string()),
    "complete": pa.bool_(),
    **dict.fromkeys(("expected", "present", "repaired", "open", "unavailable"), pa.int64()),
    **dict.fromkeys(("first_trade_id", "last_trade_id"), pa.int64()),
    **dict.fromkeys(("known_from", "known_to"), pa.timestamp("us", tz="UTC")),
    "trades_version": pa.int64(),
}
#: Columns of a certificate that are null if the range has no ids, or the ledger no trade.
_NULLABLE = ("first_trade_id", "last_trade_id", "known_from", "known_to")

#: Columns of a certificate; one row per market.
CERTIFICATE = pa.schema([pa.field(name, kind, name in _NULLABLE) for name, kind in _FIELDS.items()])

#: Lowest id, highest id, and trades that came over REST.
_Ids = tuple[int, int, int]


def certificates(settings: Settings, ranges: pa.Table, wanted: TimeRange, open_at: OpenAt | None = None) -> pa.Table:
    """Return one row (CERTIFICATE) per market of `ranges`, rows of silver/continuity at one version.

    The ids of a range of time go from the lowest to the highest id of its trades, and take in each gap that may hold
    trades of that time. `expected` = `present` + `open` + `unavailable`. `repaired` counts the present ids that came
    over REST. `complete` is true if no id is missing and the ledger knows trades from before the range to behind it:
    from `known_from` to `known_to`.
    """
    markets: dict[MarketKey, list[dict[str, Any]]] = {}
    for row in ranges.to_pylist():
        markets.setdefault((row["venue"], row["symbol"]), []).append(row)
    whole = wanted == TimeRange(None, None)
    found = (
        {}
        if whole or not markets
        else _ids(settings, ranges, wanted, open_at or partial(table_io.open_table, settings))
    )
    rows = [
        _certificate(market, of_market, wanted, None if whole else found.get(market))
        for market, of_market in sorted(markets.items())
    ]
    return pa.Table.from_pylist(rows, CERTIFICATE)


def _ids(settings: Settings, ranges: pa.Table, wanted: TimeRange, open_at: OpenAt) -> dict[MarketKey, _Ids]:
    """Return the ids of each market's trades in a range of time, in the version of silver/trades of the ledger."""
    version = ranges.column("trades_version")[0].as_py()
    filters: list[Filter] = wanted.filters("ts_event", "event_date")
    for column in ("venue", "symbol"):
        names: list[Any] = ranges.column(column).unique().to_pylist()
        if len(names) == 1:
            filters.append((column, "=", names[0]))
    rows = table_io.sql(
        settings,
        "SELECT venue, symbol, min(trade_id) AS first, max(trade_id) AS last, "
        f"count(*) FILTER (WHERE source = 'repair') AS repaired FROM trades{where(filters)} GROUP BY venue, symbol",
        trades=open_at(SILVER_TRADES, version),
    )
    return {(row["venue"], row["symbol"]): (row["first"], row["last"], row["repaired"]) for row in rows.to_pylist()}


def _certificate(
    market: MarketKey, ranges: list[dict[str, Any]], wanted: TimeRange, ids: _Ids | None
) -> dict[str, Any]:
    whole = wanted == TimeRange(None, None)
    gaps = [one for one in ranges if one["state"] != "present" and _may_touch(one, wanted)]
    bounds = [(one["first_id"], one["last_id"]) for one in (ranges if whole else gaps)]
    if ids is not None:
        bounds.append(ids[:2])
    first = min((one for one, _ in bounds), default=None)
    last = max((one for _, one in bounds), default=None)
    counts = {state: _overlap(ranges, state, first, last) for state in ("present", "open", "unavailable")}
    known_from = min((one["ts_first"] for one in ranges if one["state"] == "present" and one["ts_first"]), default=None)
    known_to = max((one["ts_last"] for one in ranges if one["state"] == "present" and one["ts_last"]), default=None)
    spans = _reaches(known_from, wanted.start, before=True) and _reaches(known_to, wanted.end, before=False)
    repaired = sum(one["repaired"] for one in ranges) if whole else (ids[2] if ids else 0)
    return {
        "venue": market[0],
        "symbol": market[1],
        "complete": spans and not counts["open"] and not counts["unavailable"],
        "expected": sum(counts.values()),
        **counts,
        "repaired": repaired,
        "first_trade_id": first,
        "last_trade_id": last,
        "known_from": known_from,
        "known_to": known_to,
        "trades_version": ranges[0]["trades_version"],
    }


def _may_touch(gap: dict[str, Any], wanted: TimeRange) -> bool:
    """Return whether a gap may hold trades of a range: it lies between the trades before and behind it."""
    starts_late = gap["ts_first"] is not None and wanted.end is not None and gap["ts_first"] >= wanted.end
    ends_early = gap["ts_last"] is not None and wanted.start is not None and gap["ts_last"] < wanted.start
    return not starts_late and not ends_early


def _reaches(known: dt.datetime | None, limit: dt.datetime | None, before: bool) -> bool:
    if known is None:
        return False
    return limit is None or (known <= limit if before else known >= limit)


def _overlap(ranges: Iterable[dict[str, Any]], state: str, first: int | None, last: int | None) -> int:
    if first is None or last is None:
        return 0
    parts = (min(last, one["last_id"]) - max(first, one["first_id"]) + 1 for one in ranges if one["state"] == state)
    return sum(part for part in parts if part > 0)
