"""Compare what the template takes with what Python and the JSON reader read. No test module."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.data import DAY_US
from lakehouse.settings import load_settings
from lakehouse.transforms import wire, wire_template
from tests.support.rows import utc
from tests.support.wire_messages import KAFKA_US
from tests.support.wire_mutations import Values

SETTINGS = load_settings()
FIELDS = list(wire_template.FIELDS)
NOTHING = wire_template.read(pa.chunked_array([], pa.binary()))


def taken(values: Any) -> dict[int, dict[str, Any]]:
    """Index → fields, for messages or an array of them."""
    chunks = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, pa.binary())])
    rows, places = wire_template.read(chunks)
    assert rows.schema.names == FIELDS[:-1]
    assert len(rows) == len(places)
    return dict(zip(places.tolist(), rows.to_pylist(), strict=True))


def recognised(values: Values, rows_of_chunk: int = 40) -> tuple[pa.Table, list[bool]]:
    messages = pa.table(
        {
            "topic": ["crypto.trades"] * len(values),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
            "ts_kafka": pa.array([utc(KAFKA_US + 10 * DAY_US)] * len(values), pa.timestamp("us", tz="UTC")),
            "value_raw": pa.array(values, pa.binary()),
        }
    )
    chunks = [messages.slice(start, rows_of_chunk) for start in range(0, len(values), rows_of_chunk)]
    found = wire.recognise(pa.concat_tables(chunks), SETTINGS)
    return found.trades.combine_chunks(), found.left.tolist()


def assert_reads_as_json(values: Values) -> int:
    """Check that Python's JSON reader reads the same object from each message that is taken; return their number."""
    found = taken(values)
    for place, row in found.items():
        pairs = json.loads(values[place] or b"", object_pairs_hook=list)
        assert [name for name, _ in pairs] == FIELDS
        assert dict(pairs[:-1]) == row
        assert isinstance(pairs[-1][1], str)
    return len(found)


def assert_same_without(values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the same trades result with and without the template."""
    trades, left = recognised(values)
    with monkeypatch.context() as patched:
        patched.setattr(wire_template, "read", lambda _: NOTHING)
        alone, left_alone = recognised(values)
    assert left == left_alone
    assert trades.schema.equals(alone.schema)
    assert trades.equals(alone)
