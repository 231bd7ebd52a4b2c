"""Lower bound: Spark from Kafka to nothing. No Spark stream over this topic can be faster; includes the JVM's start."""

from __future__ import annotations

from benchmarks.peers.spark_scripts import bronze
from benchmarks.peers.spark_session import quickstart_session
from benchmarks.peers.task import Task, task


def run(wanted: Task) -> None:
    """Turn every message into a row and drop it."""
    (
        bronze(quickstart_session("noop"), wanted)
        .writeStream.format("noop")
        .option("checkpointLocation", str(wanted.out / "checkpoint"))
        .trigger(availableNow=True)
        .start()
        .awaitTermination()
    )


if __name__ == "__main__":
    run(task())
