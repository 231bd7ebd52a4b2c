"""Bytes per trade on disk, by table, as the streams leave them and after a compaction.

    python -m benchmarks disk --home FOLDER          of a lakehouse that has run, such as .lakehouse/demo
    python -m benchmarks disk --trades 1000000       of a catch-up made for it

Compaction (delta-rs, `optimize.compact` with its own defaults, so also with its own codec) works on a copy: the lake
itself is only read. Counted are the data files of the newest version, by the table's log; the log itself is counted
apart, as it is on disk.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable

from benchmarks import contenders, report
from benchmarks.contenders import PEERS, Job
from benchmarks.data import Tape
from benchmarks.home import RESULTS, ROOT, bench_home, fill
from benchmarks.machine import machine, machine_line
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import SILVER_TRADES

HEADERS = (
    "Table",
    "Rows",
    "Files",
    "Bytes a trade",
    "Log, bytes a trade",
    "Files, compacted",
    "Bytes a trade, compacted",
)


class Size(NamedTuple):
    """Size of the newest version of a table; `log_bytes` covers its whole log."""

    rows: int
    files: int
    data_bytes: int
    log_bytes: int


def size_of(table: DeltaTable, folder: Path) -> Size:
    """Read the size of the table in `folder` from its log."""
    actions = pa.table(table.get_add_actions(flatten=True))
    sizes: list[Any] = actions["size_bytes"].to_pylist() if actions.num_rows else []
    log = sum(file.stat().st_size for file in (folder / "_delta_log").rglob("*") if file.is_file())
    return Size(table_io.row_count(table), len(sizes), sum(sizes), log)


def main(arguments: list[str]) -> int:
    """Measure; exit code 1 if the catch-up failed, else 0."""
    options = _options(arguments)
    if options.home is not None:
        return _report(load_settings(home=options.home), options)
    with bench_home() as settings:
        messages, _ = fill(settings, Tape(options.seed, options.symbols).take(options.trades))
        job = Job(settings, messages, settings.home / "ours", settings.home)
        job.out.mkdir()
        (cost,) = contenders.run_peer(PEERS["ours"], job)
        if cost.exit_code != 0:
            print(contenders.last_words(job))
            return 1
        return _report(contenders.our_settings(job), options)


def _report(settings: Settings, options: argparse.Namespace) -> int:
    trades = table_io.row_count(table_io.open_table(settings, SILVER_TRADES))
    records = sizes(settings)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-disk"
    report.write_records(folder, {"machine": machine(), "trades": trades}, records)
    lines = [
        (
            record["table"],
            f"{record['rows']:,}",
            f"{record['files']:,}",
            f"{record['data_bytes'] / trades:,.1f}",
            f"{record['log_bytes'] / trades:,.1f}",
            f"{record['compacted_files']:,}",
            f"{record['compacted_bytes'] / trades:,.1f}",
        )
        for record in records
    ]
    report.show(lines, HEADERS, f"{trades:,} trades in Silver\n{machine_line()}")
    if options.write_docs:
        text = f"{trades:,} trades in Silver. {machine_line()}.\n\n" + report.markdown(lines, HEADERS)
        report.replace_block(ROOT / "docs" / "performance.md", "disk", text)
    return 0


def sizes(settings: Settings) -> list[dict[str, Any]]:
    """Return one record per table with rows: before, and as a compacted copy."""
    records = []
    for table in table_io.active_tables(settings):
        source = Path(table_io.table_uri(settings, table))
        before = size_of(table_io.open_table(settings, table), source)
        if not before.rows:
            continue
        with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
            copy = Path(scratch) / "table"
            shutil.copytree(source, copy)
            compacted = DeltaTable(copy)
            compacted.optimize.compact()
            after = size_of(DeltaTable(copy), copy)
        if after.rows != before.rows:
            raise ValueError(f"{table.path}: {before.rows} rows before compaction and {after.rows} after it")
        more = {"compacted_files": after.files, "compacted_bytes": after.data_bytes}
        records.append({"table": table.path} | before._asdict() | more)
    return records


def _scratch() -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks disk", description=__doc__)
    parser.add_argument("--home", type=Path, help="folder of a lakehouse that does not write at the moment")
    parser.add_argument("--trades", type=int, default=1_000_000, help="without --home (default 1000000)")
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args(arguments)
