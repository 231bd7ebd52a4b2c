"""Check indicators, moves and spreads against their one-minute bars, at the versions of one batch."""

from __future__ import annotations

from deltalake import DeltaTable

from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.table_io import open_table, sql
from lakehouse.quality.model import CheckResult, Evaluate, Look, always_a_verdict, count_of, where_bars
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, GOLD_INDICATORS_1M, GOLD_MOVES, GOLD_SPREADS_1M, SPREAD_VENUES, Table

_INDICATORS = """
    SELECT count(*) AS expected, count(*) FILTER (WHERE (b.close = d.close) IS NOT TRUE) AS wrong
    FROM (SELECT * FROM bars WHERE {recent}) b
    FULL JOIN (SELECT * FROM derived WHERE {recent}) d
    ON b.venue = d.venue AND b.symbol = d.symbol AND b.bar_start = d.bar_start
"""

_MOVES = """
    SELECT count(*) AS expected,
           count(*) FILTER (WHERE (b.open = d.from_price AND b.close = d.to_price AND b.trades = d.trades
                                   AND d.direction = CASE WHEN b.close > b.open THEN 'up' ELSE 'down' END
                                   AND b.close <> b.open) IS NOT TRUE) AS wrong
    FROM (SELECT * FROM derived WHERE {recent}) d
    LEFT JOIN (SELECT * FROM bars WHERE {recent}) b
    ON b.venue = d.venue AND b.symbol = d.symbol AND b.bar_start = d.bar_start
"""

#: One row per (symbol, minute), with as many prices as there are bars and the right sum of prices.
_SPREADS = f"""
    SELECT count(*) AS expected,
           count(*) FILTER (WHERE (b.venues = d.venues AND b.total = d.total) IS NOT TRUE) AS wrong
    FROM (SELECT symbol, bar_start, count(*) AS venues, sum(close) AS total FROM bars WHERE {{recent}}
          GROUP BY symbol, bar_start) b
    FULL JOIN (SELECT concat(base, '/', quote) AS symbol, bar_start, venues,
                      {" + ".join(f"coalesce(price_{venue}, 0)" for venue in SPREAD_VENUES)} AS total
               FROM derived WHERE {{recent}}) d
    ON b.symbol = d.symbol AND b.bar_start = d.bar_start
"""

#: Table path → query for the number of rows that must exist, and of rows that are wrong, missing or too many.
_COMPARISONS = {GOLD_INDICATORS_1M.path: _INDICATORS, GOLD_MOVES.path: _MOVES, GOLD_SPREADS_1M.path: _SPREADS}


def follows_bars(table: Table) -> Evaluate:
    """Each row has the prices of the bars that it names. For indicators and spreads no row is missing."""

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:
        bars, derived = _at_one_batch(settings, table)
        query = _COMPARISONS[table.path].format(recent=where_bars(settings, look, bars, derived))
        row = sql(settings, query, bars=bars, derived=derived).to_pylist()[0]
        if row["wrong"]:
            return CheckResult(
                False, f"{row['wrong']:,} of {count_of(row['expected'], 'row')} not as the one-minute bars say.", row
            )
        return CheckResult(True, f"As the one-minute bars say: {count_of(row['expected'], 'row')}.", row)

    return evaluate


def _at_one_batch(settings: Settings, table: Table) -> tuple[DeltaTable, DeltaTable]:
    """Open the bars and the table at the versions of Gold's newest batch; at their newest if it names none."""
    gold = newest_batches(settings).get("gold")
    if gold is None or table.path not in gold.versions:
        return open_table(settings, GOLD_BARS_1M), open_table(settings, table)
    versions = (gold.version_of(one.path) for one in (GOLD_BARS_1M, table))
    bars, derived = (open_table(settings, one, at) for one, at in zip((GOLD_BARS_1M, table), versions, strict=True))
    return bars, derived
