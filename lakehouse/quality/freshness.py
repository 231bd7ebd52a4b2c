"""Checks of freshness: a layer must read its source's rows within two minutes while the source grows.

Dagster's freshness windows look at reports, which are minutes apart; these checks look at the data. A layer is late if
a row that it has not read came more than LATE_SECONDS ago, and its source still grows. A quiet market is not late, nor
is a lakehouse that was stopped as a whole. A stream that hangs, or that is stopped while ingest goes on, is late.
Limit: if Kafka does not answer, the number of messages that wait for Bronze is not known; the check passes and says so.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake import lag
from lakehouse.lake.batch_log import Batch, newest_batches, newest_with_rows
from lakehouse.lake.table_io import open_table
from lakehouse.quality.model import CheckResult, Evaluate, Figure, Look, always_a_verdict, count_of
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_TRADES, Table

#: Seconds that a row may wait. A batch takes seconds; a stream that died is up again within half a minute.
LATE_SECONDS = 120.0
#: How far back, before the last `LATE_SECONDS`, the source's newest batch with rows is searched. If the source was
#: quiet for longer and goes on now, its new batches are found `LATE_SECONDS` later.
SOURCE_WITHIN = timedelta(hours=1)
#: Seconds that a broker has to answer each question; a local one needs 0.05.
BROKER_SECONDS = 5.0

_MINUTES = f"{LATE_SECONDS / 60:.0f} minutes"


class _Source(NamedTuple):
    """Source of a layer: `grows`, `late` if unread rows are older than `LATE_SECONDS`, and what waits, in words."""

    grows: bool
    late: bool
    waiting: str


def fresh(table: Table) -> Evaluate:
    """Make the check of one layer by its main table: bronze/messages, silver/trades or gold/bars_1m.

    It fails if rows of the layer's source have waited for more than LATE_SECONDS and the source still grows.
    """

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:  # noqa: ARG001  (the newest batches, always)
        open_table(settings, table)
        now = datetime.now(UTC)
        batch = newest_batches(settings).get(table.layer)
        age = (now - batch.committed_at).total_seconds() if batch else None
        figures: dict[str, Figure] = {} if age is None else {"batch_age_seconds": round(age)}
        newest = "nothing written yet" if age is None else f"the newest batch is {_length(age)} old"
        try:
            source = _kafka(settings, now, batch) if table == BRONZE_MESSAGES else _below(settings, table, now, batch)
        except BrokerUnavailableError as error:
            return CheckResult(True, f"{_upper(newest)}; what waits in Kafka is not known: {error}.", figures)
        if not source.grows:
            return CheckResult(True, f"{_upper(newest)}; nothing has come for {_MINUTES}.", figures)
        if not source.late:
            return CheckResult(True, f"{_upper(newest)}; nothing has waited for {_MINUTES}.", figures)
        return CheckResult(
            False,
            f"Late: {source.waiting} wait, some for more than {_MINUTES}, and more come; {newest}.",
            figures,
        )

    return evaluate


def _kafka(settings: Settings, now: datetime, batch: Batch | None) -> _Source:
    """Look at Bronze's source, Kafka. Raises BrokerUnavailableError if it is not known or does not answer."""
    bootstrap, topics = settings.bootstrap(), settings.topics
    ends = lag.end_offsets(bootstrap, topics, BROKER_SECONDS)
    lately = lag.offsets_since(bootstrap, topics, now.timestamp() - LATE_SECONDS, BROKER_SECONDS)
    before = {
        topic: {
            place: end if lately[topic].get(place, -1) < 0 else lately[topic][place] for place, end in ends_.items()
        }
        for topic, ends_ in ends.items()
    }
    grows = any(first >= 0 for places in lately.values() for first in places.values())
    late = lag.kafka_lag(before, batch) > 0
    return _Source(grows, late, count_of(lag.kafka_lag(ends, batch), "message") if late else "")


def _below(settings: Settings, table: Table, now: datetime, batch: Batch | None) -> _Source:
    """Look at the source of Silver or Gold: the main table of the layer below, by the batches of its stream."""
    source = {SILVER_TRADES: BRONZE_MESSAGES, GOLD_BARS_1M: SILVER_TRADES}[table]
    due = now - timedelta(seconds=LATE_SECONDS)
    then = newest_with_rows(settings, source.layer, due - SOURCE_WITHIN, due)
    grows = newest_with_rows(settings, source.layer, due, now) is not None
    # A version that was read in part counts as unread.
    done = -1 if batch is None else batch.source_version if batch.whole else batch.source_version - 1
    late = then is not None and then.version_of(source.path) > done
    if not (grows and late):
        return _Source(grows, late, "")
    rows = lag.rows_behind(settings, source, batch)
    return _Source(grows, rows > 0, f"{count_of(rows, 'row')} of {source.path}")


def _length(seconds: float) -> str:
    """Write seconds as `1 second`, `59 minutes` or `3 hours`."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return count_of(round(seconds / length), unit)
    return count_of(max(0, round(seconds)), "second")


def _upper(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
