"""Conservation: what went into a hop is what came out of it, exact for everything that has been committed.

Both checks read ops/batches, so they hold mid-stream too: they compare tables at the versions a batch names, never
"now" with "now". They are whole by nature; `recent` narrows only what is cheap to narrow.
"""

from __future__ import annotations

from lakehouse.lake import open_table, row_count, sql
from lakehouse.ledger import newest_whole_batch
from lakehouse.quality.model import CheckResult, Evaluate, always_a_verdict, count_of, where_recent
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, SILVER_TRADES, Table


@always_a_verdict
def nothing_dropped(settings: Settings, recent: bool) -> CheckResult:
    """Every Silver batch: messages read = trades added + duplicates + quarantined + feed events.

    Each batch must balance by itself, so that a surplus here never hides a loss there. Recent only: the batches
    committed yesterday and today.
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
        FROM batches WHERE query = 'silver' AND {where_recent("batch_date", recent)}
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


def trades_conserved(table: Table) -> Evaluate:
    """Σ trades of the bars = Silver's rows at the Silver version that Gold last processed.

    Silver is counted from the statistics in its log, so only the bars are read. A batch that ended inside a version of
    Silver (a catch-up in several steps) is comparable with no version, so the newest that ended at one is taken.
    """

    @always_a_verdict
    def evaluate(settings: Settings, recent: bool) -> CheckResult:  # noqa: ARG001  (versions are whole tables)
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
