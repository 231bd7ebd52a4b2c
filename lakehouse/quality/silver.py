"""Checks of silver/trades that look at its rows alone."""

from __future__ import annotations

from lakehouse.lake import sql
from lakehouse.quality.model import CheckResult, always_a_verdict, count_of, where_recent
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES


@always_a_verdict
def key_unique(settings: Settings, recent: bool) -> CheckResult:
    """No (venue, symbol, trade_id) twice. Recent only: none twice within the recent event dates."""
    row = sql(
        settings,
        f"""
        SELECT CAST(coalesce(sum(n), 0) AS BIGINT) AS rows, count(*) AS keys,
               count(*) FILTER (WHERE n > 1) AS double_keys
        FROM (SELECT count(*) AS n FROM trades WHERE {where_recent("event_date", recent)}
              GROUP BY venue, symbol, trade_id)
        """,
        trades=SILVER_TRADES,
    ).to_pylist()[0]
    figures = {"rows": row["rows"], "double_keys": row["double_keys"], "surplus_rows": row["rows"] - row["keys"]}
    if row["double_keys"]:
        return CheckResult(
            False,
            f"{count_of(row['double_keys'], 'trade')} of {row['keys']:,} more than once: "
            f"{count_of(figures['surplus_rows'], 'row')} too many.",
            figures,
        )
    return CheckResult(True, f"Every trade is there once: {count_of(row['rows'], 'row')}.", figures)


@always_a_verdict
def prices_and_sizes_positive(settings: Settings, recent: bool) -> CheckResult:
    """Every price and every size is above zero."""
    row = sql(
        settings,
        f"""
        SELECT count(*) AS rows,
               count(*) FILTER (WHERE (price > 0) IS NOT TRUE) AS bad_prices,
               count(*) FILTER (WHERE (size > 0) IS NOT TRUE) AS bad_sizes
        FROM trades WHERE {where_recent("event_date", recent)}
        """,
        trades=SILVER_TRADES,
    ).to_pylist()[0]
    figures = {"rows": row["rows"], "bad_prices": row["bad_prices"], "bad_sizes": row["bad_sizes"]}
    if row["bad_prices"] or row["bad_sizes"]:
        return CheckResult(
            False,
            f"Of {count_of(row['rows'], 'row')}, not above zero: {count_of(row['bad_prices'], 'price')}, "
            f"{count_of(row['bad_sizes'], 'size')}.",
            figures,
        )
    return CheckResult(True, f"Every price and size is above zero: {count_of(row['rows'], 'row')}.", figures)
