"""What a check is and what it says. A check only reads; recording its verdict is `checks.run_checks`' work."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings

Figure = int | float | str

#: What came, or changed, so long before the newest of its kind is looked at once a minute, at least: what a look costs
#: depends on the rate, and not on how much there is.
RECENT = timedelta(minutes=5)


class Look(enum.Enum):
    """How much of a table a check looks at, where it can be narrowed."""

    ALL = "everything"
    DAYS = "today's and yesterday's partitions, by UTC date"
    LATELY = "what came, or was changed, in the last minutes"


@dataclass(frozen=True)
class CheckResult:
    """A verdict: one sentence for people, and the figures behind it."""

    passed: bool
    detail: str
    figures: dict[str, Figure] = field(default_factory=dict)


#: (settings, how much to look at) → verdict.
Evaluate = Callable[[Settings, Look], CheckResult]


@dataclass(frozen=True)
class Check:
    """A named rule over one table. `blocking`: what is computed from the table would be wrong where the check fails."""

    name: str
    table_path: str
    description: str
    blocking: bool
    evaluate: Evaluate


def always_a_verdict(evaluate: Evaluate) -> Evaluate:
    """Make a check that cannot look (no such table, an unreadable file, an overflow) fail, saying why.

    What could not be read is not proved, so it does not pass. Bugs of our own (TypeError and its like) still raise.
    """

    @functools.wraps(evaluate)
    def guarded(settings: Settings, look: Look) -> CheckResult:
        try:
            return evaluate(settings, look)
        except (LakehouseError, DeltaError) as error:
            return _not_evaluated(error)
        except Exception as error:
            # deltalake's DataFusion raises plain Exception for what goes wrong while a query runs.
            if type(error) is not Exception:
                raise
            return _not_evaluated(error)

    return guarded


def _not_evaluated(error: Exception) -> CheckResult:
    reason = " ".join(str(error).split())
    return CheckResult(False, f"Could not be evaluated: {reason}", {"error": type(error).__name__})


def first_recent_date(now: datetime | None = None) -> date:
    """The first of the two UTC dates, yesterday and today, that are recent."""
    return ((now or datetime.now(UTC)) - timedelta(days=1)).date()


def where_recent(column: str, look: Look) -> str:
    """The SQL condition that keeps the recent partitions, or all of them."""
    return "TRUE" if look is Look.ALL else f"{column} >= DATE '{first_recent_date().isoformat()}'"


def recent_span(settings: Settings) -> timedelta:
    """How far back a recent look goes: over two intervals of a stream's looks, so that none is left out between."""
    return max(RECENT, timedelta(seconds=2 * settings.check_seconds))


def where_arrived_lately(settings: Settings, table: DeltaTable) -> str:
    """The SQL condition that keeps the rows of the last minutes of a table with Kafka's time."""
    return f"ts_kafka >= TIMESTAMP '{recent_since(settings, table, datetime.now(UTC)).isoformat()}'"


def recent_since(settings: Settings, table: DeltaTable, at_most: datetime) -> datetime:
    """The Kafka time from which a table's rows are the last minutes', by the statistics in its log.

    `at_most` bounds the newest row's time, should a producer's clock be ahead.
    """
    return min(newest(table, "ts_kafka") or at_most, at_most) - recent_span(settings)


def where_bars(settings: Settings, look: Look, *tables: DeltaTable) -> str:
    """The SQL condition that keeps the bars to look at, in tables with a row a bar or several.

    Lately: those that start no earlier than the first one that was changed in the last minutes, in any of the tables.
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
    """The greatest time in a column, by the statistics in the table's log."""
    files = pa.table(table.get_add_actions(flatten=True))
    name = f"max.{column}"
    found: datetime | None = pc.max(files[name]).as_py() if name in files.column_names else None
    return found


def count_of(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
