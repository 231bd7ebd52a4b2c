"""Check indicators, moves and spreads against their one-minute bars, at the versions of one batch."""

from __future__ import annotations

from deltalake import DeltaTable

from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.table_io import open_table, sql
from lakehouse.quality.model import CheckResult, Evaluate, Look, always_a_verdict, count_of, where_bars
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, Table
from lakehouse.transforms.derived import Comparison


def follows_bars(table: Table, comparison: Comparison) -> Evaluate:
    """Make the check that the rows of indicators, moves or spreads follow from their one-minute bars.

    Each row must have the prices of its bars, and no row may be missing that `comparison` expects.
    """

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:
        bars, derived = _at_one_batch(settings, table)
        query = comparison.query.format(recent=where_bars(settings, look, bars, derived))
        row = sql(settings, query, bars=bars, derived=derived).to_pylist()[0]
        if row["wrong"]:
            return CheckResult(
                False,
                f"{row['wrong']:,} of {count_of(row['expected'], 'row')} not equal to what the one-minute bars give.",
                row,
            )
        return CheckResult(True, f"Equal to what the one-minute bars give: {count_of(row['expected'], 'row')}.", row)

    return evaluate


def _at_one_batch(settings: Settings, table: Table) -> tuple[DeltaTable, DeltaTable]:
    """Open the bars and the table at the versions of Gold's newest batch; at their newest if it names none."""
    gold = newest_batches(settings).get("gold")
    if gold is None or table.path not in gold.versions:
        return open_table(settings, GOLD_BARS_1M), open_table(settings, table)
    versions = (gold.version_of(one.path) for one in (GOLD_BARS_1M, table))
    bars, derived = (open_table(settings, one, at) for one, at in zip((GOLD_BARS_1M, table), versions, strict=True))
    return bars, derived
