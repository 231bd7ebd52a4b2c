"""Gold by UTC day, as Dagster sees it: which days exist, and for which days a table was written.

Guarantee: `written_days` reads only the table's log and scans no data. Limit: a file's time comes from its writer's
clock. If that clock is behind, a day may not be reported until it is written again; today is always reported.
"""

from __future__ import annotations

import datetime as dt

from dagster import DailyPartitionsDefinition

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Most days in one report, the newest: each is one event per table, and each event takes Dagster 20 ms. More days are
#: written only if a stream reads years again.
MOST_DAYS = 31


def gold_days(settings: Settings) -> DailyPartitionsDefinition:
    """Define the partitions of every Gold asset: UTC days from `settings.first_day` to today, today included."""
    start = dt.datetime.combine(settings.first_day, dt.time(), dt.UTC)
    return DailyPartitionsDefinition(start_date=start, timezone="UTC", end_offset=1)


def utc_today() -> dt.date:
    """Return today's date, UTC."""
    return dt.datetime.now(dt.UTC).date()


def written_days(settings: Settings, table: Table, since: float, today: dt.date) -> dict[dt.date, int]:
    """Return day → the table's number of rows, for the days to report, in order.

    These are the days for which a file was written since `since` (epoch seconds), which covers late trades and the
    minutes around midnight, and `today`, even if nothing was written for it. Days that are not partitions in Dagster
    are left out. If there are more than MOST_DAYS days, only the newest are returned.
    """
    there = table_io.days(settings, table)
    written = {day for day, files in there.items() if files.written >= since}
    told = sorted(day for day in written | {today} if settings.first_day <= day <= today)
    return {day: there[day].rows if day in there else 0 for day in told[-MOST_DAYS:]}
