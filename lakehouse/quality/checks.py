"""List of all checks, and their evaluation for the streams, Dagster and the command line.

A check that finds no rows passes and says so. A table that does not exist fails its checks (it was lost, or the lake
was never started). A lake without ops/checks cannot record anything, so `run_checks` raises.
Guarantee: the verdicts of one `run_checks` are recorded in one commit. Limit: a crash before that records none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lakehouse.lake.batch_log import failed_checks, standalone_run_id
from lakehouse.lake.table_io import active_tables, append_rows, open_table
from lakehouse.quality import bronze, silver
from lakehouse.quality.clock import clock_agrees
from lakehouse.quality.conservation import conserved_by_lineage, nothing_dropped, trades_conserved
from lakehouse.quality.derived_tables import follows_bars
from lakehouse.quality.freshness import fresh
from lakehouse.quality.gaps import ledger_matches, no_old_holes
from lakehouse.quality.gold import bars_consistent, complete_proved
from lakehouse.quality.model import Check, CheckResult, Look
from lakehouse.settings import Settings
from lakehouse.tables import (
    BARS,
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    OPS_CHECKS,
    SILVER_CONTINUITY,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from lakehouse.transforms.derived import GOLD

__all__ = ["CHECKS", "Check", "CheckResult", "checks_of_lake", "run_checks"]

#: Every check that there can be; `checks_of_lake` leaves out those of bars that a lakehouse does not make.
CHECKS: tuple[Check, ...] = (
    Check(
        name="offsets_contiguous",
        table_path=BRONZE_MESSAGES.path,
        description="Per topic and partition, every Kafka offset from the first to the ledger's last is there once.",
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
    Check(
        name="conserved_by_lineage",
        table_path=SILVER_TRADES.path,
        description="Every Kafka message of Bronze is in one of Silver's tables or proved a duplicate, by the tables.",
        blocking=False,
        evaluate=conserved_by_lineage,
    ),
    Check(
        name="clock_agrees",
        table_path=SILVER_TRADES.path,
        description="Live trades are received neither before they happen nor long after: this machine's clock is set.",
        blocking=False,
        evaluate=clock_agrees,
    ),
    Check(
        name="quarantine_settled",
        table_path=SILVER_QUARANTINE.path,
        description="No quarantined message waits for a replay.",
        blocking=False,
        evaluate=silver.quarantine_settled,
    ),
    Check(
        name="ledger_matches",
        table_path=SILVER_CONTINUITY.path,
        description="The ledger's ranges tile the ids, and the present ones are exactly those of silver/trades.",
        blocking=False,
        evaluate=ledger_matches,
    ),
    Check(
        name="no_old_holes",
        table_path=SILVER_CONTINUITY.path,
        description="No gap of missing trade ids has been open for longer than two minutes.",
        blocking=False,
        evaluate=no_old_holes,
    ),
    *(
        check
        for table in BARS.values()
        for check in (
            Check(
                name="bars_consistent",
                table_path=table.path,
                description="low ≤ open, close, vwap ≤ high; volume = buy + sell; trades ≥ 1; pressure −1 to 1; ids.",
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
            Check(
                name="complete_proved",
                table_path=table.path,
                description="A bar is flagged complete if, and only if, Silver holds every id in and around it.",
                blocking=False,
                evaluate=complete_proved(table),
            ),
        )
    ),
    *(
        Check(
            name="fresh",
            table_path=table.path,
            description="While more comes, nothing that came waits for longer than two minutes to be read.",
            blocking=False,
            evaluate=fresh(table),
        )
        for table in (BRONZE_MESSAGES, SILVER_TRADES, GOLD_BARS_1M)
    ),
    *(
        Check(
            name="follows_bars",
            table_path=derived.table.path,
            description=derived.follows.description,
            blocking=False,
            evaluate=follows_bars(derived.table, derived.follows),
        )
        for derived in GOLD
        if derived.follows
    ),
)


def checks_of_lake(settings: Settings) -> tuple[Check, ...]:
    """Return the checks of the tables that this lakehouse makes; only bars of other sizes are left out."""
    there = {table.path for table in active_tables(settings)}
    return tuple(check for check in CHECKS if check.table_path in there)


def run_checks(
    settings: Settings, checks: Sequence[Check] | None = None, recent: bool = False, run_id: str | None = None
) -> list[tuple[Check, CheckResult]]:
    """Evaluate checks (default: all of the lake's), record the verdicts in ops/checks in one commit, and return them.

    With `recent`, a check is asked to look only at rows that came or changed in the last minutes (`Look`). A check that
    has failed is asked for two days or the whole table until it passes, so that a fault does not drop out of sight with
    time. `run_id` None means `standalone:<pid>`. Raises TerminalError if the lake has no ops/checks.
    """
    open_table(settings, OPS_CHECKS)  # before the work, not after it
    results: list[tuple[Check, CheckResult]] = []
    rows: list[dict[str, Any]] = []
    failed = failed_checks(settings) if recent else {}
    for check in checks_of_lake(settings) if checks is None else checks:
        look = Look.ALL
        if recent:
            needs_all = failed.get((check.table_path, check.name))
            look = Look.LATELY if needs_all is None else Look.ALL if needs_all else Look.DAYS
        result = check.evaluate(settings, look)
        results.append((check, result))
        rows.append(_row(check, result, look is not Look.ALL, run_id or standalone_run_id()))
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
