"""Messages of Bronze for the judge, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import load_settings
from lakehouse.tables import BRONZE_MESSAGES
from lakehouse.transforms.message_judge import COLUMNS, Judged, judge
from tests.support.rows import utc
from tests.support.wire_messages import KAFKA_US

SETTINGS = load_settings()
_SCHEMA = pa.schema([arrow_schema(BRONZE_MESSAGES).field(name) for name in COLUMNS])


def in_bronze(values: Sequence[Any], topic: str = SETTINGS.topic_trades) -> pa.Table:
    """Messages with offsets from 0; what is not bytes or None is written as JSON."""
    rows = [
        {
            "topic": topic,
            "partition": 3,
            "offset": offset,
            "ts_kafka": utc(KAFKA_US),
            "key": b"key",
            "value_raw": value if value is None or isinstance(value, bytes) else json.dumps(value).encode(),
            "ingest_date": utc(KAFKA_US).date(),
        }
        for offset, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, _SCHEMA)


def judged(values: Sequence[Any], topic: str = SETTINGS.topic_trades) -> Judged:
    return judge(in_bronze(values, topic), SETTINGS)


def verdicts(values: Sequence[Any], topic: str = SETTINGS.topic_trades) -> list[tuple[str, str]]:
    """Rule and detail of each message; all of them must be bad."""
    rows = judged(values, topic).quarantine.to_pylist()
    assert [row["kafka_offset"] for row in rows] == list(range(len(values)))
    return [(row["rule"], row["detail"]) for row in rows]
