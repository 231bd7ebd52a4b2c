"""A small lake written batch by batch through deltalake, right by default, to be broken in one place. No test module.

It plays the streams in plain Python: messages go to Bronze, and each ends as a trade, a duplicate, a feed event or in
quarantine. A batch writes its tables, lets `breaking` at them, and only then writes the three rows of ops/batches with
the versions as they are: so what was broken is in the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import append_rows, arrow_schema, open_table
from lakehouse.settings import Settings
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.audit_messages import EVENTS, REJECTED, Message
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, message_row, range_row, trade_row, utc

FIGURES = ("in", "out", "duplicate", "quarantined", "feed_events")
Breaking = Callable[["AuditLake"], None]


@dataclass
class AuditLake:
    settings: Settings
    generation: str = "first"
    at: int = NOON_US
    offsets: dict[PartitionKey, int] = field(default_factory=dict)
    kept: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    unavailable: list[tuple[str, str, int, int]] = field(default_factory=list)
    batch_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    ends: dict[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, home: Path) -> AuditLake:
        return cls(empty_lake(home))

    def batch(
        self,
        batch: Iterable[Message],
        breaking: Breaking | None = None,
        edit: Callable[[dict[str, Any]], None] | None = None,
        books: tuple[str, ...] = ("bronze", "silver", "gold"),
    ) -> None:
        """One batch of each stream. `edit` changes the rows of ops/batches; only those of `books` are written."""
        self.at += 1_000_000
        batch = list(batch)
        start = self.kafka_position()
        rows = self._bronze(batch)
        counts, added = self._silver(rows)
        self._continuity()
        self._gold()
        if breaking is not None:
            breaking(self)
        self.write_books(start, counts, added, edit, books)

    def write_books(
        self,
        start: dict[str, dict[str, int]],
        counts: dict[PartitionKey, dict[str, int]],
        added: int,
        edit: Callable[[dict[str, Any]], None] | None = None,
        books: tuple[str, ...] = ("bronze", "silver", "gold"),
    ) -> None:
        read = {place: dict.fromkeys(FIGURES, 0) | {"in": n["in"], "out": n["in"]} for place, n in counts.items()}
        silver = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
        entries = [
            self._row("bronze", self.kafka_position(), read, (BRONZE_MESSAGES,), start),
            self._row("silver", {"version": self.version(BRONZE_MESSAGES), "complete": True}, counts, silver),
            self._row(
                "gold",
                {"version": self.version(SILVER_TRADES), "complete": True},
                {("", 0): {"in": added, "out": 0}},
                (GOLD_BARS_1M, GOLD_BARS_5M),
            ),
        ]
        for entry in entries:
            if entry["query"] == "gold":
                entry["partitions"] = None
            if edit is not None:
                edit(entry)
            if entry["query"] in books:
                append_rows(self.settings, OPS_BATCHES, [batch_row(entry.pop("query"), entry.pop("batch_id"), **entry)])

    def _row(
        self,
        query: str,
        end: dict[str, Any],
        counts: dict[PartitionKey, dict[str, int]],
        tables: tuple[Table, ...],
        start: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        life = query, self.generation
        number = self.batch_ids.get(life, -1) + 1
        self.batch_ids[life] = number
        begun = start if start is not None else self.ends.get(life, {"version": -1, "complete": True})
        self.ends[life] = end
        partitions: dict[str, dict[str, dict[str, int]]] = {}
        for (topic, partition), figures in counts.items():
            partitions.setdefault(topic, {})[str(partition)] = figures
        self.at += 1
        return {
            "query": query,
            "batch_id": number,
            "at": self.at,
            "generation": self.generation,
            "source_start": begun,
            "source_end": end,
            **{
                "rows_in" if figure == "in" else f"rows_{figure}": sum(one.get(figure, 0) for one in counts.values())
                for figure in FIGURES
            },
            "versions": {table.path: self.version(table) for table in tables},
            "partitions": partitions,
        }

    def kafka_position(self) -> dict[str, dict[str, int]]:
        position: dict[str, dict[str, int]] = {}
        for (topic, partition), following in self.offsets.items():
            position.setdefault(topic, {})[str(partition)] = following
        return position

    def _bronze(self, batch: list[Message]) -> list[tuple[Message, int]]:
        rows = []
        for message in batch:
            place = message.topic, message.partition
            offset = self.offsets.get(place, 0)
            self.offsets[place] = offset + 1
            rows.append((message, offset))
        if rows:
            append_rows(
                self.settings,
                BRONZE_MESSAGES,
                [
                    message_row(n, self.at, topic=one.topic, partition=one.partition, value_raw=one.raw)
                    for one, n in rows
                ],
            )
        return rows

    def _silver(self, rows: list[tuple[Message, int]]) -> tuple[dict[PartitionKey, dict[str, int]], int]:
        counts: dict[PartitionKey, dict[str, int]] = {}
        out: dict[Table, list[dict[str, Any]]] = {SILVER_TRADES: [], SILVER_QUARANTINE: [], SILVER_FEED_EVENTS: []}
        for message, offset in rows:
            figures = counts.setdefault((message.topic, message.partition), dict.fromkeys(FIGURES, 0))
            figures["in"] += 1
            kind, table, row = self.judge(message, offset)
            figures[kind] += 1
            if table is not None and row is not None:
                out[table].append(row)
        for table, found in out.items():
            if found:
                append_rows(self.settings, table, found)
        return counts, len(out[SILVER_TRADES])

    def judge(self, message: Message, offset: int) -> tuple[str, Table | None, dict[str, Any] | None]:
        lineage = {
            "kafka_topic": message.topic,
            "kafka_partition": message.partition,
            "kafka_offset": offset,
            "ts_kafka": utc(self.at),
        }
        value = message.value
        refused = {
            "detail": "",
            "venue": None,
            "symbol": None,
            "trade_id": None,
            "key": None,
            "value_raw": message.raw,
            "ingest_date": utc(self.at).date(),
            **lineage,
        }
        if message.topic == EVENTS:
            if value["event"] == "gap_unavailable":
                self.unavailable.append((value["venue"], value["symbol"], value["first_id"], value["last_id"]))
            row = {"symbol": None, "first_id": None, "last_id": None, "detail": "", **value, **lineage}
            row |= {"ts_event": utc(value["ts_event"]), "event_date": utc(value["ts_event"]).date()}
            return "feed_events", SILVER_FEED_EVENTS, row
        if message.topic == REJECTED:
            return "quarantined", SILVER_QUARANTINE, refused | {"rule": f"rejected:{value['reason']}"}
        if isinstance(value, bytes):
            return "quarantined", SILVER_QUARANTINE, refused | {"rule": "not_json"}
        key = value["venue"], value["symbol"], value["trade_id"]
        there = self.kept.get(key)
        if there is None:
            self.kept[key] = value
            columns = {name: value[name] for name in ("venue", "symbol", "native_symbol", "side", "source")}
            return (
                "out",
                SILVER_TRADES,
                trade_row(
                    value["trade_id"],
                    value["ts_event"],
                    **columns,
                    price=Decimal(value["price"]),
                    size=Decimal(value["size"]),
                    ts_ingest=utc(value["ts_ingest"]),
                    **lineage,
                ),
            )
        same = all(Decimal(there[name]) == Decimal(value[name]) for name in ("price", "size"))
        if same and there["side"] == value["side"] and abs(there["ts_event"] - value["ts_event"]) < 1_000:
            return "duplicate", None, None
        return "quarantined", SILVER_QUARANTINE, refused | {"rule": "conflict"}

    def ids(self) -> dict[tuple[str, str], IdRanges]:
        found: dict[tuple[str, str], IdRanges] = {}
        for venue, symbol, trade_id in self.kept:
            found.setdefault((venue, symbol), IdRanges()).add(trade_id, trade_id)
        return found

    def ledger(self) -> list[dict[str, Any]]:
        """The rows of silver/continuity, as they should be."""
        rows = []
        for (venue, symbol), ids in sorted(self.ids().items()):
            gone = IdRanges((first, last) for v, s, first, last in self.unavailable if (v, s) == (venue, symbol))
            tiles = [(first, last, "present") for first, last in ids]
            for first, last in ids.missing(ids.lowest or 0, ids.highest or 0):
                tiles += [(a, b, "unavailable") for a, b in gone.within(first, last)]
                tiles += [(a, b, "open") for a, b in gone.missing(first, last)]
            rows += [self.ledger_row(venue, symbol, *tile) for tile in sorted(tiles)]
        return rows

    def ledger_row(self, venue: str, symbol: str, first: int, last: int, state: str) -> dict[str, Any]:
        by_rest = sum(
            value["source"] == "repair" and (v, s) == (venue, symbol) and first <= trade_id <= last
            for (v, s, trade_id), value in self.kept.items()
        )
        tried = {"tries": 1, "last_try": utc(self.at)} if state == "unavailable" else {}
        columns = {"venue": venue, "symbol": symbol, "repaired": by_rest if state == "present" else 0, **tried}
        return range_row(first, last, state, since=utc(self.at), trades_version=self.version(SILVER_TRADES), **columns)

    def _continuity(self) -> None:
        self.overwrite(SILVER_CONTINUITY, self.ledger())

    def _gold(self) -> None:
        ids = self.ids()
        for table, minutes in ((GOLD_BARS_1M, 1), (GOLD_BARS_5M, 5)):
            bars: dict[tuple[str, str, int], list[int]] = {}
            for (venue, symbol, trade_id), value in self.kept.items():
                start = value["ts_event"] - value["ts_event"] % (minutes * 60_000_000)
                bars.setdefault((venue, symbol, start), []).append(trade_id)
            rows = [
                bar_row(
                    start,
                    venue=venue,
                    symbol=symbol,
                    open=Decimal(self.kept[venue, symbol, min(found)]["price"]),
                    close=Decimal(self.kept[venue, symbol, max(found)]["price"]),
                    trades=len(found),
                    first_trade_id=min(found),
                    last_trade_id=max(found),
                    complete=ids[venue, symbol].covers(min(found) - 1, max(found) + 1),
                )
                for (venue, symbol, start), found in bars.items()
            ]
            self.overwrite(table, rows)

    # For breaking.

    def version(self, table: Table) -> int:
        return open_table(self.settings, table).version()

    def open(self, table: Table) -> DeltaTable:
        return open_table(self.settings, table)

    def append(self, table: Table, *rows: dict[str, Any]) -> None:
        append_rows(self.settings, table, list(rows))

    def overwrite(self, table: Table, rows: list[dict[str, Any]]) -> None:
        data = pa.Table.from_pylist(rows, schema=arrow_schema(table))
        write_deltalake(self.open(table), data, mode="overwrite")

    def delete(self, table: Table, where: str) -> None:
        assert self.open(table).delete(where)["num_deleted_rows"] > 0

    def update(self, table: Table, where: str, **changes: str) -> None:
        assert self.open(table).update(updates=changes, predicate=where)["num_updated_rows"] > 0
