"""Checks of silver/continuity: the ledger agrees with silver/trades on every id, and no gap stays open for long.

They judge the newest version whenever checks are run; `lakehouse.audit.gaps` counts every state for each symbol once,
at the audit's snapshot.
"""

from __future__ import annotations

from lakehouse.continuity.gaps import open_gaps
from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.table_io import open_table, row_count
from lakehouse.quality.id_coverage import (
    absent_from_ledger,
    absent_from_trades,
    count_present,
    ids_of_trades,
    read_ledger,
    tiling_errors,
)
from lakehouse.quality.model import CheckResult, Figure, Look, always_a_verdict, count_of, where_arrived_lately
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES

#: Seconds that ingest has to close a gap that it has seen itself; after that it is the repair's.
OLD_SECONDS = 120.0
#: Faults that a sentence names.
_NAMED = 3


@always_a_verdict
def ledger_matches(settings: Settings, look: Look) -> CheckResult:
    """Check that the ledger calls exactly those ids present that silver/trades has, at the version that it names.

    The ranges of a (venue, symbol) must also tile its ids, without a gap or an overlap. A recent look compares only the
    trades of the last minutes, and the number of present ids with Silver's number of rows by its log: the history is
    not scanned.
    """
    ledger = read_ledger(settings)
    batch = newest_batches(settings).get("silver")
    if ledger:
        version = ledger[0].trades_version
    elif batch is not None:
        version = batch.version_of(SILVER_TRADES.path)
    else:
        return CheckResult(True, "Nothing written yet: 0 ranges of ids.", {"ranges": 0, "ids": 0})
    faults = list(tiling_errors(ledger))
    said = count_present(ledger)
    trades = row_count(open_table(settings, SILVER_TRADES, version))
    if look is not Look.ALL:
        lately = where_arrived_lately(settings, open_table(settings, SILVER_TRADES, version))
        there = ids_of_trades(settings, version, lately)
        # A part of the trades shows only ids that the ledger lacks; the total shows ids that Silver lacks.
        faults += absent_from_ledger(ledger, there)
        if said != trades:
            faults.append(f"{said:,} ids are present by the ledger, silver/trades has {trades:,} rows")
    else:
        there = ids_of_trades(settings, version)
        faults += [*absent_from_trades(ledger, there), *absent_from_ledger(ledger, there)]
        if there.surplus:
            faults.append(f"{count_of(there.surplus, 'row')} of silver/trades beyond one an id")
    figures: dict[str, Figure] = {
        "ranges": len(ledger),
        "ids": said,
        "silver_rows": trades,
        "faults": len(faults),
        "trades_version": version,
    }
    if faults:
        named = "; ".join(faults[:_NAMED])
        return CheckResult(False, f"{count_of(len(faults), 'fault')} at version {version}, first: {named}.", figures)
    return CheckResult(
        True,
        f"{count_of(len(ledger), 'range')} say of every id what silver/trades says at version {version}: "
        f"{count_of(said, 'id')} present.",
        figures,
    )


@always_a_verdict
def no_old_holes(settings: Settings, look: Look) -> CheckResult:  # noqa: ARG001  (a gap of last month is one too)
    """Check that no gap of missing trade ids has been open for longer than OLD_SECONDS; it looks at all gaps."""
    open_table(settings, SILVER_CONTINUITY)
    gaps = open_gaps(settings)
    old = open_gaps(settings, OLD_SECONDS)
    old_ids = sum(map(len, old))
    figures: dict[str, Figure] = {
        "open_holes": len(gaps),
        "open_ids": sum(map(len, gaps)),
        "old_holes": len(old),
        "old_ids": old_ids,
    }
    minutes = f"{OLD_SECONDS / 60:.0f} minutes"
    if old:
        named = ", ".join(f"{gap.venue} {gap.symbol} {gap.first_id}–{gap.last_id}" for gap in old[:_NAMED])
        return CheckResult(
            False,
            f"Open for longer than {minutes}: {count_of(len(old), 'gap')} with {count_of(old_ids, 'id')}, "
            f"the oldest {named}; `lakehouse repair` fetches them.",
            figures,
        )
    return CheckResult(True, f"No gap has been open for {minutes}; {count_of(len(gaps), 'gap')} open.", figures)
