"""When each trade became visible, from the tables alone: `silver/trades` and the ledger `ops/batches`. Pure.

A trade lies at a Kafka offset. The first Bronze batch that ends after it names a version of bronze/messages; the first
Silver batch that has read that version whole names the time at which the trade could be queried in Silver, and a
version of silver/trades; the first Gold batch that has read that one whole names the time of its bar. A batch's time is
`committed_at`, after the last of its tables, so every figure is at least as long as the truth.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lakehouse.broker.offset_ranges import PartitionKey


class Step(NamedTuple):
    """A Silver or Gold batch: up to where it has read its source whole, and the version it left."""

    committed_at: dt.datetime
    read: int
    left: int


class Visible(NamedTuple):
    """When a trade was in Silver and in its bar; None if it is not yet."""

    silver: dt.datetime | None
    gold: dt.datetime | None


class History:
    """The batches of one lake, in the order of their commits. `rows` are those of ops/batches."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        ordered = sorted(rows, key=lambda row: row["committed_at"])
        self._ends: dict[PartitionKey, list[int]] = {}
        self._versions: dict[PartitionKey, list[int]] = {}
        for row in ordered:
            if row["query"] == "bronze":
                self._note_bronze(json.loads(row["source_end"]), json.loads(row["versions"])["bronze/messages"])
        self._silver = _steps(ordered, "silver", "silver/trades")
        self._gold = _steps(ordered, "gold", "gold/bars_1m")
        self._read_by_silver = [step.read for step in self._silver]
        self._read_by_gold = [step.read for step in self._gold]

    def _note_bronze(self, ends: Mapping[str, Mapping[str, int]], version: int) -> None:
        for topic, partitions in ends.items():
            for partition, end in partitions.items():
                place = topic, int(partition)
                self._ends.setdefault(place, []).append(int(end))
                self._versions.setdefault(place, []).append(version)

    def of(self, place: PartitionKey, offset: int) -> Visible:
        """Return when the message at an offset became visible as a trade, and in its bar."""
        bronze = bisect_right(self._ends.get(place, []), offset)  # the first end that is after the offset
        if bronze == len(self._ends.get(place, [])):
            return Visible(None, None)
        silver = bisect_left(self._read_by_silver, self._versions[place][bronze])
        if silver == len(self._silver):
            return Visible(None, None)
        gold = bisect_left(self._read_by_gold, self._silver[silver].left)
        return Visible(
            self._silver[silver].committed_at, self._gold[gold].committed_at if gold < len(self._gold) else None
        )


def _steps(rows: Sequence[Mapping[str, Any]], query: str, table: str) -> list[Step]:
    """Return batches of a query whose progress rises; a batch that ends inside a version has not read that version."""
    steps: list[Step] = []
    for row in rows:
        if row["query"] != query:
            continue
        end = json.loads(row["source_end"])
        read = int(end["version"]) - (end.get("complete", True) is not True)
        if not steps or read > steps[-1].read:
            steps.append(Step(row["committed_at"], read, int(json.loads(row["versions"])[table])))
    return steps


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of `values` (ascending, not empty) do not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]
