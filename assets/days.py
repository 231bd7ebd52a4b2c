"""Gold by UTC day, as Dagster sees it: which days there are, and which of them a table was written for.

Guarantee: `written_days` reads the table's log only; nothing is scanned. Gap: a file's time is its writer's clock, so
a writer behind this machine may have its day told one report late; today is always told.
"""

from __future__ import annotations

import datetime as dt

from dagster import DailyPartitionsDefinition

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Days that one report tells of at most, the newest: each is an event a table, and each event takes Dagster 20 ms.
#: More come only where a stream reads years anew.
MOST_DAYS = 31


def gold_days(settings: Settings) -> DailyPartitionsDefinition:
    """The partitions of every Gold asset: UTC days from `settings.first_day` to today, today included."""
    start = dt.datetime.combine(settings.first_day, dt.time(), dt.UTC)
    return DailyPartitionsDefinition(start_date=start, timezone="UTC", end_offset=1)


def utc_today() -> dt.date:
    """Today's date, UTC."""
    return dt.datetime.now(dt.UTC).date()


def written_days(settings: Settings, table: Table, since: float, today: dt.date) -> dict[dt.date, int]:
    """Days to tell of, in order, with the rows that the table holds for each.

    Those written since then, which covers late trades and the minutes around midnight, and today, which is as current
    as the table is. None that Dagster does not know as a partition; the newest `MOST_DAYS` of them.
    """
    there = table_io.days(settings, table)
    written = {day for day, files in there.items() if files.written >= since}
    told = sorted(day for day in written | {today} if settings.first_day <= day <= today)
    return {day: there[day].rows if day in there else 0 for day in told[-MOST_DAYS:]}
