"""The peers: the processes of each, and how its result is counted afterwards, outside the measured time."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable, QueryBuilder

from benchmarks.machine import QUIX_PYTHON
from benchmarks.meter import Cost, measured
from lakehouse.broker.topics import end_offsets
from lakehouse.lake import table_io
from lakehouse.runtime.jars import spark_jars
from lakehouse.runtime.java import find_java
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES

#: Rows of Silver and sum of the trades of all 1-minute bars; None where a peer has none.
Counts = tuple[int | None, int | None]

#: Seconds until a peer is taken for stuck.
TIMEOUT_SECONDS = 3600.0
#: Seconds to read the bars that Quix has written; there are some ten thousands at most.
COUNT_SECONDS = 120.0


@dataclass(frozen=True)
class Job:
    """The input of a peer."""

    settings: Settings
    messages: int
    out: Path  #: empty
    logs: Path  #: folder of what the processes say, and of what each has cost
    loop_batch: int = 200_000


@dataclass(frozen=True)
class Peer:
    """A peer: name, description, and its processes as (module, step) in order."""

    name: str
    title: str
    processes: tuple[tuple[str, str], ...]
    count: Callable[[Job], Counts]
    bounded: bool = False  #: gets a topic with the first of the messages only


def run_peer(peer: Peer, job: Job) -> list[Cost]:
    """Measure each process. Stops after the first that fails; its output is in `logs`."""
    costs = []
    for module, step in peer.processes:
        python = str(QUIX_PYTHON) if module.startswith("quix") else sys.executable
        command = [python, "-m", f"benchmarks.peers.{module}"]
        if module != "ours":
            command += ["--bootstrap", job.settings.bootstrap(), "--topic", job.settings.topic_trades]
            command += ["--messages", str(job.messages), "--out", str(job.out)]
            command += ["--step", step or _bars_topic(job), "--batch", str(job.loop_batch)]
        log = job.logs / f"{job.out.name}{'-' if step else ''}{step}.log"
        costs.append(measured(command, log, environment(peer, job), TIMEOUT_SECONDS))
        if costs[-1].exit_code != 0:
            break
    return costs


def last_words(job: Job) -> str:
    """The last line of output of a failed peer."""
    logs = sorted(job.logs.glob(f"{job.out.name}*.log"), key=lambda log: log.stat().st_mtime)
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").strip().splitlines() if logs else []
    telling = [line for line in lines if "OutOfMemoryError" in line or "Error:" in line or "Exception:" in line]
    return (telling or lines or ["it said nothing"])[-1].strip()[:300]


def environment(peer: Peer, job: Job) -> dict[str, str]:
    """The environment of a peer: without the caller's settings; ours gets its own, Spark scripts get Java and jars."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "SPARK_"))}
    for name in ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS"):
        if name in os.environ:
            variables[name] = os.environ[name]
    variables["PYTHONUNBUFFERED"] = "1"
    if peer.name == "ours":
        return variables | our_settings(job).environment()
    if any(module.startswith("spark") for module, _ in peer.processes):
        return variables | {
            "JAVA_HOME": str(find_java(for_spark=True).parent.parent),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "BENCH_SPARK_MASTER": job.settings.spark_master,
            "BENCH_SPARK_JARS": ",".join(str(jar) for jar in spark_jars()),
            "BENCH_SCRATCH": str(job.out / "warehouse"),
        }
    return variables


def our_settings(job: Job) -> Settings:
    """Create an empty lake of ours on the shared topic."""
    return load_settings(home=job.out, bootstrap_servers=job.settings.bootstrap())


def _bars_topic(job: Job) -> str:
    return f"bars-{job.out.parent.name}-{job.out.name}"


# The results.


def _ours(job: Job) -> Counts:
    settings = our_settings(job)
    return (
        table_io.row_count(table_io.open_table(settings, SILVER_TRADES)),
        _sum_of_trades(table_io.open_table(settings, GOLD_BARS_1M)),
    )


def _delta(job: Job) -> Counts:
    return table_io.row_count(DeltaTable(job.out / "silver")), _sum_of_trades(DeltaTable(job.out / "gold"))


def _nothing(_job: Job) -> Counts:
    return None, None


def _sum_of_trades(bars: DeltaTable) -> int:
    rows = QueryBuilder().register("bars", bars).execute("SELECT CAST(sum(trades) AS BIGINT) AS n FROM bars").read_all()
    return int(rows["n"][0].as_py() or 0)


def _topic(job: Job) -> Counts:
    """Count Quix's bars, without windows that no later trade has closed."""
    topic = _bars_topic(job)
    ends = end_offsets(job.settings.bootstrap(), [topic])[topic]
    left = sum(ends.values())
    consumer = Consumer(
        {
            "bootstrap.servers": job.settings.bootstrap(),
            "group.id": f"count-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
        }
    )
    # By assignment: a group would take seconds to form, and then a silent topic and a slow one look the same.
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    trades, deadline = 0, time.monotonic() + COUNT_SECONDS
    try:
        while left > 0 and time.monotonic() < deadline:
            batch = consumer.consume(min(left, 10_000), timeout=1.0)
            left -= len(batch)
            trades += sum(
                msgspec.json.decode(message.value() or b"{}").get("value", {}).get("trades", 0) for message in batch
            )
    finally:
        consumer.close()
    if left > 0:
        raise TimeoutError(f"{left} bars of {topic} could not be read within {COUNT_SECONDS:g} s")
    return None, trades


def _parquet_and_topic(job: Job) -> Counts:
    """Count Quix's Silver, which is a folder of Parquet files."""
    files = (job.out / "silver").rglob("*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files), _topic(job)[1]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", "this lakehouse: Bronze, Silver, Gold, all guarantees", (("ours", ""),), _ours),
        Peer(
            "spark",
            "a tutorial's three Spark scripts, one after the other",
            tuple(("spark_scripts", step) for step in ("bronze", "silver", "gold")),
            _delta,
        ),
        Peer("loop", "hand-written loop: confluent-kafka, polars, delta-rs; no guarantees", (("loop", ""),), _delta),
        Peer("quix", "Quix Streams, 1-minute bars only, Kafka to Kafka", (("quix", ""),), _topic, bounded=True),
        Peer(
            "quix-layers",
            "Quix Streams: messages and trades kept in Parquet, no repeats, a bar per venue and symbol",
            (("quix_layers", ""),),
            _parquet_and_topic,
            bounded=True,
        ),
        Peer("consumer", "floor: a Python consumer that only counts", (("consumer", ""),), _nothing),
        Peer("noop", "floor: Spark from Kafka to nothing", (("spark_noop", "noop"),), _nothing),
    )
}
