"""Cost of single steps of a catch-up, each compared with the library's way that it replaces.

    python -m benchmarks steps [--repeats 10]

CPU time of this process, all threads: the machine's other work is not in it, what the caches hold is. No broker, no
JVM. Decisions that rest on it: docs/adr/0011 (bulk append) and docs/adr/0012 (replacement).
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from benchmarks import report
from benchmarks.data import START, Tape
from benchmarks.figures import Spread, spread
from benchmarks.home import ROOT
from benchmarks.machine import machine_line
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.replacement import replace
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M
from lakehouse.transforms.row_keys import RowKeys

HEADERS = ("Step", "Library's way, median (min–max)", "Ours, median (min–max)", "Unit")

#: Bars of the minute that changes, as many symbols on three venues.
SYMBOLS = 30
MINUTE = dt.timedelta(minutes=1)
#: A batch of Bronze, and how much of it comes at once.
BATCH_ROWS, CHUNK_ROWS = 250_000, 50_000
APP = "benchmark"


class Step(NamedTuple):
    """CPU time of one step both ways, in `unit`."""

    name: str
    library: Spread
    ours: Spread
    unit: str


def main(arguments: list[str]) -> int:
    """Measure and return exit code 0; a step that fails raises."""
    options = _options(arguments)
    lines = []
    for step in steps(options.repeats):
        lines.append(
            (step.name, report.spread_text(step.library, ".1f"), report.spread_text(step.ours, ".1f"), step.unit)
        )
        print(lines[-1], flush=True)
    report.show(lines, HEADERS, machine_line())
    if options.write_docs:
        text = f"{options.repeats} repeats. {machine_line()}.\n\n" + report.markdown(lines, HEADERS)
        report.replace_block(ROOT / "docs" / "performance.md", "steps", text)
    return 0


def steps(repeats: int) -> Iterator[Step]:
    """Yield each step, measured on demand."""
    for days in (1, 30):
        with tempfile.TemporaryDirectory() as folder:
            yield _replacement(_lakehouse(folder), days, repeats)
    with tempfile.TemporaryDirectory() as folder:
        yield _append(_lakehouse(folder), repeats)


def _lakehouse(folder: str) -> Settings:
    settings = load_settings(home=Path(folder))
    table_io.ensure_tables(settings)
    return settings


def _replacement(settings: Settings, days: int, repeats: int) -> Step:
    """Change the newest minute's bars, after nine minutes in files of their own and `days` days of hours."""
    for day in range(days):
        before = START - dt.timedelta(days=days - day)
        _put(settings, pa.concat_tables(_bars(before + dt.timedelta(hours=hour), 10, 0) for hour in range(24)))
    for minute in range(10):
        _put(settings, _bars(START + minute * MINUTE, SYMBOLS, 0))
    versions = itertools.count(1)

    def changed() -> pa.Table:
        return _bars(START + 9 * MINUTE, SYMBOLS, next(versions))

    def merged(rows: pa.Table) -> None:
        columns = {name: f"s.{name}" for name in GOLD_BARS_1M.column_names}
        start = f"TIMESTAMP '{START + 9 * MINUTE:%Y-%m-%d %H:%M:%S}Z'"
        same = " AND ".join(f"t.{name} = s.{name}" for name in (*GOLD_BARS_1M.key, "bar_date"))
        where = f"t.bar_date = DATE '{START:%Y-%m-%d}' AND t.bar_start >= {start} AND t.bar_start <= {start} AND {same}"
        table = table_io.open_table(settings, GOLD_BARS_1M)
        merger = table.merge(rows, where, source_alias="s", target_alias="t", commit_properties=_properties())
        merger.when_matched_update(columns).when_not_matched_insert(columns).execute()

    def replaced(rows: pa.Table) -> None:
        replace(settings, GOLD_BARS_1M, RowKeys.of(rows, GOLD_BARS_1M.key), rows, Transaction(APP, next(versions)))

    costs = _alternating(changed, merged, replaced, repeats)
    there = table_io.sql(settings, "SELECT count(*) AS rows FROM t", t=GOLD_BARS_1M).column("rows")[0].as_py()
    if there != days * 240 + 10 * SYMBOLS:
        raise AssertionError(f"found {there} rows; expected the ones that were put in, each once")
    name = f"{SYMBOLS} bars change, {days} {'day' if days == 1 else 'days'} before them"
    library, ours = (_spread(cost * 1e3 for cost in way) for way in costs)
    return Step(name, library, ours, "ms a commit")


