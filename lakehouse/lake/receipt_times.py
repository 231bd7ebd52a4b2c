"""When live trades happened, when they were received, and when Kafka got them: from Silver and from quarantine. No JVM.

A clock that is slower than the tolerance sends every trade into quarantine, so both tables tell of a clock.
Only what came straight from a socket counts: a repaired, a snapshot's or a replayed trade happened long before.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES

#: The rule that a message fails whose times lie too far after Kafka's. It is the last one: all others are met.
FUTURE_RULE = "event_in_the_future"

#: Microseconds from receipt to Kafka of what comes from a socket; the producer's queue is seldom full for longer.
AT_ONCE = 5_000_000

#: `event`, `ingest` and `kafka` are microseconds since the epoch; `partition` and `offset` are Kafka's.
_NUMBERS = ("event", "ingest", "kafka", "partition", "offset")
_FIELDS: list[pa.Field[Any]] = [pa.field("venue", pa.string()), *(pa.field(name, pa.int64()) for name in _NUMBERS)]
_SCHEMA = pa.schema(_FIELDS)


class _Times(msgspec.Struct):
    venue: str
    ts_event: int
    ts_ingest: int
    source: str


_read_times = msgspec.json.Decoder(_Times, strict=False).decode  # a number may be written as a text


def is_from_socket(source: str, ingest: int, kafka: int) -> bool:
    """True if a trade, received and in Kafka at these microseconds, came straight from a socket."""
    return source == "live" and abs(kafka - ingest) <= AT_ONCE


def received(settings: Settings, where: str) -> pa.Table:
    """Live trades in Silver that meet a SQL condition: venue, event, ingest, kafka, partition, offset."""
    query = f"""
        SELECT venue, CAST(ts_event AS BIGINT) AS event, CAST(ts_ingest AS BIGINT) AS ingest,
               CAST(ts_kafka AS BIGINT) AS kafka, kafka_partition AS "partition", kafka_offset AS "offset"
        FROM t WHERE source = 'live' AND ({where})
          AND abs(CAST(ts_kafka AS BIGINT) - CAST(ts_ingest AS BIGINT)) <= {AT_ONCE}
    """
    return table_io.sql(settings, query, t=SILVER_TRADES).cast(_SCHEMA)


def refused(settings: Settings, where: str = "TRUE") -> pa.Table:
    """The same of the trades that are in quarantine for a time in the future, replayed since or not."""
    if not DeltaTable.is_deltatable(table_io.table_uri(settings, SILVER_QUARANTINE)):
        return _SCHEMA.empty_table()
    query = f"""
        SELECT value_raw, CAST(ts_kafka AS BIGINT) AS kafka, kafka_partition, kafka_offset
        FROM q WHERE rule = '{FUTURE_RULE}' AND ({where})
    """
    batches = table_io.sql_batches(settings, query, q=SILVER_QUARANTINE)
    return pa.concat_tables([_SCHEMA.empty_table(), *map(_times, batches)])


def _times(batch: pa.RecordBatch) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for value, kafka, partition, offset in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        try:
            times = _read_times(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # a feed event, or a trade that is written oddly
            continue
        if is_from_socket(times.source, times.ts_ingest, kafka):
            row = {"venue": times.venue, "event": times.ts_event, "ingest": times.ts_ingest}
            rows.append(row | {"kafka": kafka, "partition": partition, "offset": offset})
    return pa.Table.from_pylist(rows, _SCHEMA)
