"""How far a table is behind its source: Bronze in messages behind Kafka, others in rows behind the table they read."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake.batch_log import Batch
from lakehouse.lake.table_io import open_table, row_count
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Topic → partition, as text → offset: the form of ops/batches.
Offsets = dict[str, dict[str, int]]


def end_offsets(bootstrap: str, topics: Sequence[str], timeout: float) -> Offsets:
    """Ask Kafka for the next offset of each partition, after its newest message; return topic → partition → offset.

    Raises BrokerUnavailableError if no broker answers within `timeout` seconds; at once if nobody listens.
    """
    from lakehouse.broker import topics as kafka

    _require_listener(bootstrap, timeout)
    return _as_in_batches(kafka.end_offsets(bootstrap, topics, timeout))


def offsets_since(bootstrap: str, topics: Sequence[str], since: float, timeout: float) -> Offsets:
    """Ask Kafka for the first message sent at `since` (epoch seconds) or later; return topic → partition → offset.

    The offset is −1 if there is no such message. Raises BrokerUnavailableError if no broker answers within `timeout`
    seconds; at once if nobody listens.
    """
    from lakehouse.broker import topics as kafka

    _require_listener(bootstrap, timeout)
    return _as_in_batches(kafka.offsets_since(bootstrap, topics, since, timeout))


def _as_in_batches(offsets: dict[str, dict[int, int]]) -> Offsets:
    return {topic: {str(partition): at for partition, at in places.items()} for topic, places in offsets.items()}


def _require_listener(bootstrap: str, timeout: float) -> None:
    """Fail at once if nobody listens; the Kafka client goes on trying until its timeout."""
    reason: OSError | ValueError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
            return
        except (OSError, ValueError) as error:
            reason = error
    raise BrokerUnavailableError(f"no Kafka broker listens at {bootstrap}: {reason}", "a running broker") from None


def kafka_lag(ends: Offsets, batch: Batch | None) -> int:
    """Count the messages in Kafka, up to the next offsets `ends`, that Bronze has not committed.

    `batch` is Bronze's newest batch; if it is None, all messages from offset 0 count.
    """
    done = batch.source_end if batch else {}
    return sum(
        max(0, end - int(done.get(topic, {}).get(partition, 0)))
        for topic, partitions in ends.items()
        for partition, end in partitions.items()
    )


def rows_behind(settings: Settings, source: Table, batch: Batch | None) -> int:
    """Count the rows of the source table that came after the version that a stream's newest `batch` had processed.

    Without a batch, all rows count. A version that was read only in part counts as not processed. The result is 0 if a
    rebuild has left the source with fewer rows than before.
    """
    rows = row_count(open_table(settings, source))
    if batch is None:
        return rows
    # The log does not say, for a version that was read in part, how much: all of it counts as ahead.
    done = batch.source_version if batch.whole else batch.source_version - 1
    return rows if done < 0 else max(0, rows - row_count(open_table(settings, source, done)))
