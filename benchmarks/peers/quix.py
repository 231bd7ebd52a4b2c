"""Quix Streams: 1-minute OHLCV per symbol with the library's own idiom, Kafka to Kafka.

It runs in an environment of its own (it wants older versions than ours) and reads a topic of its own, with a part of
the messages. No Bronze, no Silver, no deduplication; the key is the symbol, so the venues share a bar. At least once,
its default. `quix_layers` makes what the other peers make.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from quixstreams import Application
from quixstreams.models import Topic, TopicConfig

from benchmarks.peers.task import Task, task

#: A bar's message has the time of its window, long ago: the broker's retention of 7 days would remove it at once.
KEEP = TopicConfig(num_partitions=1, replication_factor=1, extra_config={"retention.ms": "-1"})


def first(trade: dict[str, Any]) -> dict[str, Any]:
    """The bar of one trade."""
    price, size = float(trade["price"]), float(trade["size"])
    return {"open": price, "high": price, "low": price, "close": price, "volume": size, "trades": 1}


def add(bar: dict[str, Any], trade: dict[str, Any]) -> dict[str, Any]:
    """The bar with one more trade."""
    price = float(trade["price"])
    return {
        "open": bar["open"],
        "high": max(bar["high"], price),
        "low": min(bar["low"], price),
        "close": price,
        "volume": bar["volume"] + float(trade["size"]),
        "trades": bar["trades"] + 1,
    }


def event_time(value: Any, *_: Any) -> int:
    """Time of the trade, not of its message, in milliseconds since the epoch."""
    return int(value["ts_event"]) // 1000


class Bounded:
    """Stop the application after a number of messages of its last step; the library can only count outputs."""

    def __init__(self, messages: int, before: str | None) -> None:
        """Remember `before`, the topic of an earlier step."""
        self._left, self._before = messages, before
        self.app: Application | None = None

    def __call__(self, topic: str, _partition: int, _offset: int) -> None:
        self._left -= topic != self._before
        if self._left == 0 and self.app is not None:
            self.app.stop()


def application(wanted: Task, before: str | None = None) -> Application:
    """Run with default settings from the topic's beginning until `wanted.messages` messages after the step `before`."""
    bounded = Bounded(wanted.messages, before)
    bounded.app = Application(
        broker_address=wanted.bootstrap,
        consumer_group=wanted.step,
        auto_offset_reset="earliest",
        state_dir=str(wanted.out / "state"),
        on_message_processed=bounded,
    )
    return bounded.app


def bars_topic(app: Application, wanted: Task) -> Topic:
    """The topic of the bars."""
    return app.topic(wanted.step, value_serializer="json", config=KEEP)


def run(wanted: Task) -> None:
    """Run until `wanted.messages` messages are processed. `wanted.step` is the topic of the bars."""
    app = application(wanted)
    trades = app.topic(wanted.topic, value_deserializer="json", timestamp_extractor=event_time)
    bars = app.dataframe(trades).tumbling_window(timedelta(minutes=1)).reduce(reducer=add, initializer=first).final()
    bars.to_topic(bars_topic(app, wanted))
    app.run()


if __name__ == "__main__":
    run(task())
