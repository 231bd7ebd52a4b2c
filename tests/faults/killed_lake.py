"""Two lakes of one topic for the storm over executors: an undisturbed catch-up, a comparison, a verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
from confluent_kafka import Producer
from deltalake import DeltaTable

from benchmarks.data import Tape
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.file_retention import KEPT_HOURS, delete_files
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_TRADES, Table
from tests.faults.system import child_variables
from tests.support.demo_tools import lakehouse
from tests.support.messages import NEW_YEAR, send

#: Columns in which two runs of the same may differ.
OWN = {"updated_at", "revision", "since", "trades_version"}
#: Tables whose files the works write. They only grow, so a file that the newest version lacks was never in them.
WORKS = (BRONZE_MESSAGES, SILVER_TRADES)
#: Microseconds of event time from trade to trade, over all symbols.
STEP_US = 2_000
CATCH_UP_SECONDS, AUDIT_SECONDS = 900.0, 600.0


def values(seed: int, messages: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of so many messages: trades, near and far repeats, conflicts, junk."""
    rng, kept = Random(seed), list[tuple[bytes, bytes]]()
    tape = Tape(seed, symbols=3, duplicates=0.02).take(messages, messages * STEP_US)
    for number in range(messages):
        key, value = next(tape)
        if number % 50 == 0:
            kept.append((key, value))
        elif number % 40 == 1:
            key, value = rng.choice(kept)
        elif number % 300 == 2:
            key, value = rng.choice(kept)
            value = value.replace(b'"size":"', b'"size":"7', 1)
        elif number % 900 == 3:
            value = b"junk"
        yield key, value


def fill(settings: Settings, seed: int, messages: int) -> None:
    """Send trades, and some rejected messages and feed events."""
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "linger.ms": 50})
    for number, (key, value) in enumerate(values(seed, messages)):
        producer.produce(settings.topic_trades, key=key, value=value)
        if number % 1_000 == 0:
            producer.flush(60)
    assert producer.flush(60) == 0
    event = {"venue": "binance", "event": "connected", "ts_event": NEW_YEAR, "connection_id": "c", "detail": ""}
    send(settings, settings.topic_feed_events, [event | {"connection_id": f"c{number}"} for number in range(50)])
    rejected = {"venue": "kraken", "reason": "not_json", "detail": "x", "raw": "x", "ts_ingest": NEW_YEAR}
    send(settings, settings.topic_rejected, [rejected] * 50)


def catch_up(settings: Settings) -> float:
    """Run `lakehouse stream --trigger available-now` to its end, and return its seconds."""
    began = time.monotonic()
    settings.home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "lakehouse", "stream", "--trigger", "available-now"],
        env=child_variables(settings.environment(), settings.home),
        capture_output=True,
        text=True,
        timeout=CATCH_UP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"the undisturbed catch-up ended with {done.returncode}: {done.stderr[-500:]}"
    return round(time.monotonic() - began, 1)


def compare(one: Settings, other: Settings) -> tuple[dict[str, int], list[str]]:
    """Return the rows of each table of the first lake, and a line for each that is not equal in the second."""
    counts, unlike = dict[str, int](), list[str]()
    for table in table_io.active_tables(one):
        if table.layer == "ops":
            continue
        wanted, found = _rows(one, table), _rows(other, table)
        counts[table.path] = wanted.num_rows
        if not wanted.equals(found):
            unlike.append(f"{table.path}: {_difference(wanted, found)}")
    twice = "SELECT query, batch_id FROM t GROUP BY query, generation, batch_id HAVING count(*) > 1"
    if doubles := table_io.sql(other, twice, t=OPS_BATCHES).to_pylist():
        unlike.append(f"batches with two rows in ops/batches: {doubles[:3]}")
    return counts, unlike


def _rows(settings: Settings, table: Table) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in table.column_names if name not in OWN)
    order = ", ".join(f'"{name}"' for name in table.key)
    return table_io.sql(settings, f"SELECT {names} FROM t ORDER BY {order}", t=table)


def _difference(wanted: pa.Table, found: pa.Table) -> str:
    if wanted.num_rows != found.num_rows:
        return f"{found.num_rows:,} rows; expected {wanted.num_rows:,}"
    names = [name for name in wanted.column_names if not wanted.column(name).equals(found.column(name))]
    for one, other in zip(wanted.to_pylist(), found.to_pylist(), strict=True):
        if one != other:
            return f"columns {names} differ, first {other}; expected {one}"
    return f"columns {names} differ in their types"


def files_of_nobody(settings: Settings, table: Table) -> list[Path]:
    """Data files of a table that only grows which its newest version does not name."""
    uri = table_io.table_uri(settings, table)
    named = {Path(path.removeprefix("file://")) for path in DeltaTable(uri).file_uris()}
    return [path for path in Path(uri).rglob("*.parquet") if "_delta_log" not in path.parts and path not in named]


def delete_files_of_nobody(settings: Settings) -> dict[str, int]:
    """Let `file_retention` delete what the kills have left, and return its number by table.

    AssertionError if young files go, or old ones stay. Files that versions name are looked at by the audit.
    """
    found: dict[str, int] = {}
    for table in WORKS:
        files = files_of_nobody(settings, table)
        found[table.path] = len(files)
        delete_files(settings, table, KEPT_HOURS, ())
        assert set(files) == set(files_of_nobody(settings, table)), f"{table.path}: young files were deleted"
        for file in files:
            os.utime(file, (time.time() - 2 * KEPT_HOURS * 3_600,) * 2)
        delete_files(settings, table, KEPT_HOURS, ())
        left = files_of_nobody(settings, table)
        assert not left, f"{table.path}: {len(left)} files of nobody stay, such as {left[0]}"
    return found


def assert_audit(settings: Settings) -> None:
    """`lakehouse audit`, as a user says it."""
    variables = child_variables(settings.environment(), settings.home)
    done = lakehouse("audit", cwd=settings.home, variables=variables, timeout=AUDIT_SECONDS)
    assert done.returncode == 0, f"lakehouse audit ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
