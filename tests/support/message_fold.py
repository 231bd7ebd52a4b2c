"""Truth about a lake of the messages of `record_lake`: a fold in plain Python, and a comparison."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from lakehouse.audit.run import audit
from lakehouse.settings import Settings
from lakehouse.tables import (
    BRONZE_MESSAGES,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from tests.support.gold_reference import Row
from tests.support.gold_verdict import assert_gold_equals_reference, rows_of
from tests.support.record_lake import Sent
from tests.support.truth import SHOWN_DIFFERENCES, assert_bars_equal_fold

Place = tuple[str, int, int]


@dataclass
class Truth:
    """The trades that Silver must hold, by key; the rule of each message in quarantine and the events, by place."""

    trades: dict[tuple[str, str, int], Row] = field(default_factory=dict)
    quarantine: dict[Place, str] = field(default_factory=dict)
    events: dict[Place, Row] = field(default_factory=dict)
    duplicates: int = 0


def place_of(sent: Sent) -> Place:
    """Topic, partition and offset."""
    return sent.message.topic, sent.partition, sent.offset


def lax_fields(value: bytes) -> Row:
    """The fields of a message, also of the forms that are JSON only for a lax reader."""
    return dict(json.JSONDecoder().raw_decode(value.decode(errors="replace").replace("'", '"'))[0])


def fold(messages: Iterable[Sent], strict_from: int) -> Truth:
    """Fold messages in the order of sending; those of stages before `strict_from` were read by a lax reader."""
    truth = Truth()
    for sent in messages:
        message, place = sent.message, place_of(sent)
        expected = message.expected
        if expected == "lax":
            expected = "trade" if message.stage < strict_from else "not_json"
        if expected == "event":
            truth.events[place] = json.loads(message.value or b"")
        elif expected in ("trade", "conflict"):
            _take(truth, sent, lax_fields(message.value or b""))
        else:
            truth.quarantine[place] = expected
    return truth


def _take(truth: Truth, sent: Sent, fields: Row) -> None:
    price, size = Decimal(fields["price"]), Decimal(fields["size"])
    topic, partition, offset = place_of(sent)
    lineage = {"kafka_topic": topic, "kafka_partition": partition, "kafka_offset": offset}
    row = fields | {"price": price, "size": size, "ts_kafka": sent.ts_kafka * 1000} | lineage
    del row["raw"]
    first = truth.trades.setdefault((fields["venue"], fields["symbol"], fields["trade_id"]), row)
    if first is row:
        return
    if all(first[name] == row[name] for name in ("price", "size", "side", "ts_event")):
        truth.duplicates += 1
    else:
        truth.quarantine[place_of(sent)] = "conflict"


def ledger(truth: Truth) -> list[tuple[Any, ...]]:
    """Venue, symbol, first and last id, state and repaired ids of each range, by these."""
    ids: dict[tuple[str, str], dict[int, str]] = {}
    for event in truth.events.values():
        if event["event"] in ("gap_opened", "gap_unavailable"):
            states = ids.setdefault((event["venue"], event["symbol"]), {})
            for number in range(event["first_id"], event["last_id"] + 1):
                if event["event"] == "gap_unavailable" or number not in states:
                    states[number] = "unavailable" if event["event"] == "gap_unavailable" else "open"
    for venue, symbol, number in truth.trades:
        ids.setdefault((venue, symbol), {})[number] = "present"
    found: list[tuple[Any, ...]] = []
    for (venue, symbol), states in ids.items():
        ranges: list[list[Any]] = []
        for number in range(min(states), max(states) + 1):
            state = states.get(number, "open")
            if ranges and ranges[-1][2] == state:
                ranges[-1][1] = number
            else:
                ranges.append([number, number, state, 0])
            if state == "present" and truth.trades[venue, symbol, number]["source"] == "repair":
                ranges[-1][3] += 1
        found += [(venue, symbol, *one) for one in ranges]
    return sorted(found)


def _only(row: Row, names: Iterable[str]) -> Row:
    return {name: row[name] for name in names}


def by_key(settings: Settings, table: Any) -> dict[tuple[Any, ...], Row]:
    """All rows of a table by key; every key once."""
    rows = rows_of(settings, table)
    found = {tuple(row[name] for name in table.key): row for row in rows}
    assert len(found) == len(rows), f"{table.path}: keys more than once"
    return found


def assert_same(what: str, found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> None:
    """Check that two mappings are equal; the error names the first differences."""
    differences = [
        f"{key}: found {found.get(key)}, expected {wanted.get(key)}"
        for key in sorted({*found, *wanted})
        if key not in found or key not in wanted or found[key] != wanted[key]
    ]
    assert not differences, "\n  ".join([f"{what}: {len(differences)} differences", *differences[:SHOWN_DIFFERENCES]])


def assert_lake_is(settings: Settings, messages: list[Sent], strict_from: int) -> Truth:
    """Check every table against the fold of all messages in Kafka, and the audit; return the fold."""
    truth = fold(messages, strict_from)
    bronze = {key: (row["key"], row["value_raw"]) for key, row in by_key(settings, BRONZE_MESSAGES).items()}
    sent = {place_of(one): ((one.message.key or "").encode(), one.message.value) for one in messages}
    assert_same("bronze/messages", bronze, sent)

    silver = by_key(settings, SILVER_TRADES)
    columns = {name for row in truth.trades.values() for name in row}
    assert_same("silver/trades", {key: _only(row, columns) for key, row in silver.items()}, truth.trades)
    quarantine = by_key(settings, SILVER_QUARANTINE)
    assert_same("silver/quarantine", {key: row["rule"] for key, row in quarantine.items()}, truth.quarantine)
    events = by_key(settings, SILVER_FEED_EVENTS)
    assert_same("silver/feed_events", {key: _only(row, truth.events[key]) for key, row in events.items()}, truth.events)
    names = "venue", "symbol", "first_id", "last_id", "state", "repaired"
    assert [tuple(row[name] for name in names) for row in rows_of(settings, SILVER_CONTINUITY)] == ledger(truth)

    trades = sorted(truth.trades.values(), key=lambda row: (row["venue"], row["symbol"], row["trade_id"]))
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes, trades)
    assert_gold_equals_reference(settings, pa.Table.from_pylist(trades))

    report = audit(settings)
    assert report.faults == []
    figures = ("trades", "duplicates", "quarantined", "feed_events", "unaccounted", "missing")
    counts = [len(truth.trades), truth.duplicates, len(truth.quarantine), len(truth.events), 0, 0]
    assert [report.total(name) for name in figures] == counts
    assert (report.messages_not_yet, report.rows_not_yet) == (0, 0)
    return truth


def batches(settings: Settings) -> dict[tuple[str, str], list[Row]]:
    """Rows of ops/batches by query and generation, in the order of their numbers, which must begin at 0 without a gap.

    Each must begin where the one before it ended.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(settings, OPS_BATCHES):
        found.setdefault((row["query"], row["generation"]), []).append(row)
    for key, rows in found.items():
        rows.sort(key=lambda row: int(row["batch_id"]))
        assert [row["batch_id"] for row in rows] == list(range(len(rows))), key
        for before, after in itertools.pairwise(rows):
            start, end = json.loads(after["source_start"]), json.loads(before["source_end"])
            if key[0] == "bronze":  # a partition that has been added since begins at 0
                end = {topic: dict.fromkeys(start[topic], 0) | partitions for topic, partitions in end.items()}
            assert start == end, (key, before["batch_id"])
    return found


def rules(truth: Truth) -> Counter[str]:
    """Messages in quarantine by rule."""
    return Counter(truth.quarantine.values())
