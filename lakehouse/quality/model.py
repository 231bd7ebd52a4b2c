"""Types of a check and its verdict, and what the checks share. A check only reads; `checks.run_checks` records."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse.lake.table_io import sql
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.settings import Settings

#: One value in a verdict's figures, ready for JSON.
Figure = int | float | str

#: Least span of a recent look, back from the newest row. So a look costs by the rate of trades, not by the size of the
#: table.
RECENT = timedelta(minutes=5)


class Look(enum.Enum):
    """How much of a table a check is asked to look at.

    Some checks always look at everything, some always at the last minutes.
    """

    ALL = "everything"
    DAYS = "today's and yesterday's partitions, by UTC date"
    LATELY = "what came, or was changed, in the last minutes"


@dataclass(frozen=True)
class CheckResult:
    """Verdict of a check: `detail` is one sentence for people, `figures` are the numbers behind it, by name."""

    passed: bool
    detail: str
    figures: dict[str, Figure] = field(default_factory=dict)


#: (settings, how much to look at) → verdict.
Evaluate = Callable[[Settings, Look], CheckResult]


@dataclass(frozen=True)
class Check:
    """A named rule over one table. `blocking`: tables computed from this one are wrong if the check fails."""

    name: str
    table_path: str
    description: str
    blocking: bool
    evaluate: Evaluate


def always_a_verdict(evaluate: Evaluate) -> Evaluate:
    """Make a check fail, with the reason, if it cannot look (no table, an unreadable file, an overflow).

    A table that cannot be read is not proved, so it does not pass. Bugs of this code (TypeError and the like) still
    raise.
    """

    @functools.wraps(evaluate)
    def guarded(settings: Settings, look: Look) -> CheckResult:
        try:
            return evaluate(settings, look)
        except READ_ERRORS as error:
            reason = " ".join(str(error).split())
            return CheckResult(False, f"Could not be evaluated: {reason}", {"error": type(error).__name__})

    return guarded


def first_recent_date(now: datetime | None = None) -> date:
    """Return the first UTC date that a look at recent days takes: yesterday."""
    return ((now or datetime.now(UTC)) - timedelta(days=1)).date()


def where_recent(column: str, look: Look) -> str:
    """Return the SQL condition that keeps yesterday's and today's rows by a date column (UTC), or all for Look.ALL."""
    return "TRUE" if look is Look.ALL else f"{column} >= DATE '{first_recent_date().isoformat()}'"


def recent_span(settings: Settings) -> timedelta:
    """Return how far back a look at the last minutes goes: RECENT, or twice the setting check_seconds if longer.

    So no row is missed between two looks.
    """
    return max(RECENT, timedelta(seconds=2 * settings.check_seconds))


def where_arrived_lately(settings: Settings, table: DeltaTable) -> str:
    """Return the SQL condition that keeps the rows of a table that came in the last minutes, by its column ts_kafka."""
    return f"ts_kafka >= TIMESTAMP '{recent_since(settings, table, datetime.now(UTC)).isoformat()}'"


def recent_since(settings: Settings, table: DeltaTable, at_most: datetime) -> datetime:
    """Return the Kafka time from which a look at the last minutes takes a table's rows: the newest less `recent_span`.

    The newest time comes from the statistics in the log; `at_most` bounds it, in case a producer's clock is ahead.
    """
    return min(newest(table, "ts_kafka") or at_most, at_most) - recent_span(settings)


def where_bars(settings: Settings, look: Look, *tables: DeltaTable) -> str:
    """Return the SQL condition that keeps the bars to look at, in tables with one or more rows per bar.

    For Look.LATELY these start no earlier than the first bar that changed in the last minutes in any of the tables.
    """
    days = where_recent("bar_date", look)
    if look is not Look.LATELY:
        return days
    now = datetime.now(UTC)
    since = min(max(newest(table, "updated_at") or now for table in tables), now) - recent_span(settings)
    query = f"SELECT min(bar_start) AS first FROM t WHERE {days} AND updated_at >= TIMESTAMP '{since.isoformat()}'"
    first = [at for table in tables if (at := sql(settings, query, t=table)["first"][0].as_py()) is not None]
    return f"{days} AND bar_start >= TIMESTAMP '{min(first).isoformat()}'" if first else "FALSE"


def newest(table: DeltaTable, column: str) -> datetime | None:
    """Return the greatest time in a column, by the statistics in the table's log; None if there is none."""
    files = pa.table(table.get_add_actions(flatten=True))
    name = f"max.{column}"
    found: datetime | None = pc.max(files[name]).as_py() if name in files.column_names else None
    return found


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
