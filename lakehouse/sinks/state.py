"""How far a store is behind Gold: the versions that it holds, compared with Gold's newest ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.quality.model import CheckResult, Figure, count_of
from lakehouse.settings import Settings
from lakehouse.sinks.gold_changes import bar_tables, table_id
from lakehouse.sinks.run import Held
from lakehouse.sinks.stores import Store
from lakehouse.tables import Table

#: Seconds for which a store may lack a version of Gold: the longest wait after an outage, and time to write.
BEHIND_SECONDS = 60.0
#: Most commits that are looked through for the oldest one that a store lacks.
MOST_COMMITS = 200


@dataclass(frozen=True)
class Behind:
    """How far one size of bars in a store is behind Gold.

    `held`: the version in the store, None if it holds nothing of this table. `newest`: Gold's newest version.
    `seconds`: for how long the store has lacked a version, 0 if it lacks none.
    """

    size: str
    held: int | None
    newest: int
    seconds: float

    @property
    def versions(self) -> int:
        """Number of versions that the store lacks."""
        return self.newest - self.held if self.held is not None else self.newest + 1


def compare(settings: Settings, held: Mapping[str, Held]) -> tuple[Behind, ...]:
    """Compare what a store holds with Gold, size by size."""
    return tuple(_compare(settings, table, size, held.get(size)) for table, size in bar_tables(settings))


def judge(settings: Settings, store: Store) -> CheckResult:
    """Return the verdict on a store: it must hold Gold's newest version, or have lacked it for BEHIND_SECONDS at most.

    A store that is not wanted passes; one that does not answer fails.
    """
    if not store.is_wanted(settings):
        return CheckResult(True, f"No sink: {store.variable} is not set.")
    try:
        with store.open(settings) as sink:
            held = sink.held()
    except LakehouseError as error:
        return CheckResult(False, f"Could not be evaluated: {error}.", {"error": type(error).__name__})
    return verdict(store, compare(settings, held))


def verdict(store: Store, sizes: tuple[Behind, ...]) -> CheckResult:
    """Return the verdict on a store that answers, from all its sizes of bars; see `judge`."""
    late = max(sizes, key=lambda one: one.seconds, default=None)
    if late is None:
        return CheckResult(True, "Gold has no bars yet.")
    figures: dict[str, Figure] = {"behind_seconds": round(late.seconds, 1), "behind_versions": late.versions}
    if late.seconds <= 0:
        return CheckResult(
            True, f"{store.title} holds Gold's newest version of {count_of(len(sizes), 'size')}.", figures
        )
    found = (
        f"{store.title} has lacked {count_of(late.versions, 'version')} of bars_{late.size} for {late.seconds:.0f} s"
    )
    return CheckResult(late.seconds <= BEHIND_SECONDS, f"{found}; expected {BEHIND_SECONDS:.0f} s at most.", figures)


def _compare(settings: Settings, table: Table, size: str, there: Held | None) -> Behind:
    opened = table_io.open_table(settings, table)
    newest = opened.version()
    held = there.version if there is not None and there.table_id == table_id(settings, table) else None
    if held == newest:
        return Behind(size, held, newest, 0.0)
    lacking = newest + 1 if held is None else abs(newest - held)
    commits = opened.history(min(lacking, MOST_COMMITS))
    since = min((commit["timestamp"] / 1000 for commit in commits if "timestamp" in commit), default=time.time())
    return Behind(size, held, newest, max(0.001, time.time() - since))
