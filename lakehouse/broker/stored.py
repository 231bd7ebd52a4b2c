"""Read the end offsets of an embedded Kafka that does not run, from a file that Kafka keeps.

Kafka writes the high watermark of each partition (with one replica, the offset after its newest message) into
`replication-offset-checkpoint` every five seconds and at an orderly stop. Source: Apache Kafka 4,
`replica.high.watermark.checkpoint.interval.ms`; the file has a version, a count, then `topic partition offset` a line.
Limit: after a kill the last five seconds may be missing from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lakehouse.broker.home import BrokerHome

_FILE = "replication-offset-checkpoint"
_VERSION = "0"


def stored_end_offsets(folder: Path, topics: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return topic → partition → offset after the newest message, of the embedded broker whose home is `folder`.

    Topics other than `topics` are left out. Empty if no broker has run there, or its file has another form.
    """
    try:
        version, _, *lines = (BrokerHome(folder).data / _FILE).read_text(encoding="utf-8").splitlines()
        rows = [line.rsplit(" ", 2) for line in lines]
        found: dict[str, dict[int, int]] = {}
        for topic, partition, offset in rows:
            if topic in topics:
                found.setdefault(topic, {})[int(partition)] = int(offset)
    except (OSError, ValueError):
        return {}
    return found if version == _VERSION else {}
