"""The newest bars of each series (venue and symbol) of a Gold table, and how they change between two versions. No JVM.

Guarantee: the newest bars of the older version, changed by what `difference` returns, are exactly the newest bars of
the newer version.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.lake import table_io
from lakehouse.lake.unreadable import UnreadableVersionError
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.sinks.gold_changes import Changes, read, read_gone
from lakehouse.tables import Table

#: Rows of changed files up to which a difference is computed, in memory. Beyond it all series are read anew.
MOST_ROWS = 500_000

Bar = dict[str, Any]
Series = dict[MarketKey, list[Bar]]


@dataclass(frozen=True)
class Difference:
    """How the newest bars of a table have changed.

    `changed`: new and changed bars by series, only the newest of them. `anew`: the series that have lost a bar, each
    with all its newest bars (none if the series is gone). `whole`: `anew` has every series of the table.
    """

    changed: Series
    anew: Series
    whole: bool


def difference(settings: Settings, changes: Changes, most: int) -> Difference:
    """Return how the newest bars, `most` of each series, have changed."""
    if changes.whole or changes.to_read > MOST_ROWS:
        return Difference({}, newest(settings, changes.table, changes.version, most), True)
    try:
        before = _joined(changes.table, read_gone(settings, changes))
    except UnreadableVersionError:  # deleted meanwhile: the version is older than what is kept
        return Difference({}, newest(settings, changes.table, changes.version, most), True)
    after = _joined(changes.table, read(settings, changes))
    changed = after.join(before, after.column_names, join_type="left anti")
    key = ["venue", "symbol", "bar_start"]
    lost = before.select(key).join(after.select(key), key, join_type="left anti")
    losers: set[MarketKey] = {(one["venue"], one["symbol"]) for one in lost.to_pylist()}
    anew: Series = {one: [] for one in losers}
    if losers:
        anew |= newest(settings, changes.table, changes.version, most, losers)
    puts: Series = {}
    for row in changed.to_pylist():
        if (series := (row["venue"], row["symbol"])) not in losers:
            puts.setdefault(series, []).append(row)
    return Difference({series: _newest(rows, most) for series, rows in puts.items()}, anew, False)


def newest(settings: Settings, table: Table, version: int, most: int, of: Iterable[MarketKey] | None = None) -> Series:
    """Return the newest bars of each series at a version, `most` of each, the oldest first.

    `of` selects series; None means all. One day is read at a time, the newest first, until each series has its bars.
    """
    opened = table_io.open_table(settings, table, version)
    where = "TRUE" if of is None else " OR ".join(_is(one) for one in of)
    counts = table_io.sql(
        settings, f"SELECT venue, symbol, count(*) AS bars FROM b WHERE {where} GROUP BY venue, symbol", b=opened
    )
    missing = {(one["venue"], one["symbol"]): min(one["bars"], most) for one in counts.to_pylist()}
    found: Series = {series: [] for series in missing}
    for day in sorted(table_io.days(settings, table, version), reverse=True):
        if not any(missing.values()):
            break
        rows = table_io.sql(
            settings,
            f"SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY venue, symbol ORDER BY bar_start DESC) AS place "
            f"FROM b WHERE bar_date = DATE '{day.isoformat()}' AND ({where})) WHERE place <= {most}",
            b=opened,
        )
        for row in sorted(rows.to_pylist(), key=lambda one: one["place"]):
            series = (row["venue"], row["symbol"])
            if missing[series]:
                missing[series] -= 1
                found[series].append({name: row[name] for name in table.column_names})
    return {series: rows[::-1] for series, rows in found.items()}


def _is(series: MarketKey) -> str:
    venue, symbol = (name.replace("'", "''") for name in series)
    return f"(venue = '{venue}' AND symbol = '{symbol}')"


def _joined(table: Table, parts: Iterator[pa.Table]) -> pa.Table:
    schema = table_io.arrow_schema(table)
    return pa.concat_tables([schema.empty_table(), *parts])


def _newest(rows: list[Bar], most: int) -> list[Bar]:
    return heapq.nlargest(most, rows, key=lambda one: one["bar_start"])[::-1]
