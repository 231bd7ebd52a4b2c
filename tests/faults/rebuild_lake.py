"""The lake of `rebuild_killed`: what is sent to it, two sets of rules, and what readers of its tables can see.

The rules differ by a setting alone, so that the process under test is the real one: some messages are stamped by a
clock that is ahead of Kafka's, which STRICT refuses and LENIENT lets through.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.lake import table_io
from lakehouse.lake.table_io import active_tables, open_table
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.support.gold_verdict import assert_gold_equals_reference
from tests.support.messages import NEW_YEAR, send, trade, trades
from tests.support.silver_judge import Row, assert_exact, assert_silver_is, messages_read, rows

#: LAKEHOUSE_FUTURE_TOLERANCE_SECONDS of the two sets of rules, and how far the wrong clock is ahead, in seconds.
STRICT, LENIENT, AHEAD = 60, 86_400, 3_600
RULE = "event_in_the_future"

DAYS = 2
DAY_US = 86_400_000_000
TRADES = 2_000
ROUND_TRADES = 120

#: Hours of a day in which the wrong clock was at work. So far from midnight that no window of Gold reaches over it,
#: and each day of a table of Gold is either old or new.
WRONG_HOURS = range(8, 16)

#: Columns that may differ in rows that say the same: they tell when a row was written.
WRITTEN = frozenset({"since", "trades_version", "revision", "updated_at", "is_final"})

#: A table's rows by what is replaced at once: all of a table of Silver, a day of a table of Gold.
Parts = dict[Any, frozenset[tuple[Any, ...]]]


class Messages:
    """Sends what a rebuild has to get right. Seeded but for the stamps of the wrong clock."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = random.Random(5)
        self._known: list[Row] = []
        self._number = 0

    def history(self, day: int) -> None:
        """One day: good trades, repeats, conflicts, what nobody can read, a market with wrong stamps only."""
        start, step = NEW_YEAR + day * DAY_US, DAYS * DAY_US // TRADES
        new = trades(TRADES // DAYS, seed=day, first_id=1 + day * 100_000, start=start, step=step)
        market = {"venue": "kraken", "symbol": "SOL/USDT", "native_symbol": "SOLUSDT"}
        minutes = range(WRONG_HOURS.start * 60, WRONG_HOURS.stop * 60, 13)
        self._send(
            new,
            [
                trade(**market, trade_id=day * 100 + number, ts_event=start + minute * 60_000_000)
                for number, minute in enumerate(minutes, start=1)
            ],
        )

    def more(self) -> None:
        """A round of new trades, on both days."""
        self._number += 1
        first_id = 1_000_000 + self._number * 1_000
        self._send(trades(ROUND_TRADES, 100 + self._number, first_id, step=DAYS * DAY_US // ROUND_TRADES), [])

    def _send(self, new: list[Row], alone: list[Row]) -> None:
        """Send a wrongly stamped message of some trades first: STRICT refuses it, LENIENT has it be the trade."""
        now = time.time_ns() // 1_000
        wrong = {"ts_ingest": now + AHEAD * 1_000_000}
        values: list[Any] = []
        for number, one in enumerate(new):
            hour = one["ts_event"] % DAY_US // 3_600_000_000
            if number % 5 == 0 and hour in WRONG_HOURS:
                values.append({**one, **wrong, **({"price": "7.5"} if number % 2 else {})})
            values.append(one)
        self._known += new
        again = self._rng.sample(self._known, min(40, len(self._known)))
        other = [one | {"price": "0.5"} for one in self._rng.sample(self._known, 3)]
        values += [*(one | wrong for one in alone), *again, *other, b"junk", None]
        send(self._settings, self._settings.topic_trades, values)
        first_id = new[0]["trade_id"] + 500  # beyond all that are sent
        event = {"venue": "binance", "event": "gap_opened", "ts_event": NEW_YEAR, "connection_id": "c", "detail": ""}
        ids = {"symbol": "BTC/USDT", "first_id": first_id, "last_id": first_id + 9}
        gone = ids | {"event": "gap_unavailable", "ts_event": wrong["ts_ingest"], "last_id": first_id + 4}
        send(self._settings, self._settings.topic_feed_events, [event | ids, event | gone, b"junk"])


def with_rules(settings: Settings, tolerance: int) -> Settings:
    """The same lake by other rules."""
    return settings.model_copy(update={"future_tolerance_seconds": tolerance})


def assert_right(settings: Settings) -> None:
    """Every table is what the messages and the rules of these settings say, by judges that are not Spark."""

    def refusal(value: Row, row: Row) -> str | None:
        return RULE if value["ts_ingest"] > _latest(settings, row) else None

    assert_silver_is(settings, refusal)
    _assert_events(settings)
    assert_exact(settings)
    silver = table_io.sql(
        settings, "SELECT venue, symbol, trade_id, price, size, side, ts_event FROM t", t=SILVER_TRADES
    )
    assert_gold_equals_reference(settings, silver, settled=False)


def _assert_events(settings: Settings) -> None:
    """silver/feed_events, and the feed events in silver/quarantine."""
    wanted: dict[tuple[int, int], str] = {}
    for row in messages_read(settings, settings.topic_feed_events):
        try:
            late = json.loads(row["value_raw"])["ts_event"] > _latest(settings, row)
        except ValueError:
            wanted[row["partition"], row["offset"]] = "not_json"
        else:
            wanted[row["partition"], row["offset"]] = RULE if late else "good"
    found = {(row["kafka_partition"], row["kafka_offset"]): "good" for row in rows(settings, SILVER_FEED_EVENTS)}
    for row in rows(settings, SILVER_QUARANTINE):
        if row["kafka_topic"] == settings.topic_feed_events:
            found[row["kafka_partition"], row["kafka_offset"]] = row["rule"]
    assert found == wanted


def _latest(settings: Settings, row: Row) -> int:
    kafka = (row["ts_kafka"] - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return int(kafka) + settings.future_tolerance_seconds * 1_000_000


# ---------------------------------------------------------------------------------------------- what readers can see


def replaced_tables(settings: Settings) -> list[Table]:
    """The tables that a rebuild replaces."""
    return [table for table in active_tables(settings) if table.layer in ("silver", "gold")]


def parts(settings: Settings, table: Table, version: int | None = None) -> Parts:
    """The rows that a reader of a version, or the newest, gets."""
    opened = open_table(settings, table, version)
    found = pa.table(table_io.sql(settings, "SELECT * FROM t", t=opened))
    names = [name for name in found.column_names if name not in WRITTEN]
    days = found.column("bar_date").to_pylist() if table.layer == "gold" else [None] * found.num_rows
    grouped: dict[Any, list[tuple[Any, ...]]] = {}
    for day, row in zip(days, zip(*(found.column(name).to_pylist() for name in names), strict=True), strict=True):
        grouped.setdefault(day, []).append(row)
    for day, of_day in grouped.items():
        assert len(set(of_day)) == len(of_day), f"{table.path}: rows more than once on {day}"
    return {day: frozenset(of_day) for day, of_day in grouped.items()}


@dataclass(frozen=True)
class State:
    """The content of all replaced tables at one moment."""

    versions: Mapping[str, int]
    content: Mapping[str, Parts]

    @classmethod
    def of(cls, settings: Settings) -> State:
        """Read the state of now, while nobody writes."""
        tables = replaced_tables(settings)
        versions = {table.path: open_table(settings, table).version() for table in tables}
        return cls(versions, {table.path: parts(settings, table, versions[table.path]) for table in tables})

    def unlike(self, other: State) -> list[str]:
        """The tables whose content differs."""
        return [path for path, content in self.content.items() if content != other.content[path]]


def assert_old_or_new(settings: Settings, old: State, new: State) -> int:
    """Every version of every table between two states is one of them, whole; how many versions.

    A reader of Delta sees a version and nothing else: so no reader, at whatever moment, can have seen half of a table.
    """
    looked_at = 0
    for table in replaced_tables(settings):
        before, after = old.content[table.path], new.content[table.path]
        for version in range(old.versions[table.path] + 1, new.versions[table.path] + 1):
            found = parts(settings, table, version)
            for part in {*found, *before, *after}:
                there = found.get(part, frozenset())
                if there not in (before.get(part, frozenset()), after.get(part, frozenset())):
                    name = f"{table.path}{f' of {part}' if part else ''} at version {version}"
                    raise AssertionError(f"{name}: {len(there):,} rows, neither the old content nor the new")
            looked_at += 1
    return looked_at
