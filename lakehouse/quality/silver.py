"""Checks of silver/trades and silver/quarantine that need no other table's rows."""

from __future__ import annotations

from deltalake import DeltaTable

from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import open_table, row_count, sql
from lakehouse.quality.id_coverage import TradeIds, count_present, ids_of_trades, read_ledger
from lakehouse.quality.model import (
    CheckResult,
    Figure,
    Look,
    always_a_verdict,
    count_of,
    where_arrived_lately,
    where_recent,
)
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES


@always_a_verdict
def key_unique(settings: Settings, look: Look) -> CheckResult:
    """Check that silver/trades has no (venue, symbol, trade_id) twice.

    A look at the last minutes compares the rows of these minutes, and the number of all rows with the number of ids in
    the ledger; if these numbers differ, it compares all rows of the recent event dates.
    """
    table = open_table(settings, SILVER_TRADES)
    version = table.version()
    lately = look is Look.LATELY and _as_many_as_ids(settings, table)
    where = where_arrived_lately(settings, table) if lately else where_recent("event_date", look)
    trades = ids_of_trades(settings, version, where)
    double_keys = _double_keys(settings, trades, version, where) if trades.surplus else 0
    figures: dict[str, Figure] = {
        "rows": trades.rows,
        "double_keys": double_keys,
        "surplus_rows": trades.surplus,
    }
    if trades.surplus:
        return CheckResult(
            False,
            f"{count_of(double_keys, 'trade')} of {trades.rows - trades.surplus:,} more than once: "
            f"{count_of(trades.surplus, 'row')} too many.",
            figures,
        )
    return CheckResult(True, f"Every trade is there once: {count_of(trades.rows, 'row')}.", figures)


def _as_many_as_ids(settings: Settings, trades: DeltaTable) -> bool:
    """True if silver/trades has as many rows as its ledger has present ids; no row of silver/trades is read."""
    return row_count(trades) == count_present(read_ledger(settings))


def _double_keys(settings: Settings, trades: TradeIds, version: int, where: str) -> int:
    """Count the trades that are there more than once, looking only near surplus rows."""
    near = " OR ".join(
        f"trade_id BETWEEN {ids.lowest} AND {ids.highest}" for ids in trades.doubled.values() if ids.lowest is not None
    )
    rows = sql(
        settings,
        f"""
        SELECT count(*) AS n FROM (
            SELECT venue FROM trades WHERE {where} AND ({near}) GROUP BY venue, symbol, trade_id HAVING count(*) > 1
        )
        """,
        trades=open_table(settings, SILVER_TRADES, version),
    )
    return int(rows["n"][0].as_py())


@always_a_verdict
def prices_and_sizes_positive(settings: Settings, look: Look) -> CheckResult:
    """Check that every price and every size in silver/trades is above zero."""
    table = open_table(settings, SILVER_TRADES)
    where = where_arrived_lately(settings, table) if look is Look.LATELY else where_recent("event_date", look)
    row = sql(
        settings,
        f"""
        SELECT count(*) AS rows,
               count(*) FILTER (WHERE (price > 0) IS NOT TRUE) AS bad_prices,
               count(*) FILTER (WHERE (size > 0) IS NOT TRUE) AS bad_sizes
        FROM trades WHERE {where}
        """,
        trades=table,
    ).to_pylist()[0]
    figures = {"rows": row["rows"], "bad_prices": row["bad_prices"], "bad_sizes": row["bad_sizes"]}
    if row["bad_prices"] or row["bad_sizes"]:
        return CheckResult(
            False,
            f"{count_of(row['rows'], 'row')}; not above zero: {count_of(row['bad_prices'], 'price')}, "
            f"{count_of(row['bad_sizes'], 'size')}.",
            figures,
        )
    return CheckResult(True, f"Every price and size is above zero: {count_of(row['rows'], 'row')}.", figures)


@always_a_verdict
def quarantine_settled(settings: Settings, look: Look) -> CheckResult:  # noqa: ARG001  (few rows, of any age)
    """Check that no message in quarantine is open, that is, waits for a replay or a person's decision."""
    open_table(settings, SILVER_QUARANTINE)
    rules = open_quarantine(settings)
    waiting = sum(rules.values())
    figures: dict[str, Figure] = {"open": waiting, "rules": len(rules)}
    if waiting:
        named = ", ".join(f"{rule} {count:,}" for rule, count in rules.items())
        return CheckResult(
            False,
            f"Open in quarantine: {count_of(waiting, 'message')}: {named}; `lakehouse replay` settles them.",
            figures,
        )
    return CheckResult(True, "Every quarantined message is settled: 0 open.", figures)
