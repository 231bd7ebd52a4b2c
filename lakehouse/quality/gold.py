"""Checks of gold/bars_1m and gold/bars_5m that look at a bar alone."""

from __future__ import annotations

from lakehouse.lake import sql
from lakehouse.quality.model import CheckResult, Evaluate, always_a_verdict, count_of, where_recent
from lakehouse.settings import Settings
from lakehouse.tables import Table

# A quote product is rounded at the 18th decimal, so each trade may move quote_volume by half a unit there, and vwap
# is rounded once more. Products within 18 decimals (all of the venues' own scales) are exact and need none of it.
# This bound only ever loosens `low <= vwap <= high`; doubles are exact enough for it.
_VWAP_WITHIN_ROUNDING = """
    CAST(greatest(low - vwap, vwap - high) AS DOUBLE) * CAST(volume AS DOUBLE)
        <= 0.5e-18 * (CAST(trades AS DOUBLE) + CAST(volume AS DOUBLE)) * 1.000001
"""

#: Rule → what must hold of each bar. Subtraction, not addition, of volumes: a sum could pass 38 digits.
_RULES = {
    "prices": "low <= open AND open <= high AND low <= close AND close <= high",
    "vwap": f"(low <= vwap AND vwap <= high) OR {_VWAP_WITHIN_ROUNDING}",
    "volumes": "volume - buy_volume = sell_volume AND volume > 0 AND buy_volume >= 0 AND sell_volume >= 0",
    "trades": "trades >= 1",
    "pressure": "pressure BETWEEN -1 AND 1",
}


def bars_consistent(table: Table) -> Evaluate:
    """low ≤ open, close, vwap ≤ high; volume = buy + sell; at least one trade; pressure from −1 to 1."""

    @always_a_verdict
    def evaluate(settings: Settings, recent: bool) -> CheckResult:
        broken = ", ".join(f"count(*) FILTER (WHERE ({rule}) IS NOT TRUE) AS bad_{n}" for n, rule in _RULES.items())
        every = " AND ".join(f"({rule})" for rule in _RULES.values())
        row = sql(
            settings,
            f"""
            SELECT count(*) AS bars, count(*) FILTER (WHERE ({every}) IS NOT TRUE) AS bad_bars, {broken}
            FROM bars WHERE {where_recent("bar_date", recent)}
            """,
            bars=table,
        ).to_pylist()[0]
        if row["bad_bars"]:
            rules = ", ".join(f"{name} in {row[f'bad_{name}']:,}" for name in _RULES if row[f"bad_{name}"])
            return CheckResult(False, f"{row['bad_bars']:,} of {count_of(row['bars'], 'bar')} wrong: {rules}.", row)
        return CheckResult(True, f"Every bar is consistent in itself: {count_of(row['bars'], 'bar')}.", row)

    return evaluate
