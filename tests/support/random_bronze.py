"""Random messages in bronze/messages, commit by commit, and what Silver is of them, in plain Python. No test module.

They have trades in any order and partition, repeats, other contents, other times, junk, and feed events.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.messages import NEW_YEAR, trade
from tests.support.rows import message_row

Row = dict[str, Any]
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000


class Bronze:
    """Messages in Bronze, commit by commit, each partition's offsets rising; `read` has them in the log's order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.read: list[Row] = []
        self._next: Counter[tuple[str, int]] = Counter()

    def commit(self, *messages: tuple[str, int, Any], day: int = 0) -> None:
        """One commit of (topic, partition, value)."""
        rows = []
        for topic, partition, value in messages:
            raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            offset = self._next[topic, partition]
            self._next[topic, partition] += 1
            at = NEW_YEAR + day * DAY_US
            rows.append(message_row(offset, at=at, topic=topic, partition=partition, value_raw=raw))
        rows.sort(key=lambda row: (row["topic"], row["partition"], row["offset"]))
        with BulkAppend(self.settings, BRONZE_MESSAGES, in_order=True) as append:
            append.add(pa.Table.from_pylist(rows, schema=table_io.arrow_schema(BRONZE_MESSAGES)))
            append.commit_alone()
        self.read += rows

    def version(self) -> int:
        return table_io.open_table(self.settings, BRONZE_MESSAGES).version()


def filled(bronze: Bronze, seed: int, commits: int = 12) -> None:
    """Trades in any order and partition, repeats, other contents, other times, junk, and feed events."""
    rng = random.Random(seed)
    topic, events = bronze.settings.topic_trades, bronze.settings.topic_feed_events
    for day in range(commits):
        messages: list[tuple[str, int, Any]] = []
        for _ in range(rng.randrange(1, 60)):
            number = rng.randrange(1, 120)
            fields: Row = {"trade_id": number, "ts_event": NEW_YEAR + number * 2 * MINUTE_US - DAY_US}
            fields |= rng.choice([{}, {}, {}, {}, {"price": "1.5"}, {"side": "sell"}, {"size": "0.0010"}])
            fields["ts_event"] += rng.choice([0, 0, 0, 999, 1_000, 7 * MINUTE_US])
            fields |= rng.choice([{}, {"venue": "kraken"}])
            messages.append((topic, rng.randrange(4), trade(**fields)))
        messages += [(topic, rng.randrange(4), value) for value in (b"junk", None)]
        gap = {"venue": "binance", "event": "gap_opened", "ts_event": NEW_YEAR, "connection_id": "c"}
        messages.append((events, 0, gap | {"symbol": "BTC/USDT", "first_id": 200, "last_id": 200 + day, "detail": ""}))
        messages.append((events, 1, b"junk"))
        rng.shuffle(messages)
        bronze.commit(*messages, day=day // 3)


def expected(bronze: Bronze) -> tuple[dict[Any, Any], dict[Any, str]]:
    """Key → what is kept with its place in Kafka; place → rule. By messages in the log's order."""
    kept: dict[Any, tuple[Any, ...]] = {}
    refused: dict[Any, str] = {}
    for row in bronze.read:
        place = row["topic"], row["partition"], row["offset"]
        if row["topic"] != bronze.settings.topic_trades:
            if row["value_raw"] == b"junk":
                refused[place] = "not_json"
            continue
        if row["value_raw"] in (None, b"junk"):
            refused[place] = "not_json" if row["value_raw"] else "no_value"
            continue
        value = json.loads(row["value_raw"])
        content = Decimal(value["price"]), Decimal(value["size"]), value["side"]
        key = value["venue"], value["symbol"], value["trade_id"]
        if key not in kept:
            kept[key] = *content, value["ts_event"], *place
        elif kept[key][:3] != content or abs(kept[key][3] - value["ts_event"]) >= 1_000:
            refused[place] = "conflict"
    return kept, refused
