"""The certificate of each bar of a range, from one read of the trades instead of one for each bar."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.client.completeness import CERTIFICATE, Ids, Known, certificate, of_markets, trade_ids
from lakehouse.client.scan import OpenAt
from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_ALWAYS = 1 << 62

#: Columns of a bar's certificate; one row per market and bar.
BAR_CERTIFICATE = CERTIFICATE.insert(2, pa.field("bar_start", pa.timestamp("us", tz="UTC"), nullable=False))


def bar_certificates(
    settings: Settings, ranges: pa.Table, wanted: TimeRange, minutes: int, open_at: OpenAt | None = None
) -> pa.Table:
    """Return one row (BAR_CERTIFICATE) per market and bar of `minutes` that starts in the range `wanted`.

    `ranges` are rows of silver/continuity at one version. Each row is the certificate of the bar's time (see
    `completeness.certificates`). Bars without trades are left out unless a gap may lie in them. `open_at` None opens
    tables by `table_io.open_table`. Raises SettingError for a range without a start.
    """
    if wanted.start is None:
        raise SettingError("certificates of bars without a start", "the time from which on")
    length = dt.timedelta(minutes=minutes)
    first = _window(wanted.start + length - _MICROSECOND, length)
    end = wanted.end and _window(wanted.end + length - _MICROSECOND, length)  # the last bar reaches beyond the range
    found: dict[MarketKey, dict[dt.datetime, Ids]] = {}
    if ranges.num_rows:
        for row in trade_ids(settings, ranges, TimeRange(first, end), open_at, minutes):
            bars = found.setdefault((row["venue"], row["symbol"]), {})
            bars[row["bar_start"]] = (row["first"], row["last"], row["repaired"])
    rows = [
        {**row, "bar_start": start}
        for market, of_market in of_markets(ranges)
        for start, row in _of_market(market, of_market, TimeRange(first, end), length, found.get(market, {}))
    ]
    return pa.Table.from_pylist(rows, BAR_CERTIFICATE)


def _of_market(
    market: MarketKey,
    ranges: list[dict[str, Any]],
    wanted: TimeRange,
    length: dt.timedelta,
    ids: dict[dt.datetime, Ids],
) -> list[tuple[dt.datetime, dict[str, Any]]]:
    known = Known.of(ranges)
    ledger = _Ledger(ranges)
    starts = {*ids, *ledger.bars_of_gaps(TimeRange(wanted.start, wanted.end or known.end), length)}
    return [
        (start, certificate(market, ledger.near(bar, ids.get(start)), known, bar, ids.get(start)))
        for start in sorted(starts)
        for bar in (TimeRange(start, start + length),)
    ]


class _Ledger:
    """The ranges of a market, in the order of ids, to be searched by time and by id."""

    def __init__(self, ranges: list[dict[str, Any]]) -> None:
        self._ranges = sorted(ranges, key=lambda one: int(one["first_id"]))
        self._first_ids = np.array([one["first_id"] for one in self._ranges], np.int64)
        gaps = [(at, one) for at, one in enumerate(self._ranges) if one["state"] != "present"]
        self._gaps = [one for _, one in gaps]
        self._places = np.array([at for at, _ in gaps], np.int64)
        self._from = np.array([_micros(one["ts_first"], -_ALWAYS) for one in self._gaps], np.int64)
        self._to = np.array([_micros(one["ts_last"], _ALWAYS) for one in self._gaps], np.int64)

    def near(self, bar: TimeRange, ids: Ids | None) -> list[dict[str, Any]]:
        """Return the ranges that hold the ids of a bar, and those of the gaps that may hold trades of it."""
        touching = (self._from < _micros(bar.end, 0)) & (self._to >= _micros(bar.start, 0))
        places = self._places[touching].tolist()
        if ids is not None:
            places += (np.searchsorted(self._first_ids, ids[:2], side="right") - 1).tolist()
        return self._ranges[max(0, min(places)) : max(places) + 1] if places else []

    def bars_of_gaps(self, wanted: TimeRange, length: dt.timedelta) -> set[dt.datetime]:
        """Return the starts of the bars of a range in which a gap may hold trades."""
        found: set[dt.datetime] = set()
        for gap in self._gaps:
            begin = max(
                filter(None, (gap["ts_first"] and _window(gap["ts_first"], length), wanted.start)), default=None
            )
            last = min(filter(None, (gap["ts_last"], wanted.end and wanted.end - _MICROSECOND)), default=None)
            while begin is not None and last is not None and begin <= last:
                found.add(begin)
                begin += length
        return found


def _window(time: dt.datetime, length: dt.timedelta) -> dt.datetime:
    """Return the start of the bar that a time lies in."""
    return time - (time - _EPOCH) % length


def _micros(time: dt.datetime | None, otherwise: int) -> int:
    return otherwise if time is None else (time - _EPOCH) // _MICROSECOND