def _append(settings: Settings, repeats: int) -> Step:
    """Write Bronze's rows of a batch into its table, in one commit."""
    rows = _messages(BATCH_ROWS)
    chunks = [rows.slice(start, CHUNK_ROWS) for start in range(0, rows.num_rows, CHUNK_ROWS)]
    versions = itertools.count(1)

    def by_library(_: object) -> None:
        table = table_io.open_table(settings, BRONZE_MESSAGES)
        reader = pa.RecordBatchReader.from_batches(
            rows.schema, (batch for chunk in chunks for batch in chunk.to_batches())
        )
        write_deltalake(table, reader, mode="append", commit_properties=_properties())

    def by_us(_: object) -> None:
        with BulkAppend(settings, BRONZE_MESSAGES) as append:
            for chunk in chunks:
                append.add(chunk)
            append.commit_alone(Transaction(APP, next(versions)))

    costs = _alternating(lambda: None, by_library, by_us, repeats)
    library, ours = (_spread(cost / BATCH_ROWS * 1e6 for cost in way) for way in costs)
    return Step(f"{BATCH_ROWS:,} messages into Bronze", library, ours, "µs a message")


def _alternating(
    make: Callable[[], Any], library: Callable[[Any], None], ours: Callable[[Any], None], repeats: int
) -> tuple[list[float], list[float]]:
    """Measure CPU seconds of both ways in turn, each with new input that is made outside the measured time.

    The first of each is left out: it loads code.
    """
    costs: tuple[list[float], list[float]] = [], []
    for _ in range(repeats + 1):
        for way, found in zip((library, ours), costs, strict=True):
            made = make()
            began = time.process_time()
            way(made)
            found.append(time.process_time() - began)
    return costs[0][1:], costs[1][1:]


def _spread(values: Any) -> Spread:
    found = spread(values)
    if found is None:
        raise AssertionError("found no repeat; expected one or more")
    return found


def _properties() -> CommitProperties:
    return CommitProperties(max_commit_retries=0)


def _put(settings: Settings, rows: pa.Table) -> None:
    with BulkAppend(settings, GOLD_BARS_1M) as append:
        append.add(rows)
        append.commit_alone(Transaction("history", 0))


def _bars(start: dt.datetime, symbols: int, trades: int) -> pa.Table:
    """The bars of one minute, each with that many trades."""
    numbers = pa.array(np.arange(symbols))
    columns: dict[str, Any] = {
        "venue": pa.repeat("binance", symbols),
        "symbol": pa.array([f"S{number}/USDT" for number in range(symbols)]),
        "bar_date": pa.repeat(start.date(), symbols),
        "trades": pa.repeat(trades, symbols),
    }
    for field in table_io.arrow_schema(GOLD_BARS_1M):
        if field.name in columns:
            continue
        if pa.types.is_timestamp(field.type):
            columns[field.name] = pa.repeat(pa.scalar(start, field.type), symbols)
        elif pa.types.is_boolean(field.type):
            columns[field.name] = pa.repeat(False, symbols)
        else:
            columns[field.name] = numbers.cast(pa.decimal128(19, 0)) if pa.types.is_decimal(field.type) else numbers
    return pa.table({name: columns[name] for name in GOLD_BARS_1M.column_names}).cast(
        table_io.arrow_schema(GOLD_BARS_1M)
    )


def _messages(count: int) -> pa.Table:
    """Messages of the benchmarks' tape, as in one Kafka partition."""
    keys, values = zip(*Tape(duplicates=0).take(count), strict=True)
    columns = {
        "topic": pa.repeat("trades", count),
        "partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "offset": pa.array(np.arange(count)),
        "ts_kafka": pa.repeat(START, count),
        "ts_type": pa.repeat(0, count),
        "key": pa.array(keys, pa.binary()),
        "value_raw": pa.array(values, pa.binary()),
        "ingest_date": pa.repeat(START.date(), count),
    }
    schema = table_io.arrow_schema(BRONZE_MESSAGES)
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks steps", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args(arguments)
