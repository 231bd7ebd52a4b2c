"""Open messages of silver/quarantine: those that no replay has settled. No JVM.

A quarantined message is open until `lakehouse replay` has put its position into ops/replays: sent, noise or dismissed.
Its row in silver/quarantine stays, so that the counts in ops/batches stay true.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.errors import SettingError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import OPS_REPLAYS, SILVER_QUARANTINE

#: Least rows of a table that `open_messages` yields, the last one excepted; a query gives up to 8,192 a time. The raw
#: value of a message has 1 KB as a rule.
BATCH_ROWS = 1_000

_SAME_MESSAGE = " AND ".join(f"r.{name} = q.{name}" for name in SILVER_QUARANTINE.key)


def open_quarantine(settings: Settings) -> dict[str, int]:
    """Return rule → number of open messages that failed it, the largest number first; empty if there is no lake."""
    query = "SELECT q.rule AS rule, count(*) AS n FROM {open} GROUP BY q.rule ORDER BY n DESC, rule"
    rows = [row for batch in _batches(settings, query) for row in batch.to_pylist()]
    return {row["rule"]: int(row["n"]) for row in rows}


def quarantined_rules(settings: Settings) -> list[str]:
    """Return the names of all rules that a message in quarantine has failed, in order; settled messages count too."""
    batches = _batches(settings, "SELECT DISTINCT rule FROM quarantine ORDER BY rule")
    return [row["rule"] for batch in batches for row in batch.to_pylist()]


def require_rule(settings: Settings, rule: str) -> None:
    """Raise SettingError if no message has ever failed this rule; the message lists the rules that there are."""
    if rule not in (known := quarantined_rules(settings)):
        expected = f"one of {', '.join(known)}" if known else "a rule, but nothing has ever been quarantined here"
        raise SettingError(f"no quarantined message has failed the rule {rule!r}", expected)


def open_messages(
    settings: Settings, rule: str | None = None, without: tuple[str, ...] = (), venue: str | None = None
) -> Iterator[pa.Table]:
    """Yield the open rows of silver/quarantine, in tables of BATCH_ROWS rows or more; the last may have fewer.

    `rule`: only messages that failed this rule; if None, those of all rules but `without`. `venue`: only messages in
    which this venue could be read. All rows come from the tables' versions at the first row, so a message that is
    settled in the meantime does not shift them.
    """
    where = "TRUE"
    if rule is not None:
        where = f"q.rule = {_literal(rule)}"
    elif without:
        where = f"q.rule NOT IN ({', '.join(map(_literal, without))})"
    if venue is not None:
        where += f" AND q.venue = {_literal(venue)}"
    columns = ", ".join(f"q.{name} AS {name}" for name in SILVER_QUARANTINE.column_names)
    kept: list[pa.RecordBatch] = []
    # A batch may be as small as a file, and a file of quarantine often has one row.
    for batch in _batches(settings, f"SELECT {columns} FROM {{open}} WHERE {where}"):
        kept.append(batch)
        if sum(one.num_rows for one in kept) >= BATCH_ROWS:
            yield _table(kept)
            kept = []
    if any(one.num_rows for one in kept):
        yield _table(kept)


def _table(batches: list[pa.RecordBatch]) -> pa.Table:
    """Join batches to one table, in the order of the messages."""
    table = pa.Table.from_batches(batches).cast(table_io.arrow_schema(SILVER_QUARANTINE))
    return table.sort_by([(name, "ascending") for name in SILVER_QUARANTINE.key])


def _batches(settings: Settings, query: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a query, read as they are asked for. `{open}` in it stands for the open rows, as `q`."""
    there = {
        table.name: table
        for table in (SILVER_QUARANTINE, OPS_REPLAYS)
        if DeltaTable.is_deltatable(table_io.table_uri(settings, table))
    }
    if SILVER_QUARANTINE.name not in there:
        return
    # A lake from before ops/replays has settled nothing.
    anti_join = f"LEFT ANTI JOIN replays r ON {_SAME_MESSAGE}" if OPS_REPLAYS.name in there else ""
    yield from table_io.sql_batches(settings, query.replace("{open}", f"quarantine q {anti_join}"), **there)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
