"""One seed from its start to its verdict.

1. Start the system and wait until trades flow into Gold. 2. The storm: kills and faults by plan. 3. Quiet, then drain.
4. The verdict. 5. The end in order; nothing may be left running. A folder stays where something failed.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from lakehouse.errors import LakehouseError
from tests.faults.admin import Admin
from tests.faults.outcome import Outcome
from tests.faults.plan import Step, make_plan
from tests.faults.quiet import quiet
from tests.faults.system import System, end_leftovers, kill
from tests.faults.verdict import judge

#: Errors that a scenario tells as its failure; anything else is a bug of the suite and shows its trace.
EXPECTED = (AssertionError, LakehouseError, httpx.HTTPError, OSError)
#: Between two looks during the storm, in seconds.
TICK_SECONDS = 0.2
#: Between two looks for a victim, which cost more.
WAIT_SECONDS = 0.5
#: Seconds to wait for a victim that is dead already. A run of Dagster is back half a minute after its code server died.
PATIENCE_SECONDS = 30.0
#: A storm that has to wait may last so many times as long as it was meant to.
LONGEST = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """The figures of a seed, whichever system it runs on. `steps` stand in place of those that the seed would draw."""

    seed: int
    minutes: float
    rate: float
    kills: int
    faults: int
    drain_seconds: float = 300.0
    keep: bool = False
    steps: tuple[Step, ...] | None = None


def run(scenario: Scenario, name: str, build: Callable[[Path], System], home: Path, say: Say) -> Outcome:
    """Run it on the system that `build` makes over `home`; KeyboardInterrupt stops the system and goes on up."""
    outcome = Outcome(scenario.seed, name, scenario.minutes, scenario.rate)
    started = time.monotonic()
    if home.exists():
        shutil.rmtree(home)
    home.parent.mkdir(parents=True, exist_ok=True)
    system = build(home)
    try:
        try:
            _live(scenario, system, outcome, say)
        finally:
            say("stopping")
            system.stop()
    except EXPECTED as error:
        outcome.failures.append(f"{type(error).__name__}: {error}")
    finally:
        end_leftovers(home)
    outcome.seconds = round(time.monotonic() - started, 1)
    if outcome.passed and not scenario.keep:
        shutil.rmtree(home)
        for log in home.parent.glob(f"{home.name}.*.log"):
            log.unlink()
    elif not outcome.passed:
        say(f"everything is kept in {home}")
    return outcome


def _live(scenario: Scenario, system: System, outcome: Outcome, say: Say) -> None:
    say("starting")
    began = time.monotonic()
    system.start()
    say(f"trades flow into Gold after {time.monotonic() - began:.0f} s")
    settings = system.settings
    admin = Admin(system.simulator_url)
    try:
        seconds = scenario.minutes * 60
        plan: Sequence[Step] | None = scenario.steps
        if plan is None:
            figures = (scenario.seed, seconds, system.targets, scenario.kills, scenario.faults)
            plan = make_plan(*figures, settings.venues, settings.symbols)
        storm(system, admin, plan, seconds, outcome, say)
        say("quiet")
        drain = quiet(system, admin, scenario.drain_seconds)
        outcome.drain_seconds = None if drain.left else round(drain.seconds, 1)
        say(f"drained in {drain.seconds:.0f} s" if not drain.left else f"NOT drained: {'; '.join(drain.left[:5])}")
        if drain.left:
            outcome.failures.append(f"not drained in {scenario.drain_seconds:g} s: {'; '.join(drain.left[:5])}")
        outcome.done = admin.done()
        verdict = judge(settings, outcome.done)
        outcome.figures = verdict.figures
        outcome.failures += verdict.failures
    finally:
        admin.close()


def storm(system: System, admin: Admin, plan: Sequence[Step], seconds: float, outcome: Outcome, say: Say) -> None:
    """Do the plan's steps at their times, at least for `seconds`; waiting for a victim puts the later steps off."""
    started, waited = time.monotonic(), 0.0
    kills: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for step in [*plan, Step(seconds)]:
        while time.monotonic() - started - waited < step.at:
            system.look()
            time.sleep(TICK_SECONDS)
        if time.monotonic() - started > LONGEST * seconds:
            say("this machine is too slow for the rest of the plan")
            break
        if step.fault is not None:
            admin.begin(step.fault)
            faults[step.fault.kind] += 1
            say(f"{time.monotonic() - started:6.1f} s  {step.fault.words}")
        if step.kill:
            asked = time.monotonic()
            victim = _kill(system, step)
            waited += time.monotonic() - asked
            kills.update([victim] if victim else [])
            say(
                f"{time.monotonic() - started:6.1f} s  {f'kill -9 {victim}' if victim else 'nobody lives to be killed'}"
            )
        outcome.kills, outcome.faults = dict(sorted(kills.items())), dict(sorted(faults.items()))
    outcome.storm_seconds = round(time.monotonic() - started, 1)


def _kill(system: System, step: Step) -> str | None:
    """Kill the step's first target, once it lives; after `PATIENCE_SECONDS` the first of the others that does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    ripe_at = time.monotonic()
    while True:
        now = time.monotonic()
        first = system.find(step.kill[0])
        if first is None:
            ripe_at = now + step.grace
        elif now >= ripe_at and kill(first, system.settings.home):
            return step.kill[0]
        if first is None and now >= deadline:
            break
        system.look()
        time.sleep(WAIT_SECONDS)
    for target in step.kill[1:]:
        process = system.find(target)
        if process is not None and kill(process, system.settings.home):
            return target
    return None
