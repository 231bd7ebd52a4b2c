"""What a check is and what it says. A check only reads; recording its verdict is `checks.run_checks`' work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings

Figure = int | float | str

#: Checks of messages and trades look, where only the recent ones are asked for, at those that reached Kafka so long
#: before the newest message, at least: what a look costs depends on the rate, and not on how much there is.
RECENT_MESSAGES = timedelta(minutes=5)


@dataclass(frozen=True)
class CheckResult:
    """A verdict: one sentence for people, and the figures behind it."""

    passed: bool
    detail: str
    figures: dict[str, Figure] = field(default_factory=dict)


#: (settings, recent only) → verdict. Recent only: messages and trades of the last minutes; of what is made of them,
#: today's and yesterday's partitions, by UTC date.
Evaluate = Callable[[Settings, bool], CheckResult]


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
    def guarded(settings: Settings, recent: bool) -> CheckResult:
        try:
            return evaluate(settings, recent)
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
    """The first of the two UTC dates, yesterday and today, that `recent` looks at."""
    return ((now or datetime.now(UTC)) - timedelta(days=1)).date()


def where_recent(column: str, recent: bool) -> str:
    """The SQL condition that keeps the recent partitions, or all of them."""
    return f"{column} >= DATE '{first_recent_date().isoformat()}'" if recent else "TRUE"


def recent_span(settings: Settings) -> timedelta:
    """How far back a recent look goes: over two intervals of a stream's reports, so that none is left out between."""
    return max(RECENT_MESSAGES, timedelta(seconds=2 * settings.report_seconds))


def where_arrived_lately(settings: Settings, table: DeltaTable) -> str:
    """The SQL condition that keeps the rows of the last minutes of a table with Kafka's time."""
    return f"ts_kafka >= TIMESTAMP '{recent_since(settings, table, datetime.now(UTC)).isoformat()}'"


def recent_since(settings: Settings, table: DeltaTable, at_most: datetime) -> datetime:
    """The Kafka time from which a table's rows are the last minutes', by the statistics in its log.

    `at_most` bounds the newest row's time, should a producer's clock be ahead.
    """
    files = pa.table(table.get_add_actions(flatten=True))
    newest = pc.max(files["max.ts_kafka"]).as_py() if "max.ts_kafka" in files.column_names else None
    return min(newest or at_most, at_most) - recent_span(settings)


def count_of(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
