"""Half-open ranges of time as people write them. Pure."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple, TypeAlias

from lakehouse.client.filters import Filter
from lakehouse.errors import SettingError

#: A moment: a datetime, a date (its midnight), or ISO 8601 text such as "2026-11-30" or "2026-11-30T12:00:00+01:00".
#: Without an offset it is UTC.
Time: TypeAlias = dt.datetime | dt.date | str

_FIRST = dt.datetime.min.replace(tzinfo=dt.UTC)


class TimeRange(NamedTuple):
    """Times from `start` (inclusive) to `end` (exclusive), both in UTC; None is no limit on that side."""

    start: dt.datetime | None
    end: dt.datetime | None

    @classmethod
    def of(cls, start: Time | None, end: Time | None) -> TimeRange:
        """Return the range between two moments. Raises SettingError if one cannot be read, or end is before start."""
        found = cls(None if start is None else moment(start), None if end is None else moment(end))
        if found.start is not None and found.end is not None and found.end < found.start:
            raise SettingError(
                f"a range from {found.start.isoformat()} to {found.end.isoformat()}",
                "an end that is not before its start",
            )
        return found

    def widened(self, by: dt.timedelta) -> TimeRange:
        """Return the range with each limit that it has moved outwards by `by`."""
        return TimeRange(self.start and self.start - by, self.end and self.end + by)

    def filters(self, time: str, date: str) -> list[Filter]:
        """Return the filters of the rows in the range; `time` and `date` are their columns of time and of its UTC date.

        A table is partitioned by the date, so that a filter on it opens only the files of those days.
        """
        found: list[Filter] = []
        if self.start is not None:
            found += [(date, ">=", self.start.date()), (time, ">=", self.start)]
        if self.end is not None:
            last = self.end - dt.timedelta(microseconds=1) if self.end > _FIRST else self.end
            found += [(date, "<=", last.date()), (time, "<", self.end)]
        return found


def moment(time: Time) -> dt.datetime:
    """Return the moment in UTC. Raises SettingError if the text is not ISO 8601, or the year is out of range."""
    if isinstance(time, str):
        time = _read(time)
    if not isinstance(time, dt.datetime):
        time = dt.datetime.combine(time, dt.time())
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    try:
        return time.astimezone(dt.UTC)
    except OverflowError:
        raise SettingError(f"time {time.isoformat()}", "a year from 1 to 9999 in UTC") from None


def _read(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingError(
            f"time {text[:60]!r}", "ISO 8601 such as 2026-11-30 or 2026-11-30T12:00:00Z; UTC without an offset"
        ) from None
