"""The verdict on a lake at rest: every comparison is made, each that fails says so in a line or a few."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deltalake.exceptions import DeltaError

from lakehouse.continuity.gaps import open_gaps
from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import sql
from lakehouse.local_stack import child_commands
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings
from lakehouse.simulator.record import Record
from lakehouse.tables import OPS_BATCHES, SILVER_CONTINUITY, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.faults.system import child_variables
from tests.support.truth import assert_bars_equal_fold, assert_silver_equals_record

#: Seconds for `lakehouse audit`, which reads the whole lake.
AUDIT_SECONDS = 300.0


@dataclass
class Figures:
    """Figures of the tables. Counts of trades, but for bars."""

    made: int = 0
    compared: int = 0
    bars: int = 0
    repaired: int = 0
    unavailable: int = 0
    duplicates: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """`failures` is empty where everything is exact."""

    figures: Figures
    failures: list[str]


def judge(settings: Settings, done: Mapping[str, int]) -> Verdict:
    """Compare and count. `done` is what the simulator's faults have done, kind → count; the simulator is up."""
    figures, failures = Figures(), list[str]()
    record = child_commands.record_folder(settings)

    def attempt(look: Callable[[], None]) -> None:
        try:
            look()
        except (AssertionError, LakehouseError, DeltaError, OSError) as error:
            failures.append(str(error))

    def silver() -> None:
        figures.compared = assert_silver_equals_record(settings, record, from_first_seen=True)

    def bars(minutes: int) -> None:
        figures.bars += assert_bars_equal_fold(settings, minutes)

    attempt(lambda: _count(settings, record, figures))
    attempt(silver)
    attempt(lambda: bars(1))
    attempt(lambda: bars(5))
    attempt(lambda: _no_open_gap(settings))
    attempt(lambda: _checks(settings, bool(figures.quarantined)))
    attempt(lambda: _quarantine(figures.quarantined, done))
    attempt(lambda: _audit(settings))
    return Verdict(figures, failures)


def _count(settings: Settings, record: Path, figures: Figures) -> None:
    truth = Record(record)
    figures.made = sum(truth.count(*key) for key in truth.keys())  # noqa: SIM118 - not a mapping
    figures.repaired = _number(settings, "SELECT count(*) FROM t WHERE source = 'repair'", SILVER_TRADES)
    lost = "SELECT coalesce(sum(last_id - first_id + 1), 0) FROM t WHERE state = 'unavailable'"
    figures.unavailable = _number(settings, lost, SILVER_CONTINUITY)
    twice = "SELECT coalesce(sum(rows_duplicate), 0) FROM t WHERE query = 'silver'"
    figures.duplicates = _number(settings, twice, OPS_BATCHES)
    rules = sql(settings, "SELECT rule, count(*) AS n FROM t GROUP BY rule ORDER BY rule", t=SILVER_QUARANTINE)
    figures.quarantined = {row["rule"]: row["n"] for row in rules.to_pylist()}


def _number(settings: Settings, query: str, table: Table) -> int:
    return int(sql(settings, query, t=table).column(0)[0].as_py())


def _no_open_gap(settings: Settings) -> None:
    left = [f"{gap.venue} {gap.symbol} {gap.first_id}-{gap.last_id}" for gap in open_gaps(settings)]
    assert not left, f"{len(left)} open gaps, which the venue could fill: {', '.join(left[:5])}"


def _checks(settings: Settings, quarantined: bool) -> None:
    """Every check passes, but for the one that says that something is in quarantine, where it is."""
    wrong = [
        f"{check.table_path} {check.name}: {result.detail}"
        for check, result in run_checks(settings)
        if result.passed is (quarantined and check.name == "quarantine_settled")
    ]
    assert not wrong, f"{len(wrong)} checks: {'; '.join(wrong)}"


def _quarantine(quarantined: Mapping[str, int], done: Mapping[str, int]) -> None:
    """Only what was injected is in quarantine, and at most as much of it."""
    conflicts = quarantined.get("conflict", 0)
    garbage = sum(quarantined.values()) - conflicts
    for found, kind in ((conflicts, "conflict"), (garbage, "garbage")):
        sent = done.get(kind, 0)
        assert found <= sent, f"{found} rows of {kind} in quarantine, {sent} injected: {dict(quarantined)}"


def _audit(settings: Settings) -> None:
    """`lakehouse audit --against-simulator`, as a user says it."""
    if importlib.util.find_spec("lakehouse.cli.audit") is None:
        return
    command = [
        sys.executable,
        "-m",
        "lakehouse",
        "audit",
        "--home",
        str(settings.home),
        "--against-simulator",
        "--strict",
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=AUDIT_SECONDS,
            check=False,
            env=child_variables(settings.environment(), settings.home),
        )
    except subprocess.TimeoutExpired:
        raise AssertionError(f"lakehouse audit had not ended after {AUDIT_SECONDS:g} s") from None
    with contextlib.suppress(OSError):
        (settings.home / "audit.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise AssertionError(f"lakehouse audit ended with {done.returncode}: {' / '.join(tail)}")
