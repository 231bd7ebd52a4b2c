"""The certificate of a market's range: which trade ids it has, which were repaired, which are missing.

A venue numbers the trades of a market without gaps (docs/venues.md), so the ids between a lowest and a highest id prove
by themselves whether a trade is missing. silver/continuity keeps them as ranges.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

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
Ids = tuple[int, int, int]


class Known(NamedTuple):
    """Times (UTC) of the first and the last trade by which the ledger knows a market; None if it knows none."""

    start: dt.datetime | None
    end: dt.datetime | None

    @classmethod
    def of(cls, ranges: list[dict[str, Any]]) -> Known:
        """Return the times from all rows of a market in the ledger."""
        present = [one for one in ranges if one["state"] == "present"]
        return cls(
            min((one["ts_first"] for one in present if one["ts_first"]), default=None),
            max((one["ts_last"] for one in present if one["ts_last"]), default=None),
        )


def certificates(settings: Settings, ranges: pa.Table, wanted: TimeRange, open_at: OpenAt | None = None) -> pa.Table:
    """Return one row (CERTIFICATE) per market of `ranges`, rows of silver/continuity at one version.

    The ids of the time range `wanted` go from the lowest to the highest id of its trades, and include each gap that may
    hold trades of that time. `expected` = `present` + `open` + `unavailable`. `repaired` counts the present ids that
    came over REST. `known_from` and `known_to` are the times of the first and last trade that the ledger knows.
    `complete` is true if no id is missing, and the range lies between these times. `open_at` None opens tables by
    `table_io.open_table`.
    """
    found: dict[MarketKey, Ids] = {}
    if wanted != TimeRange(None, None) and ranges.num_rows:
        for row in trade_ids(settings, ranges, wanted, open_at):
            found[row["venue"], row["symbol"]] = (row["first"], row["last"], row["repaired"])
    rows = [
        certificate(market, of_market, Known.of(of_market), wanted, found.get(market))
        for market, of_market in of_markets(ranges)
    ]
    return pa.Table.from_pylist(rows, CERTIFICATE)


def of_markets(ranges: pa.Table) -> Iterator[tuple[MarketKey, list[dict[str, Any]]]]:
    """Yield each market of the ledger's rows with its rows, ordered by market."""
    markets: dict[MarketKey, list[dict[str, Any]]] = {}
    for row in ranges.to_pylist():
        markets.setdefault((row["venue"], row["symbol"]), []).append(row)
    yield from sorted(markets.items())


def trade_ids(
    settings: Settings, ranges: pa.Table, wanted: TimeRange, open_at: OpenAt | None, minutes: int | None = None
) -> list[dict[str, Any]]:
    """Return a row per market, or per market and bar of `minutes`, with trades in the range `wanted`.

    Columns: venue, symbol, bar_start if `minutes` is given, `first` and `last` (lowest and highest trade id) and
    `repaired` (trades that came over REST). silver/trades is read at the version that `ranges`, at least one row,
    describe.
    """
    version = ranges.column("trades_version")[0].as_py()
    filters: list[Filter] = wanted.filters("ts_event", "event_date")
    for column in ("venue", "symbol"):
        names: list[Any] = ranges.column(column).unique().to_pylist()
        if len(names) == 1:
            filters.append((column, "=", names[0]))
    key, bar = "venue, symbol", ""
    if minutes is not None:
        key = "venue, symbol, bar_start"
        bar = f", date_bin(INTERVAL '{minutes} minutes', ts_event, TIMESTAMP '1970-01-01T00:00:00Z') AS bar_start"
    query = (
        f"SELECT {key}, min(trade_id) AS first, max(trade_id) AS last, count(*) FILTER (WHERE source = 'repair') AS "
        f"repaired FROM (SELECT venue, symbol, trade_id, source{bar} FROM trades{where(filters)}) GROUP BY {key}"
    )
    trades = (open_at or partial(table_io.open_table, settings))(SILVER_TRADES, version)
    found: list[dict[str, Any]] = table_io.sql(settings, query, trades=trades).to_pylist()
    return found


def certificate(
    market: MarketKey, ranges: list[dict[str, Any]], known: Known, wanted: TimeRange, ids: Ids | None
) -> dict[str, Any]:
    """Return the certificate (a dict by CERTIFICATE) of a market for the time range `wanted`, whose trades have `ids`.

    `ranges` are the ledger's rows that hold these ids, and the gaps that may hold trades of that time (at least one
    row); others are ignored. If `wanted` has no bounds, `ranges` must be all rows of the market. `known`: from when
    to when the ledger knows the market.
    """
    whole = wanted == TimeRange(None, None)
    gaps = [one for one in ranges if one["state"] != "present" and _may_touch(one, wanted)]
    bounds = [(one["first_id"], one["last_id"]) for one in (ranges if whole else gaps)]
    if ids is not None:
        bounds.append(ids[:2])
    first = min((one for one, _ in bounds), default=None)
    last = max((one for _, one in bounds), default=None)
    counts = {state: _overlap(ranges, state, first, last) for state in ("present", "open", "unavailable")}
    spans = _reaches(known.start, wanted.start, before=True) and _reaches(known.end, wanted.end, before=False)
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
        "known_from": known.start,
        "known_to": known.end,
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
