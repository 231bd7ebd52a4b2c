"""The costs of a trade three hours late: files and bytes that Gold really reads for it, with little and much history.

.venv/bin/python -m pytest -s tests/streams/test_gold_late_reads.py        prints the figures of docs/gold.md
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.lake.table_io import append_rows, ensure_tables, sql
from lakehouse.settings import BAR_SIZES, Settings
from lakehouse.streams.runner import StreamRunner
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.conftest import SettingsFactory
from tests.streams.test_gold_late import has_read_all, wait_for
from tests.support.files_read import AccessTimes, Files, Reads, are_kept
from tests.support.rows import NOON_US, trade_row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY_US, HOUR_US, MINUTE_US = 86_400_000_000, 3_600_000_000, 60_000_000
VENUES = ("binance", "kraken")
HOURS, STEP = 5, 3  #: hours of each day, and minutes from one trade to the next
HISTORIES = (1, 24)  #: days, the newest included
#: The minute of the newest day whose trade comes after all others: more than three hours before the newest.
LATE = 90
#: By so much may a file of the same rows differ in size, by the times of its writing.
SAME_SIZE = 0.02


def hour(day: int, number: int) -> list[dict[str, Any]]:
    """A trade every third minute, ids without a gap, but for the one that comes late. Days go back from 0."""
    minutes = range(number * 60, number * 60 + 60, STEP)
    return [trade(venue, day, minute) for venue in VENUES for minute in minutes if (venue, day, minute) != late()]


def late() -> tuple[str, int, int]:
    return VENUES[0], 0, LATE


def trade(venue: str, day: int, minute: int) -> dict[str, Any]:
    number = ((max(HISTORIES) - day) * HOURS * 60 + minute) // STEP
    at = NOON_US - day * DAY_US + minute * MINUTE_US + 10_000_000
    return trade_row(number, at, venue=venue, symbol="BTC/USDT", price=Decimal(100 + minute % 7))


def reads_of_a_late_trade(settings: Settings, days: int) -> dict[str, Reads]:
    """A history in hourly files, its newest day written hour by hour into Gold, then the late trade."""
    ensure_tables(settings)
    for day in range(days - 1, 0, -1):
        for number in range(HOURS):
            append_rows(settings, SILVER_TRADES, hour(day, number))
    with StreamRunner(settings, ("gold",)) as runner:
        for number in range(HOURS):
            append_rows(settings, SILVER_TRADES, hour(0, number))
            wait_for(lambda: has_read_all(settings), runner)
        times = AccessTimes(Path(settings.lake))
        append_rows(settings, SILVER_TRADES, [trade(*late())])
        wait_for(lambda: has_read_all(settings), runner)
        reads = times.by_table()
    minute = dt.datetime.fromtimestamp((NOON_US + LATE * MINUTE_US) / 1_000_000, dt.UTC)
    there = sql(settings, "SELECT venue, bar_start, complete FROM t", t=GOLD_BARS_1M).to_pylist()
    assert {"venue": VENUES[0], "bar_start": minute, "complete": True} in there
    assert len(there) == days * HOURS * 60 // STEP * len(VENUES)
    return {path: one for path, one in reads.items() if path == SILVER_TRADES.path or path.startswith("gold/")}


@pytest.mark.spark
@pytest.mark.timeout(600)  # two lakes, one of 24 days
def test_a_late_trade_reads_the_same_whatever_the_history(
    spark: SparkSession, settings_factory: SettingsFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not are_kept(tmp_path):
        pytest.skip("this file system keeps no access times")
    little, much = (
        reads_of_a_late_trade(
            settings_factory(home=tmp_path / str(days), trigger="1 second", bar_sizes=BAR_SIZES), days
        )
        for days in HISTORIES
    )
    with capsys.disabled():
        print(f"\n{figures(little, much)}")
    assert little.keys() == much.keys()
    # One hour's file of Silver; of Gold what lies around the trade, on its day.
    assert much[SILVER_TRADES.path].read.files == 1
    for path, reads in much.items():
        assert reads.read.files == little[path].read.files, path
        assert reads.read.size <= little[path].read.size * (1 + SAME_SIZE), path
    assert total(much).there.size > 5 * total(little).there.size


def total(reads: dict[str, Reads]) -> Reads:
    def of(parts: list[Files]) -> Files:
        return Files(sum(one.files for one in parts), sum(one.size for one in parts))

    every = reads.values()
    return Reads(of([one.there for one in every]), of([one.read for one in every]), of([one.log for one in every]))


def figures(little: dict[str, Reads], much: dict[str, Reads]) -> str:
    """Return a table: for each history what there is, and what is read."""
    names = [f"{days} {'day' if days == 1 else 'days'}" for days in HISTORIES]
    lines = [
        "| Table | " + " | ".join(f"There, {name} | Read | Of its log" for name in names) + " |",
        "|---" * (1 + 3 * len(names)) + "|",
    ]
    for path in [*sorted(much), "all"]:
        parts = [total(reads) if path == "all" else reads[path] for reads in (little, much)]
        lines.append(f"| {path} | " + " | ".join(_cells(one) for one in parts) + " |")
    return "\n".join(lines)


def _cells(reads: Reads) -> str:
    return " | ".join(f"{one.files} files, {one.size / 1000:,.1f} kB" for one in (reads.there, reads.read, reads.log))
