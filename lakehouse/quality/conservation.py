"""Checks of conservation: no row is lost or added on the way from Kafka's messages to the bars.

They run all the time beside the streams. They compare versions and sums that ops/batches names, and never the newest
states of two tables, so they hold while the streams write. `lakehouse.audit.conservation` proves the same once, at one
snapshot, with Kafka's own offsets and without believing a count of ops/batches.
"""

from __future__ import annotations

from lakehouse.lake.batch_log import newest_whole_batch, since_rebuild
from lakehouse.lake.table_io import open_table, row_count, sql
from lakehouse.quality.message_account import account
from lakehouse.quality.message_lineage import Versions
from lakehouse.quality.model import (
    CheckResult,
    Evaluate,
    Figure,
    Look,
    always_a_verdict,
    count_of,
    recent_since,
    where_recent,
)
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table

#: Faults that a sentence names.
_NAMED = 3


@always_a_verdict
def nothing_dropped(settings: Settings, look: Look) -> CheckResult:
    """Check that every Silver batch balances: messages read = trades added + duplicates + quarantined + feed events.

    Each batch must balance by itself, so that a surplus in one never hides a loss in another. A recent look takes the
    batches committed yesterday and today. A rebuild is one batch and replaces the batches before it.
    """
    open_table(settings, SILVER_TRADES)
    row = sql(
        settings,
        f"""
        SELECT count(*) AS batches,
               coalesce(sum(rows_in), 0) AS rows_in, coalesce(sum(rows_out), 0) AS rows_out,
               coalesce(sum(rows_duplicate), 0) AS rows_duplicate,
               coalesce(sum(rows_quarantined), 0) AS rows_quarantined,
               coalesce(sum(rows_feed_events), 0) AS rows_feed_events,
               count(*) FILTER (WHERE rows_in <> rows_out + rows_duplicate + rows_quarantined + rows_feed_events)
                   AS unbalanced_batches
        FROM batches WHERE {since_rebuild("silver", where_recent("batch_date", look))}
        """,
        batches=OPS_BATCHES,
    ).to_pylist()[0]
    parts = ("rows_out", "rows_duplicate", "rows_quarantined", "rows_feed_events")
    row["unaccounted"] = row["rows_in"] - sum(row[part] for part in parts)
    if row["unbalanced_batches"]:
        return CheckResult(
            False,
            f"Batches that do not balance: {row['unbalanced_batches']:,} of {row['batches']:,}; "
            f"{row['unaccounted']:,} of {count_of(row['rows_in'], 'message')} unaccounted for.",
            row,
        )
    return CheckResult(
        True,
        f"{count_of(row['rows_in'], 'message')} read = {row['rows_out']:,} trades "
        f"+ {row['rows_duplicate']:,} duplicates + {row['rows_quarantined']:,} quarantined "
        f"+ {row['rows_feed_events']:,} feed events.",
        row,
    )


@always_a_verdict
def conserved_by_lineage(settings: Settings, look: Look) -> CheckResult:
    """Check that every message of Bronze is in one of Silver's tables, or a duplicate of a trade that Silver has.

    Only rows of the tables count; ops/batches only says which versions belong together. A recent look takes the
    messages of the last minutes before the newest batch.
    """
    open_table(settings, SILVER_TRADES)
    silver = newest_whole_batch(settings, "silver")
    if silver is None:
        return CheckResult(True, "Nothing written yet: 0 messages of Bronze read whole.", {"messages": 0})
    versions = Versions(
        silver.source_version,
        silver.version_of(SILVER_TRADES.path),
        silver.version_of(SILVER_QUARANTINE.path),
        silver.version_of(SILVER_FEED_EVENTS.path),
    )
    since = None
    if look is not Look.ALL:
        since = recent_since(settings, open_table(settings, BRONZE_MESSAGES, versions.bronze), silver.committed_at)
    accounts = account(settings, versions, since)
    figures: dict[str, Figure] = {
        "messages": sum(one.lineage.offsets.count() for one in accounts),
        "trades": sum(one.lineage.trades for one in accounts),
        "duplicates": sum(one.duplicates.proved for one in accounts),
        "quarantined": sum(one.lineage.quarantined for one in accounts),
        "feed_events": sum(one.lineage.feed_events for one in accounts),
        "unaccounted": sum(one.duplicates.unaccounted.count() for one in accounts),
        "partitions": len(accounts),
        "bronze_version": versions.bronze,
        "silver_version": versions.trades,
    }
    faults = [fault for one in accounts for fault in one.faults()]
    if faults:
        return CheckResult(False, f"{'; '.join(faults[:_NAMED])}.", figures)
    return CheckResult(
        True,
        f"{count_of(sum(one.lineage.offsets.count() for one in accounts), 'message')} in "
        f"{count_of(len(accounts), 'Kafka partition')} = {figures['trades']:,} trades + {figures['duplicates']:,} "
        f"proved duplicates + {figures['quarantined']:,} quarantined + {figures['feed_events']:,} feed events.",
        figures,
    )


def trades_conserved(table: Table) -> Evaluate:
    """Make the check that a table's bars hold as many trades as silver/trades had rows when Gold last processed it.

    Silver is counted from the statistics in its log, so only the bars are read. A batch that ended inside a version of
    Silver (a catch-up in several steps) cannot be compared, so the newest batch that ended at a whole version is taken.
    """

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:  # noqa: ARG001  (versions are whole tables)
        open_table(settings, table)
        gold = newest_whole_batch(settings, "gold")
        if gold is None:
            return CheckResult(
                True, "Nothing written yet: no gold batch has ended at a version of Silver.", {"bars": 0, "trades": 0}
            )
        bars_version, silver_version = gold.version_of(table.path), gold.source_version
        row = sql(
            settings,
            "SELECT count(*) AS bars, coalesce(sum(trades), 0) AS trades FROM bars",
            bars=open_table(settings, table, bars_version),
        ).to_pylist()[0]
        silver_rows = row_count(open_table(settings, SILVER_TRADES, silver_version))
        figures = {
            **row,
            "silver_rows": silver_rows,
            "difference": row["trades"] - silver_rows,
            "bars_version": bars_version,
            "silver_version": silver_version,
        }
        if row["trades"] == silver_rows:
            detail = f"{count_of(row['bars'], 'bar')} hold {count_of(row['trades'], 'trade')}, all of Silver"
        else:
            detail = (
                f"{count_of(row['bars'], 'bar')} hold {count_of(row['trades'], 'trade')}, "
                f"Silver has {silver_rows:,}: a difference of {figures['difference']:+,}"
            )
        return CheckResult(row["trades"] == silver_rows, f"{detail} at version {silver_version}.", figures)

    return evaluate
