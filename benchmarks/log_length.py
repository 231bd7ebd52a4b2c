"""The cost of an hour of versions: a commit and a look at a table whose log is short, and one whose log is long.

    python -m benchmarks log [--short 150] [--long 1200] [--rounds 3] [--commits 40]

A stream commits every three seconds, so that an hour holds 1,200 commits and five minutes 100 to 150. Both tables are
silver/trades with a checkpoint every 50 commits, as the streams write them. A commit is the streams' own append of one
row to a table that this process has open; a look opens the table at its newest version in a fresh place, as another
process does. Short and long take turns within a round, so that a machine that slows down moves both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from deltalake import DeltaTable, Transaction

from benchmarks import report
from benchmarks.client import DAY_START, trade_rows
from benchmarks.figures import spread
from benchmarks.home import RESULTS
from benchmarks.machine import machine_line
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import SILVER_TRADES

CHECKPOINT_EVERY = 50

HEADERS = ("Commits in the log", "A commit, ms", "A look, ms")


def main(arguments: list[str]) -> int:
    """Measure and print one line for each length of the log."""
    options = _options(arguments)
    print(machine_line(), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="log-", dir=RESULTS) as folder:
        lakes = {length: _lake(Path(folder), length) for length in (options.short, options.long)}
        found: dict[int, list[tuple[float, float]]] = {length: [] for length in lakes}
        for _ in range(options.rounds):
            for length, settings in lakes.items():
                found[length].append(_round(settings, options.commits))
    lines = []
    for length, rounds in found.items():
        columns = [spread([one[place] * 1000 for one in rounds]) for place in (0, 1)]
        lines.append((f"{length:,}", *(report.spread_text(column, ".1f") for column in columns)))
    report.show(lines, HEADERS, machine_line())
    return 0


def _lake(folder: Path, commits: int) -> Settings:
    settings = load_settings(home=folder / str(commits))
    table_io.ensure_tables(settings)
    for number in range(commits):
        _commit(settings, number)
        if number % CHECKPOINT_EVERY == 0:
            table_io.open_table(settings, SILVER_TRADES).create_checkpoint()
    return settings


def _commit(settings: Settings, number: int) -> None:
    with BulkAppend(settings, SILVER_TRADES) as append:
        market, at = np.zeros(1, np.int64), np.array([DAY_START + number])
        append.add(trade_rows([("binance", "BTC/USDT")], market, at, number))
        append.commit(Transaction("benchmark", number))


def _round(settings: Settings, commits: int) -> tuple[float, float]:
    """Return the median seconds of a commit and of a look."""
    first = table_io.open_table(settings, SILVER_TRADES).version()
    uri = table_io.table_uri(settings, SILVER_TRADES)
    written = [_seconds(partial(_commit, settings, first + number)) for number in range(commits)]
    return median(written), median(_seconds(partial(DeltaTable, uri)) for _ in range(commits))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks log", description=__doc__)
    parser.add_argument("--short", type=int, default=150, help="commits of the short log (default 150)")
    parser.add_argument("--long", type=int, default=1200, help="commits of the long log (default 1,200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commits", type=int, default=40, help="of a round (default 40)")
    return parser.parse_args(arguments)
