"""What is in quarantine at the snapshot, by rule, and how much of it no replay has settled."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.lake.table_io import open_table, sql
from lakehouse.settings import Settings
from lakehouse.tables import OPS_REPLAYS, SILVER_QUARANTINE


@dataclass(frozen=True)
class RuleCount:
    """Messages that failed one rule, and those of them that are open."""

    rule: str
    messages: int
    open: int


def count_rules(settings: Settings, version: int) -> list[RuleCount]:
    """The rules that messages have failed, the most frequent first. Replays are counted as they are now."""
    same = " AND ".join(f"r.{name} = q.{name}" for name in SILVER_QUARANTINE.key)
    rows = sql(
        settings,
        f"""
        SELECT q.rule AS rule, count(*) AS messages, count(*) FILTER (WHERE r.kafka_offset IS NULL) AS open
        FROM quarantine q LEFT JOIN (SELECT DISTINCT {", ".join(SILVER_QUARANTINE.key)} FROM replays) r ON {same}
        GROUP BY q.rule ORDER BY messages DESC, rule
        """,
        quarantine=open_table(settings, SILVER_QUARANTINE, version),
        replays=OPS_REPLAYS,
    ).to_pylist()
    return [RuleCount(**row) for row in rows]
