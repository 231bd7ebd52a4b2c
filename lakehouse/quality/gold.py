"""Checks of every table of bars: each bar by itself, and its `complete` against the ids in silver/trades.

There are checks for each table of `tables.BARS`, even of sizes that a lakehouse does not make.
"""

from __future__ import annotations

from lakehouse.continuity.known_ids import KnownIds
from lakehouse.lake.batch_log import newest_whole_batch
from lakehouse.lake.table_io import open_table, sql
from lakehouse.quality.id_coverage import ids_of_trades
from lakehouse.quality.model import (
    CheckResult,
    Evaluate,
    Figure,
    Look,
    always_a_verdict,
    count_of,
    where_bars,
    where_recent,
)
from lakehouse.settings import Settings
from lakehouse.tables import Table

# A quote product is rounded at the 18th decimal, so each trade may move quote_volume by half a unit there, and vwap
# is rounded once more. Products within 18 decimals (all of the venues' own scales) are exact and need none of it.
# This bound only ever loosens `low <= vwap <= high`; doubles are exact enough for it.
_VWAP_WITHIN_ROUNDING = """
    CAST(greatest(low - vwap, vwap - high) AS DOUBLE) * CAST(volume AS DOUBLE)
        <= 0.5e-18 * (CAST(trades AS DOUBLE) + CAST(volume AS DOUBLE)) * 1.000001
"""

#: Rule → condition that every bar must meet. Subtraction, not addition, of volumes: a sum could pass 38 digits.
_RULES = {
    "prices": "low <= open AND open <= high AND low <= close AND close <= high",
    "vwap": f"(low <= vwap AND vwap <= high) OR {_VWAP_WITHIN_ROUNDING}",
    "volumes": "volume - buy_volume = sell_volume AND volume > 0 AND buy_volume >= 0 AND sell_volume >= 0",
    "trades": "trades >= 1",
    # A bar's ids may lie across those of its neighbours, so its trades need not fill the range, complete or not.
    "ids": "first_trade_id <= last_trade_id AND trades - 1 <= last_trade_id - first_trade_id",
    "pressure": "pressure BETWEEN -1 AND 1",
}


def bars_consistent(table: Table) -> Evaluate:
    """Make the check that each bar of a table is consistent in itself.

    low ≤ open, close, vwap ≤ high, the vwap within rounding. The volume is above 0 and the sum of the buy and the sell
    volume, neither below 0. There is at least one trade, and there are no more trades than ids from the first trade id
    to the last. The pressure is from −1 to 1.
    """

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:
        broken = ", ".join(f"count(*) FILTER (WHERE ({rule}) IS NOT TRUE) AS bad_{n}" for n, rule in _RULES.items())
        every = " AND ".join(f"({rule})" for rule in _RULES.values())
        bars = open_table(settings, table)
        row = sql(
            settings,
            f"""
            SELECT count(*) AS bars, count(*) FILTER (WHERE ({every}) IS NOT TRUE) AS bad_bars, {broken}
            FROM bars WHERE {where_bars(settings, look, bars)}
            """,
            bars=bars,
        ).to_pylist()[0]
        if row["bad_bars"]:
            rules = ", ".join(f"{name} in {row[f'bad_{name}']:,}" for name in _RULES if row[f"bad_{name}"])
            return CheckResult(False, f"{row['bad_bars']:,} of {count_of(row['bars'], 'bar')} wrong: {rules}.", row)
        return CheckResult(True, f"Every bar is consistent in itself: {count_of(row['bars'], 'bar')}.", row)

    return evaluate


def complete_proved(table: Table) -> Evaluate:
    """Make the check that a table's flags `complete` agree with the ids in the Silver version that Gold last processed.

    A bar is complete if Silver has every id from the one before its first to the one after its last. A full look
    compares all bars with the trades themselves. A recent look compares the recent bars with the ids in the ledger
    silver/continuity at that version, so that it need not read the whole history; a look at the last minutes takes only
    bars that were changed or are not flagged: ids are only ever added, so a proved bar stays proved.
    """

    @always_a_verdict
    def evaluate(settings: Settings, look: Look) -> CheckResult:
        open_table(settings, table)
        gold = newest_whole_batch(settings, "gold")
        if gold is None:
            return CheckResult(
                True, "Nothing written yet: no gold batch has ended at a version of Silver.", {"bars": 0, "complete": 0}
            )
        version = gold.source_version
        is_all = look is Look.ALL
        presence = KnownIds(ids_of_trades(settings, version).ids) if is_all else KnownIds.at(settings, version)
        of_batch = open_table(settings, table, gold.version_of(table.path))
        bars = sql(
            settings,
            "SELECT venue, symbol, first_trade_id, last_trade_id, complete FROM bars "
            f"WHERE ({where_bars(settings, look, of_batch)}) OR ({where_recent('bar_date', look)} AND NOT complete)",
            bars=of_batch,
        )
        complete = unproved = unnoticed = 0
        for venue, symbol, first, last, flag in zip(*(column.to_pylist() for column in bars.columns), strict=True):
            proved = presence.covers((venue, symbol), first - 1, last + 1)
            complete += proved
            unproved += flag and not proved
            unnoticed += proved and not flag
        figures: dict[str, Figure] = {
            "bars": bars.num_rows,
            "complete": complete,
            "flagged_without_proof": unproved,
            "proved_without_flag": unnoticed,
            "silver_version": version,
        }
        if unproved or unnoticed:
            return CheckResult(
                False,
                f"{count_of(bars.num_rows, 'bar')}; flagged complete without proof: {unproved:,}, "
                f"proved and not flagged: {unnoticed:,}, by Silver's ids at version {version}.",
                figures,
            )
        return CheckResult(
            True,
            f"{complete:,} of {count_of(bars.num_rows, 'bar')} proved complete by Silver's ids at version {version}, "
            "each flagged so and no other.",
            figures,
        )

    return evaluate
