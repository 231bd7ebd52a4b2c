"""Times of live trades, of their receipt, and of their arrival in Kafka, from Silver and from quarantine. No JVM.

If this machine's clock is behind by more than the tolerance, every trade goes into quarantine, so both tables are
needed to judge the clock. Only trades straight from a socket count: a repaired, snapshot or replayed trade happened
long before.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES

#: Name of the rule that a message fails if its event or receipt time lies too far after Kafka's time. It is the last
#: rule, so a message that fails it has met all others.
FUTURE_RULE = "event_in_the_future"

#: Most microseconds between receipt and Kafka's time of a trade that came straight from a socket. The producer's queue
#: is seldom full for longer.
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
    """Return True if a trade came straight from a socket: its source is live, and receipt and Kafka's time are near.

    `ingest` (receipt) and `kafka` are microseconds since the epoch; near means at most AT_ONCE apart.
    """
    return source == "live" and abs(kafka - ingest) <= AT_ONCE


def received(settings: Settings, where: str) -> pa.Table:
    """Read the trades in silver/trades that came straight from a socket and meet `where`, a SQL condition.

    Columns: venue; `event`, `ingest` and `kafka`, the times of trade, receipt and Kafka in microseconds since the
    epoch; Kafka's `partition` and `offset`.
    """
    query = f"""
        SELECT venue, CAST(ts_event AS BIGINT) AS event, CAST(ts_ingest AS BIGINT) AS ingest,
               CAST(ts_kafka AS BIGINT) AS kafka, kafka_partition AS "partition", kafka_offset AS "offset"
        FROM t WHERE source = 'live' AND ({where})
          AND abs(CAST(ts_kafka AS BIGINT) - CAST(ts_ingest AS BIGINT)) <= {AT_ONCE}
    """
    return table_io.sql(settings, query, t=SILVER_TRADES).cast(_SCHEMA)


def refused(settings: Settings, where: str = "TRUE") -> pa.Table:
    """Read the trades straight from a socket that FUTURE_RULE put into quarantine, replayed or not.

    FUTURE_RULE refuses a time in the future. Trades whose text has another form than ingest writes are left out.
    `where` is a SQL condition on silver/quarantine; the columns are those of `received`. Empty if the table does not
    exist.
    """
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
