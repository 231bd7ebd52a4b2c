"""`python -m tests.faults`: one seed after the other, a line each, a table at the end. Exit code 0 where all passed."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from tests.faults.demo_system import DemoSystem
from tests.faults.light_system import LightSystem
from tests.faults.outcome import Outcome, table, write_json
from tests.faults.scenario import Scenario, run
from tests.faults.system import System

#: By default, a minute: so that each part has time to come back, and most of the time several things go wrong at once.
KILLS_PER_MINUTE = 6.0
FAULTS_PER_MINUTE = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds that were asked for."""
    options = _options(arguments)
    outcomes: list[Outcome] = []
    try:
        for seed in options.seeds:
            outcomes.append(_run(seed, options))
            print(outcomes[-1].line(), flush=True)
            for failure in outcomes[-1].failures:
                print(f"  {failure}", flush=True)
            write_json(
                options.json, outcomes, shlex.join(["python", "-m", "tests.faults", *(arguments or sys.argv[1:])])
            )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        if outcomes:
            print(f"\n{table(outcomes)}\n\nfigures in {options.json}", flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _run(seed: int, options: argparse.Namespace) -> Outcome:
    kills = options.kills if options.kills is not None else round(KILLS_PER_MINUTE * options.minutes)
    faults = options.faults if options.faults is not None else round(FAULTS_PER_MINUTE * options.minutes)
    scenario = Scenario(seed, options.minutes, options.rate, kills, faults, options.drain, options.keep)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[seed {seed} {time.monotonic() - began:6.1f} s] {line}", flush=True)

    def build(home: Path) -> System:
        if options.no_dagster:
            return LightSystem(home, options.rate, options.brokers)
        return DemoSystem(home, options.rate)

    name = f"light, {options.brokers} brokers" if options.brokers > 1 else "light" if options.no_dagster else "demo"
    return run(scenario, name, build, options.folder.absolute() / f"seed-{seed}", say)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Kill and garble a whole lakehouse at random, then compare its tables with the exchange's record.",
    )
    parser.add_argument("--seed", type=int, default=1, help="one seed (default 1)")
    parser.add_argument("--seeds", type=_seeds, help="several, such as 1-20 or 3,5,8")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the storm, per seed (default 10)")
    parser.add_argument("--rate", type=float, default=1000.0, help="trades per second (default 1000)")
    parser.add_argument("--kills", type=int, help=f"per seed (default {KILLS_PER_MINUTE:g} a minute)")
    parser.add_argument("--faults", type=int, help=f"per seed (default {FAULTS_PER_MINUTE:g} a minute)")
    parser.add_argument("--drain", type=float, default=300.0, help="seconds to drain at most (default 300)")
    parser.add_argument("--no-dagster", action="store_true", help="light: the commands alone, restarted by the suite")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="3: a cluster (with --no-dagster)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a seed that passed, too")
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/faults"), help="where the seeds' folders go")
    parser.add_argument("--json", type=Path, help="file of figures (default FOLDER/results.json)")
    options = parser.parse_args(arguments)
    if options.brokers > 1 and not options.no_dagster:
        parser.error("--brokers 3 goes with --no-dagster: the demo has one broker")
    options.seeds = options.seeds or [options.seed]
    options.json = options.json or options.folder / "results.json"
    return options


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        seeds += range(int(first), int(last if dash else first) + 1)
    return seeds


if __name__ == "__main__":
    sys.exit(main())
