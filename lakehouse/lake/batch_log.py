"""The newest entries of ops/batches and ops/checks, found without reading the whole ledger.

Both tables grow by one small file per commit, thousands a day. The statistics in the Delta log tell which files can
hold the newest entry, so only those are read. Statistics only narrow the search: without them the result is the same.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import open_table, sql
from lakehouse.settings import Settings
from lakehouse.tables import LAYERS, OPS_BATCHES, OPS_CHECKS

#: Prefix of a `generation` in ops/batches that belongs to a rebuild instead of a checkpoint. Its batch 0 replaces all
#: earlier rows of its query, and the streams' generations go on from where it ends.
REBUILD = "rebuild-"

#: Number of the newest commits of ops/checks that are read first. A live stream records every check in one commit, so
#: one would do; the rest leaves room for checks that were run one at a time.
RECENT_COMMITS = 50

#: The SQL condition that keeps the verdicts of looks at everything, by the JSON that `quality/checks.py` writes.
_FULL_LOOK = """detail LIKE '%"recent": false%'"""


@dataclass(frozen=True)
class Batch:
    """A committed micro-batch, as ops/batches records it.

    `source_end` says how far its stream had read: next offsets by topic and partition for Kafka, the version for a
    Delta table. `versions` maps the paths of the tables to their Delta versions after the batch.
    """

    query: str
    batch_id: int
    committed_at: datetime
    source_end: dict[str, Any]
    versions: dict[str, int]

    @property
    def whole(self) -> bool:
        """True if the batch ended at the end of a source version, not inside it."""
        return self.source_end.get("complete", True) is True

    @property
    def source_version(self) -> int:
        """The newest Delta version of the source that was read; only a part of that version was read unless `whole`.

        Raises TerminalError if the row names none.
        """
        return self._integer(self.source_end, "version", "source_end")

    def version_of(self, table_path: str) -> int:
        """Return the Delta version of a table after this batch. Raises TerminalError if the batch names none."""
        return self._integer(self.versions, table_path, "versions")

    def _integer(self, values: dict[str, Any], key: str, column: str) -> int:
        value = values.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TerminalError(
                f"ops/batches, {self.query} batch {self.batch_id}: {column} is {json.dumps(values)}",
                f"a whole number under {key!r}",
            )
        return value


@dataclass(frozen=True)
class Verdict:
    """The newest verdict of a check in ops/checks. `detail` is JSON: a sentence and the figures behind it."""

    table_path: str
    check_name: str
    passed: bool
    detail: str
    evaluated_at: datetime


def standalone_run_id() -> str:
    """Return `standalone:<pid>`: the run id, in ops/batches and ops/checks, of a process that Dagster did not start."""
    return f"standalone:{os.getpid()}"


def newest_batches(settings: Settings) -> dict[str, Batch]:
    """Return query (bronze, silver, gold) → its newest batch by commit time; a query without a batch is left out.

    Raises TerminalError if the lake has no ops/batches.
    """
    return {query: batches[0] for query, batches in recent_batches(settings, 1).items()}


def recent_batches(settings: Settings, count: int) -> dict[str, list[Batch]]:
    """Return query name → its newest batches by commit time, at most `count`, the newest first.

    A query without a batch is left out. Raises TerminalError if the lake has no ops/batches.
    """
    table = open_table(settings, OPS_BATCHES)
    floors = _batch_floors(table, count)
    # So many batches were committed at their query's floor or later, so the newest are among the rows from there on.
    bounds = " OR ".join(
        f"(query = '{query}'" + (f" AND committed_at >= {_literal(floors[query])})" if query in floors else ")")
        for query in LAYERS
    )
    rows = sql(
        settings,
        f"""
        SELECT query, batch_id, committed_at, source_end, versions FROM (
            SELECT *, row_number() OVER (PARTITION BY query ORDER BY committed_at DESC, batch_id DESC) AS place
            FROM batches WHERE {bounds}
        ) WHERE place <= {count} ORDER BY place
        """,
        batches=table,
    ).to_pylist()
    found: dict[str, list[Batch]] = {}
    for row in rows:
        found.setdefault(row["query"], []).append(_batch(row))
    return found


def newest_with_rows(settings: Settings, query: str, first: datetime, last: datetime) -> Batch | None:
    """Return the newest batch of a query that was committed from `first` to `last` and added rows to its main table.

    Both times are UTC and inclusive. Returns None if there is no such batch. Batches of rebuilds are ignored, because
    their rows were there before.
    """
    rows = sql(
        settings,
        f"""
        SELECT query, batch_id, committed_at, source_end, versions FROM batches
        WHERE query = '{query}' AND rows_out > 0 AND generation NOT LIKE '{REBUILD}%'
            AND committed_at BETWEEN {_literal(first)} AND {_literal(last)}
            AND batch_date >= DATE '{first.date().isoformat()}'
        ORDER BY committed_at DESC LIMIT 1
        """,
        batches=OPS_BATCHES,
    ).to_pylist()
    return _batch(rows[0]) if rows else None


def source_start_since(settings: Settings, query: str, since: datetime) -> dict[str, Any] | None:
    """Return where the oldest of a query's batches committed at `since` (UTC) or later began to read its source.

    For Kafka: topic → partition → first offset. For Delta: version and index. Returns None if there is no such batch.
    """
    rows = sql(
        settings,
        f"""
        SELECT source_start FROM batches WHERE query = '{query}' AND committed_at >= {_literal(since)}
            AND batch_date >= DATE '{since.date().isoformat()}'
        ORDER BY committed_at, batch_id LIMIT 1
        """,
        batches=OPS_BATCHES,
    ).to_pylist()
    return json_object(rows[0]["source_start"], "source_start") if rows else None


def newest_whole_batch(settings: Settings, query: str) -> Batch | None:
    """Return the newest batch of a query that ended at the end of a source version, not inside it; None without one.

    Raises TerminalError if the lake has no ops/batches.
    """
    newest = newest_batches(settings).get(query)
    if newest is None or newest.whole:
        return newest
    rows = sql(  # seldom: only while a catch-up goes through one large version in several batches
        settings,
        f"""
        SELECT query, batch_id, committed_at, source_end, versions FROM batches
        WHERE query = '{query}' ORDER BY committed_at DESC, batch_id DESC
        """,
        batches=OPS_BATCHES,
    ).to_pylist()
    return next((batch for batch in map(_batch, rows) if batch.whole), None)


def since_rebuild(query: str, where: str = "TRUE") -> str:
    """Return the SQL condition that keeps a query's rows of ops/batches from its newest rebuild on; without one, all.

    A rebuild's row replaces the rows before it. The SQL query must register ops/batches as `batches`. `where` is a
    further condition on the rows, such as a first date: a rebuild that does not meet it must be older than all rows
    that do.
    """
    of_query = f"query = '{query}' AND {where}"
    newest = f"SELECT max(committed_at) FROM batches WHERE {of_query} AND generation LIKE '{REBUILD}%' AND batch_id = 0"
    return f"{of_query} AND committed_at >= coalesce(({newest}), TIMESTAMP '1970-01-01T00:00:00+00:00')"


def newest_verdicts(settings: Settings, expected: set[tuple[str, str]]) -> list[Verdict]:
    """Return the newest verdict of each check that has one, ordered by table and name.

    `expected` are the (table path, check name) pairs that should have a verdict: if the newest commits lack any of
    them, the whole table is read. Raises TerminalError if the lake has no ops/checks.
    """
    table = open_table(settings, OPS_CHECKS)
    floor = _check_floor(table)
    verdicts = _verdicts(settings, table, floor)
    if floor is not None and expected - {(verdict.table_path, verdict.check_name) for verdict in verdicts}:
        verdicts = _verdicts(settings, table, None)
    return verdicts


def failed_checks(settings: Settings) -> dict[tuple[str, str], bool]:
    """Return the failed checks: (table path, check name) → True if only a look at the whole table can clear it.

    A check looks at its whole table, or only at rows of today and yesterday (UTC). The value is True if its newest look
    at the whole table failed, whatever narrower looks found since, or if its newest verdict is a failure of an earlier
    day, because those two days have moved on. Only the newest RECENT_COMMITS commits of ops/checks count.
    """
    table = open_table(settings, OPS_CHECKS)
    floor, today = _check_floor(table), datetime.now(UTC).date()
    newest = [verdict for verdict in _verdicts(settings, table, floor) if not verdict.passed]
    found = {(one.table_path, one.check_name): one.evaluated_at.astimezone(UTC).date() < today for one in newest}
    full = [verdict for verdict in _verdicts(settings, table, floor, _FULL_LOOK) if not verdict.passed]
    return found | {(one.table_path, one.check_name): True for one in full}


def _batch(row: dict[str, Any]) -> Batch:
    return Batch(
        row["query"],
        row["batch_id"],
        row["committed_at"],
        json_object(row["source_end"], "source_end"),
        json_object(row["versions"], "versions"),
    )


def _verdicts(settings: Settings, table: DeltaTable, floor: datetime | None, condition: str = "TRUE") -> list[Verdict]:
    rows = sql(
        settings,
        f"""
        SELECT table_path, check_name, passed, detail, evaluated_at FROM (
            SELECT *, row_number() OVER (PARTITION BY table_path, check_name ORDER BY evaluated_at DESC) AS place
            FROM checks WHERE {condition} AND {"TRUE" if floor is None else f"evaluated_at >= {_literal(floor)}"}
        ) WHERE place = 1 ORDER BY table_path, check_name
        """,
        checks=table,
    ).to_pylist()
    return [Verdict(**row) for row in rows]


def _batch_floors(table: DeltaTable, count: int) -> dict[str, datetime]:
    """Return query name → a time at or after which it has certainly committed `count` batches."""
    files = _files(table, "min.query", "max.query", "min.committed_at")
    if files is None:
        return {}
    # Only a file of one query says anything about that query's times; a compacted file may mix them.
    alone = files.filter((pc.field("min.query") == pc.field("max.query")) & pc.field("min.committed_at").is_valid())
    floors = {}
    for query in LAYERS:
        times = alone.filter(pc.field("min.query") == query)["min.committed_at"]
        if len(times) >= count:
            floors[query] = pc.min(times.take(pc.top_k_unstable(times, count))).as_py()
    return floors


def _check_floor(table: DeltaTable) -> datetime | None:
    """Return the time of the earliest evaluation in the newest commits; None if everything is to be read."""
    files = _files(table, "min.evaluated_at")
    if files is None or files.num_rows <= RECENT_COMMITS:
        return None
    floors: list[datetime] = sorted((at for at in files["min.evaluated_at"].to_pylist() if at), reverse=True)
    return floors[RECENT_COMMITS - 1] if len(floors) >= RECENT_COMMITS else None


def _files(table: DeltaTable, *columns: str) -> pa.Table | None:
    """Return the given statistics, one row for each file; None if the log has no such statistics."""
    files = pa.table(table.get_add_actions(flatten=True))
    return files.select(list(columns)) if set(columns) <= set(files.column_names) else None


def _literal(at: datetime) -> str:
    return f"TIMESTAMP '{at.isoformat()}'"


def json_object(text: str, column: str, row: str = "ops/batches") -> dict[str, Any]:
    """Parse the text of a JSON column into a dict.

    Raises TerminalError if it is not a JSON object; the message names `row` (default: the table ops/batches) and
    `column`.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TerminalError(f"{row}: {column} is {text[:80]!r}", "a JSON object")
    return value
