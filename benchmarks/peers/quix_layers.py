"""Quix Streams with the results of all other peers: all messages, each trade once, bars by venue and symbol.

One application: its Parquet sink for Bronze (the message as it came) and for Silver, `group_by` to get to a key of
venue and symbol, a stateful filter by trade id against repeats, tumbling windows. At least once, its default; it has no
sink for Delta. Sinks write at each commit, every 5 seconds, its default, too.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from quixstreams import State
from quixstreams.sinks.community.file.local import LocalFileSink

from benchmarks.peers.quix import add, application, bars_topic, event_time, first
from benchmarks.peers.task import Task, task

#: Fields that are read of a message.
FIELDS = (
    "venue",
    "symbol",
    "native_symbol",
    "trade_id",
    "price",
    "size",
    "side",
    "ts_event",
    "ts_ingest",
    "source",
)


def message(text: str) -> dict[str, Any]:
    """A row of Bronze."""
    return {"value": text}


def trade(text: str) -> dict[str, Any]:
    """A row of Silver; the venue's own object stays in Bronze."""
    found = json.loads(text)
    return {field: found[field] for field in FIELDS}


def pair(found: dict[str, Any]) -> bytes:
    """The key as bytes: with any other type, the Parquet sink writes the whole item in its place."""
    return f"{found['venue']} {found['symbol']}".encode()


def is_new(found: dict[str, Any], seen: State) -> bool:
    """Return whether this id of the pair occurs for the first time."""
    name = str(found["trade_id"])
    if seen.exists(name):
        return False
    seen.set(name, 1)
    return True


def run(wanted: Task) -> None:
    """Run until `wanted.messages` messages are processed. `wanted.step` is the topic of the bars."""
    os.chdir(wanted.out)  # the sink takes no folder with a hyphen in its path
    app = application(wanted, wanted.topic)
    messages = app.dataframe(app.topic(wanted.topic, value_deserializer="string"))
    messages.apply(message).sink(LocalFileSink(directory="bronze", format="parquet"))
    trades = messages.apply(trade).set_timestamp(event_time)
    trades = trades.group_by(pair, "pair", key_serializer="bytes", key_deserializer="bytes")
    trades = trades.filter(is_new, stateful=True)
    trades.sink(LocalFileSink(directory="silver", format="parquet"))
    bars = trades.tumbling_window(timedelta(minutes=1)).reduce(reducer=add, initializer=first).final()
    bars.to_topic(bars_topic(app, wanted))
    app.run()


if __name__ == "__main__":
    run(task())
