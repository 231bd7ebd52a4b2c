"""The checks, listed once, and their evaluation. The same functions serve the streams, Dagster and the command line.

A verdict without rows passes and says so; a table that does not exist fails its checks (it was lost, or the lake was
never started); a lake without ops/checks cannot record anything, so `run_checks` raises there.
Guarantee: the verdicts of one `run_checks` are recorded in one commit. Gap: a crash before it records none of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lakehouse.lake import append_rows, open_table
from lakehouse.quality import bronze, silver
from lakehouse.quality.conservation import nothing_dropped, trades_conserved
from lakehouse.quality.gold import bars_consistent
from lakehouse.quality.model import Check, CheckResult
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, GOLD_BARS_5M, OPS_CHECKS, SILVER_TRADES

__all__ = ["CHECKS", "Check", "CheckResult", "run_checks"]

CHECKS: tuple[Check, ...] = (
    Check(
        name="offsets_contiguous",
        table_path=BRONZE_MESSAGES.path,
        description="Per topic and partition, every Kafka offset from the first to the last is there exactly once.",
        blocking=False,
        evaluate=bronze.offsets_contiguous,
    ),
    Check(
        name="key_unique",
        table_path=SILVER_TRADES.path,
        description="Every (venue, symbol, trade_id) is there once.",
        blocking=True,
        evaluate=silver.key_unique,
    ),
    Check(
        name="prices_and_sizes_positive",
        table_path=SILVER_TRADES.path,
        description="Every price and every size is above zero.",
        blocking=True,
        evaluate=silver.prices_and_sizes_positive,
    ),
    Check(
        name="nothing_dropped",
        table_path=SILVER_TRADES.path,
        description="In every batch, messages read = trades added + duplicates + quarantined + feed events.",
        blocking=False,
        evaluate=nothing_dropped,
    ),
    *(
        check
        for table in (GOLD_BARS_1M, GOLD_BARS_5M)
        for check in (
            Check(
                name="bars_consistent",
                table_path=table.path,
                description="low ≤ open, close, vwap ≤ high; volume = buy + sell; trades ≥ 1; pressure from −1 to 1.",
                blocking=True,
                evaluate=bars_consistent(table),
            ),
            Check(
                name="trades_conserved",
                table_path=table.path,
                description="The bars' trades add up to Silver's rows at the version that Gold last processed.",
                blocking=False,
                evaluate=trades_conserved(table),
            ),
        )
    ),
)


def run_checks(
    settings: Settings, checks: Sequence[Check] = CHECKS, recent: bool = False, run_id: str | None = None
) -> list[tuple[Check, CheckResult]]:
    """Evaluate checks and record their verdicts in ops/checks, all in one commit.

    `run_id` defaults to `standalone:<pid>`. Raises TerminalError where the lake has no ops/checks to record in.
    """
    open_table(settings, OPS_CHECKS)  # before the work, not after it
    results: list[tuple[Check, CheckResult]] = []
    rows: list[dict[str, Any]] = []
    for check in checks:
        result = check.evaluate(settings, recent)
        results.append((check, result))
        rows.append(_row(check, result, recent, run_id or f"standalone:{os.getpid()}"))
    if rows:
        append_rows(settings, OPS_CHECKS, rows)
    return results


def _row(check: Check, result: CheckResult, recent: bool, run_id: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    detail = {"sentence": result.detail, "recent": recent, "figures": result.figures}
    return {
        "table_path": check.table_path,
        "check_name": check.name,
        "evaluated_at": now,
        "passed": result.passed,
        "detail": json.dumps(detail, ensure_ascii=False),
        "run_id": run_id,
        "check_date": now.date(),
    }
