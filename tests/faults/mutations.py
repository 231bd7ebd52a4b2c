"""Proof that the suite can fail: with a guarantee switched off in the code, each of its scenarios must.

    python -m tests.faults.mutations [--only no-dedup] [--control]

Exit code 0 only where every mutant is caught, and for the reason that it is there for. `--control` runs the scenarios
unmutated as well, which must pass.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.light_system import LightSystem
from tests.faults.mutants import VARIABLE
from tests.faults.plan import Fault, Step
from tests.faults.scenario import Scenario, run

#: A storm that needs every guarantee: repeats, losses, a start after a death, streams that die.
STEPS = (
    Step(1.0, fault=Fault("duplicate", None, None, 4.0, 0.5)),
    Step(6.0, fault=Fault("drop", None, None, 4.0, 0.3)),
    Step(12.0, kill=("ingest",)),
    Step(20.0, kill=("stream",)),
)
STORM_MINUTES = 0.5
RATE = 250.0
#: Seconds for a drain that a mutant without repair never ends.
DRAIN_SECONDS = 60.0
#: Seconds for one run of pytest or of the kill points.
COMMAND_SECONDS = 900.0


@dataclass(frozen=True)
class Case:
    """A mutant, where it is tried, and what the failure must say (a regular expression)."""

    mutant: str
    attempt: Callable[[str], str]
    said: str


def storm(mutant: str) -> str:
    """The short storm on the light system; the failures, empty if there are none."""
    runner = ("tests.faults.mutants", mutant) if mutant else ("lakehouse",)
    scenario = Scenario(0, STORM_MINUTES, RATE, 0, 0, DRAIN_SECONDS, steps=STEPS)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        outcome = run(
            scenario,
            mutant or "control",
            lambda home: LightSystem(home, RATE, runner=runner),
            Path(folder) / "home",
            lambda line: print(f"  {line}", flush=True),
        )
    return "\n".join(outcome.failures)


def command(*arguments: str) -> Callable[[str], str]:
    """`python -m ARGUMENTS` as the mutant; its output where it failed, empty where it did not."""

    def attempt(mutant: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env={**os.environ, VARIABLE: mutant},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return (done.stdout + done.stderr) if done.returncode else ""

    return attempt


CLUSTER = (
    *("pytest", "-q", "-p", "tests.faults.mutants", "-p", "no:cacheprovider"),
    *("tests/broker/test_cluster.py", "-k", "acknowledged_means_kept"),
)
REBUILD = ("tests.faults.rebuild_killed", "--random", "0", "--only")
CASES = (
    Case("no-dedup", storm, r"more than once in Silver"),
    Case("no-repair", storm, r"recorded, not in Silver"),
    Case("no-marks", storm, r"recorded, not in Silver"),
    Case("no-idempotent-batches", command("tests.faults.kill_points", "--only", "bronze"), r"messages twice in Bronze"),
    Case("acknowledged-by-one", command(*CLUSTER), r"AssertionError"),
    Case("no-rebuild-mark", command(*REBUILD, "mark"), r"did its work over a rebuild that was cut"),
    Case("halved-tables", command(*REBUILD, "mark"), r"neither the old content nor the new"),
    Case("old-gold-stream", command(*REBUILD, "mark"), r"the gold stream ended"),
)


def main(arguments: list[str] | None = None) -> int:
    """Try every mutant."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[case.mutant for case in CASES], action="append")
    parser.add_argument("--control", action="store_true", help="run the scenarios unmutated too")
    options = parser.parse_args(arguments)
    chosen = [case for case in CASES if not options.only or case.mutant in options.only]
    escaped: list[str] = []
    if options.control:
        for attempt in dict.fromkeys(case.attempt for case in chosen):
            failures = attempt("")
            print(f"control: {'passed' if not failures else f'FAILED: {failures[-500:]}'}", flush=True)
            escaped += ["control"] if failures else []
    for case in chosen:
        failures = case.attempt(case.mutant)
        found = re.search(case.said, failures)
        if found:
            line = failures[: found.start()].count("\n")
            print(f"{case.mutant}: caught: {failures.splitlines()[line].strip()[:200]}", flush=True)
        else:
            escaped.append(case.mutant)
            print(f"{case.mutant}: ESCAPED ({failures[-500:] or 'nothing failed'})", flush=True)
    print(f"{len(chosen) - len([one for one in escaped if one != 'control'])} of {len(chosen)} mutants caught")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
