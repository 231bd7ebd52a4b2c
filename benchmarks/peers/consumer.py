"""Lower bound: a confluent-kafka consumer that only counts. No Python reader of this topic can be faster."""

from __future__ import annotations

from benchmarks.peers.kafka import batches
from benchmarks.peers.task import task

if __name__ == "__main__":
    wanted = task()
    count = sum(len(batch) for batch in batches(wanted))
    assert count == wanted.messages, f"read {count} of {wanted.messages} messages"
