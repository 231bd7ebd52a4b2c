"""Few time ranges for many windows, and the filter with which DataFusion skips the files of all other times."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lakehouse.transforms.arrow_numpy import Integers, Mask

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: Most ranges in a filter; beyond that, the nearest are joined.
MAX_RANGES = 50


@dataclass(frozen=True)
class TimeRange:
    """Event times, start inclusive, end exclusive."""

    start: dt.datetime
    end: dt.datetime


def time_ranges(
    windows: Iterable[dt.datetime], length: dt.timedelta, slack: dt.timedelta = dt.timedelta(0)
) -> list[TimeRange]:
    """Cover windows of time, given by their starts and one `length`, by at most MAX_RANGES ascending ranges.

    Windows that touch are joined; if too many ranges are left, also those with the smallest gaps between them. Each
    range is widened by `slack` on both sides.
    """
    ranges: list[TimeRange] = []
    for start in sorted(window.astimezone(dt.UTC) for window in windows):
        if ranges and start - slack <= ranges[-1].end:
            ranges[-1] = TimeRange(ranges[-1].start, start + length + slack)
        else:
            ranges.append(TimeRange(start - slack, start + length + slack))
    if len(ranges) <= MAX_RANGES:
        return ranges
    by_gap = sorted(range(1, len(ranges)), key=lambda i: ranges[i].start - ranges[i - 1].end, reverse=True)
    cuts = sorted(by_gap[: MAX_RANGES - 1])
    bounds = [0, *cuts, len(ranges)]
    return [TimeRange(ranges[a].start, ranges[b - 1].end) for a, b in itertools.pairwise(bounds)]


def ranges_around(starts: Integers, length: dt.timedelta, slack: dt.timedelta) -> list[TimeRange]:
    """Return `time_ranges` of windows that are given by their starts in microseconds since the epoch."""
    different = np.unique(starts).tolist()
    return time_ranges((_EPOCH + dt.timedelta(microseconds=start) for start in different), length, slack)


def within(ranges: Sequence[TimeRange], times: Integers) -> Mask:
    """Return a mask of the times, in microseconds since the epoch, that lie in one of some ascending ranges."""
    if not ranges:
        return np.zeros(len(times), np.bool_)
    bounds = micros_of(ranges)
    place = np.searchsorted(bounds[:, 0], times, "right") - 1
    found: Mask = (place >= 0) & (times < bounds[np.maximum(place, 0), 1])
    return found


def micros_of(ranges: Sequence[TimeRange]) -> Integers:
    """Return start and end of each range in microseconds since the epoch, as an array of two columns."""
    return np.array([(_micros(one.start), _micros(one.end)) for one in ranges], np.int64).reshape(-1, 2)


def sql_in_ranges(ranges: Sequence[TimeRange], day: str = "event_date", time: str = "ts_event") -> str:
    """Write DataFusion's condition that a row of a table with these columns lies in one of the ranges.

    By the date it skips whole partitions. `false` if there is no range.
    """
    return (
        " OR ".join(
            f"({day} BETWEEN DATE '{one.start.date()}' AND DATE '{one.end.date()}' "
            f"AND {time} >= {literal(one.start)} AND {time} < {literal(one.end)})"
            for one in ranges
        )
        or "false"
    )


def literal(at: dt.datetime) -> str:
    """Return a time as a constant of DataFusion's SQL, of the type of the tables' timestamps (microseconds, UTC).

    So DataFusion can compare it with the statistics of files, and skip some.
    """
    return f"""arrow_cast({_micros(at)}, 'Timestamp(Microsecond, Some("UTC"))')"""


def _micros(at: dt.datetime) -> int:
    return (at - _EPOCH) // dt.timedelta(microseconds=1)
