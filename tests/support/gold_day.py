"""A day of trades through Kafka, Spark and Delta into Gold, in many batches, and the comparison with the reference.

    python -m tests.support.gold_day --trades 5000000 --seed 1 [--rebuild] [--home FOLDER]

The trades come as a bad day brings them: twice, hours late, or only in the end, by a repair (`gold_market`). After each
part of them every table is brought up to date, so that late trades meet older bars. With --rebuild the day is then
rebuilt, which must change nothing; Gold is damaged, rebuilt, and compared again. The exit code is 0 only if
everything was equal. Run it with a small --trades first: it takes the machine for as long as it lasts.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
from confluent_kafka import Producer
from deltalake import write_deltalake

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import arrow_schema, open_table, sql
from lakehouse.settings import BAR_SIZES, Settings, load_settings
from lakehouse.streams.materialize import materialize
from lakehouse.tables import SILVER_TRADES, Table
from tests.support.gold_market import DAY, Market
from tests.support.gold_verdict import assert_gold_equals_reference, gold_tables

Say = Callable[[str], None]
Counts = tuple[int, int, int]

#: Seconds for the last messages to be acknowledged; the queue holds a second of them.
FLUSH_SECONDS = 60.0

#: Values that damage writes into a table: column → SQL.
LIE = {"close": "close + CAST(1 AS DECIMAL(38, 18))"}
LIES = {"moves": {"trades": "trades + 1"}, "spreads_1m": {"venues": "CAST(venues + 1 AS INT)"}}


class DayRun:
    """One day on one lakehouse, whose topics and tables are empty. `seconds` has what each phase took."""

    def __init__(self, settings: Settings, market: Market, record: Path, say: Say = lambda _: None) -> None:
        self.settings, self.market, self.record = settings, market, record
        self.seconds: dict[str, float] = {}
        self._say = say

    def play(self, parts: int) -> None:
        """Send the record first, then the messages in parts, each followed by a catch-up of every table."""
        ensure_topics(self.settings)
        with self._phase("record"):
            self.market.write_record(self.record)
        total = len(self.market.order)
        for part in range(parts):
            first, last = total * part // parts, total * (part + 1) // parts
            with self._phase("kafka"):
                self._produce(first, last)
            with self._phase("tables"):
                materialize(self.settings)
            self._say(f"part {part + 1} of {parts}: {last - first:,} messages")

    def compare(self) -> dict[str, int]:
        """Compare Silver with the record, then every Gold table with the reference; return the rows of each table."""
        with self._phase("silver compared"):
            compare_silver(self.settings, self.record)
        with self._phase("gold compared"):
            return assert_gold_equals_reference(self.settings, self.record)

    def rebuild(self) -> None:
        """Rebuild without any change, damage Gold, rebuild again, and compare."""
        changed = {path: counts for path, counts in self._rebuild("idle").items() if any(counts)}
        assert not changed, f"a rebuild of right tables changed them (inserted, updated, deleted): {changed}"
        damage = {table.path: damage_table(self.settings, table) for table in gold_tables(self.settings)}
        self._say(f"damaged (lost, falsified, added): {damage}")
        done = self._rebuild("repair")
        for path, (lost, falsified, added) in damage.items():
            inserted, updated, deleted = done[path]
            # A large day is rebuilt in slices: a long bar may be updated with each of them.
            fits = inserted == lost and updated >= falsified and deleted == added
            assert fits, f"{path}: lost, falsified, added {damage[path]}; inserted, updated, deleted {done[path]}"
        with self._phase("gold compared"):
            assert_gold_equals_reference(self.settings, self.record)

    def _rebuild(self, name: str) -> dict[str, Counts]:
        """Rebuild the day. Returns table path → rows inserted, updated, deleted."""
        rebuild = importlib.import_module("lakehouse.rebuild.gold")
        with self._phase(f"rebuild, {name}"):
            rows: dict[str, Any] = rebuild.rebuild_days(self.settings, DAY, DAY, run_id=f"gold-day-{name}").rows
        self._say(f"rebuilt ({name}): {rows}")
        counts = {path: (changes.inserted, changes.updated, changes.deleted) for path, changes in rows.items()}
        return {table.path: counts.get(table.path, (0, 0, 0)) for table in gold_tables(self.settings)}

    def _produce(self, first: int, last: int) -> None:
        # Idempotence keeps the order of a key, by which a duplicate comes after its trade.
        producer = Producer(
            {
                "bootstrap.servers": self.settings.bootstrap(),
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "log_level": 0,
            }
        )
        for key, value in self.market.messages(first, last):
            while True:
                try:
                    producer.produce(self.settings.topic_trades, value, key)
                    break
                except BufferError:  # the local queue is full
                    producer.poll(0.1)
        left = producer.flush(FLUSH_SECONDS)
        assert left == 0, f"{left} messages were not acknowledged in {FLUSH_SECONDS} s"

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def compare_silver(settings: Settings, record: Path) -> None:
    """Check that silver/trades is exactly the recorded trades; otherwise Gold cannot be right."""
    columns = "venue, symbol, trade_id, price, size, side, ts_event"
    silver = sql(settings, f"SELECT {columns} FROM t", t=SILVER_TRADES)
    place = silver.schema.get_field_index("ts_event")
    silver = silver.set_column(place, "ts_event", silver["ts_event"].cast(pa.int64()))
    same = " AND ".join(f"s.{name} = r.{name}" for name in columns.split(", "))
    with duckdb.connect() as connection:
        connection.register("silver", silver)
        connection.execute("CREATE VIEW record AS FROM read_parquet('{}')".format(str(record).replace("'", "''")))
        counts = "(SELECT count(*) FROM silver), (SELECT count(*) FROM record)"
        found = connection.execute(f"SELECT {counts}, count(*) FROM silver s JOIN record r ON {same}").fetchone()
    assert found is not None
    assert len(set(found)) == 1, "silver/trades has {:,} rows, the record {:,}; {:,} are the same".format(*found)


def damage_table(settings: Settings, table: Table) -> Counts:
    """Lose rows, falsify rows and add a row that nothing stands for, behind Gold's back.

    Returns how many were lost, falsified and added, which is nothing if the table is empty.
    """
    there = open_table(settings, table)
    rows = sql(settings, f"SELECT * FROM t ORDER BY {', '.join(table.key)}", t=table).select(table.column_names)
    if not rows.num_rows:
        return 0, 0, 0
    name = table.key[1]  # the symbol, of spreads the quote
    others = [row["bar_start"] for row in rows.to_pylist() if not row[name].startswith("BTC")]
    lost, falsified = 0, 0
    if others:
        # A plain TIMESTAMP literal is of nanoseconds, which Delta's kernel does not compare with its microseconds.
        start = f"arrow_cast('{others[len(others) // 2].isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
        lost = there.delete(f"bar_start = {start} AND {name} NOT LIKE 'BTC%'")["num_deleted_rows"]
    falsified = there.update(LIES.get(table.name, LIE), predicate=f"{name} LIKE 'BTC%'")["num_updated_rows"]
    alien = rows.slice(0, 1)
    alien = alien.set_column(alien.schema.get_field_index(name), name, pa.array(["ALIEN"]))
    write_deltalake(there, alien.cast(arrow_schema(table)), mode="append")
    return lost, falsified, 1


# ---------------------------------------------------------------------------------------------------- the command


class Peak:
    """Peak memory of this process and of its descendants, sampled every half second."""

    def __init__(self) -> None:
        self.own = self.below = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak", daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process(os.getpid())
        while not self._end.wait(0.5):
            below = 0
            for child in process.children(recursive=True):
                try:
                    below += child.memory_info().rss
                except psutil.Error:  # it ended in this moment
                    continue
            self.own, self.below = max(self.own, process.memory_info().rss), max(self.below, below)


def main(arguments: list[str] | None = None) -> int:
    """Run one seed; return 0 if all is equal, else 1 after the first differences."""
    options = _options(arguments)
    stamp = dt.datetime.now().strftime("%Y%m%dT%H%M%S")
    home: Path = options.home or Path(f".lakehouse/gold-day/seed-{options.seed}-{stamp}")
    if home.exists() and any(home.iterdir()):
        print(f"{home} is not empty; expected a new folder", file=sys.stderr)
        return 2
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:7.1f} s] {line}", flush=True)

    try:
        with Peak() as peak:
            _run(options, home, say)
            say(f"peak memory: {peak.own / 2**20:,.0f} MiB here, {peak.below / 2**20:,.0f} MiB in Kafka and Spark")
    except AssertionError as error:
        print(f"gold-day: {error}\nkept: {home}", file=sys.stderr)
        return 1
    except LakehouseError as error:
        print(f"gold-day: {' '.join(str(error).split())}\nkept: {home}", file=sys.stderr)
        return 1
    if options.home is None:
        shutil.rmtree(home)
    return 0


def _run(options: argparse.Namespace, home: Path, say: Say) -> None:
    market = Market(options.trades, options.seed)
    say(
        f"{len(market):,} trades of seed {options.seed}: {market.duplicates:,} duplicates, "
        f"{market.late:,} out of order, {sum(market.withheld):,} repaired in the end"
    )
    settings = load_settings(home=home, bar_sizes=BAR_SIZES)
    day = DayRun(settings, market, home / "record.parquet", say)
    with EmbeddedBroker(settings), _spark_ended():
        day.play(options.parts)
        rows = day.compare()
        say(f"equal to the reference: {', '.join(f'{path} {count:,}' for path, count in rows.items())}")
        if options.rebuild:
            day.rebuild()
            say("equal to the reference after damage and a rebuild")
    say("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in day.seconds.items()))


@contextmanager
def _spark_ended() -> Iterator[None]:
    try:
        yield
    finally:
        from pyspark.sql import SparkSession

        session = SparkSession.getActiveSession()
        if session is not None:
            session.stop()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.gold_day", description="Prove Gold on a seeded bad day."
    )
    parser.add_argument("--trades", type=int, default=100_000, help="true trades of the day (default 100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", type=int, default=10, help="of the messages, each with a catch-up (default 10)")
    parser.add_argument("--rebuild", action="store_true", help="rebuild the day, damage Gold, rebuild it again")
    parser.add_argument(
        "--home", type=Path, help="a new folder, which is kept; default: one that is removed if all is equal"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
