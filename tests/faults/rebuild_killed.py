"""kill -9 of a real `lakehouse rebuild silver`, at every step that it writes and at random moments.

    python -m tests.faults.rebuild_killed                       every step, and three moments, on a Kafka of its own
    python -m tests.faults.rebuild_killed --only trades,books   some steps; --random 0 leaves the moments out

One lake, two sets of rules by turns, so that each rebuild replaces every table of Silver and both days of Gold. After
each death:

- every stream of Silver or Gold refuses to start, with one line, and the audit of what is there is exact;
- the next `lakehouse rebuild silver` ends it: all tables are what the messages and the rules say, the audit is exact;
- every version of every table from before to after is the old content or the new, whole (for Gold: of each day);
- new messages come, and the streams go on exactly.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lakehouse.audit.run import audit
from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.unfinished import unfinished
from tests.faults import mutants
from tests.faults.hooks import REBUILD_POINTS
from tests.faults.kill_points import die_at
from tests.faults.rebuild_lake import (
    DAYS,
    LENIENT,
    STRICT,
    Messages,
    State,
    assert_old_or_new,
    assert_right,
    with_rules,
)
from tests.faults.system import child_variables, wait_for
from tests.support.demo_tools import assert_one_line, lakehouse

#: Seconds, on a machine that has other work too: for a start of Kafka, for a rebuild, for a command that only refuses.
BROKER_SECONDS, REBUILD_SECONDS, REFUSAL_SECONDS = 180.0, 600.0, 120.0

#: Tables that are new when the process dies at a step, with those of the step before; of Gold a table and day at least.
SILVER = ("silver/quarantine", "silver/feed_events", "silver/trades", "silver/continuity")
NEW_AT = dict(zip(REBUILD_POINTS, (0, 1, 2, 3, 4, 4, 4, 4, 4, 4), strict=True))

REBUILD = ("rebuild", "silver")
#: Streams that must not start while a rebuild is unfinished.
STREAMS = (("stream", "silver", "--trigger", "available-now"), ("stream", "gold"))

Say = Callable[[str], None]


class RebuildUnderFire:
    """One lake and its rebuilds. AssertionError from any method: something is not exact."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._rules = [with_rules(settings, tolerance) for tolerance in (LENIENT, STRICT)]
        self._say = say
        self._messages = Messages(settings)
        self._writing_seconds = 0.0  #: from the first table to the end of an undisturbed rebuild

    def prepare(self) -> None:
        """Two days by rules that let too much through."""
        for day in range(DAYS):
            self._messages.history(day)
            materialize(self._rules[0])
        self._say("two days of messages are in Silver and Gold")

    def undisturbed(self) -> None:
        """A rebuild that nobody kills, to see how long it writes."""
        settings = self._turn()
        old = State.of(settings)
        self._writing_seconds = _run_rebuild(settings, None) or 0.0
        self._say(f"undisturbed: {self._ended(settings, old)}, {self._writing_seconds:.1f} s of writing")

    def at_point(self, point: str) -> None:
        """Killed exactly after or before a step."""

        def kill(settings: Settings) -> None:
            die_at(point, settings, *REBUILD, "--home", str(settings.home), seconds=REBUILD_SECONDS)

        self._killed(point, kill)

    def at_random(self, rng: random.Random) -> None:
        """Killed at some moment of the writing."""
        after = rng.random() * self._writing_seconds
        self._killed(f"{after:.1f} s into the writing", lambda settings: _run_rebuild(settings, after))

    def _turn(self) -> Settings:
        self._rules.reverse()
        return self._rules[0]

    def _killed(self, name: str, kill: Callable[[Settings], object]) -> None:
        settings = self._turn()
        old, began = State.of(settings), time.monotonic()
        kill(settings)
        died = time.monotonic() - began
        new_already = State.of(settings).unlike(old)
        if name in NEW_AT:
            silver = [path for path in new_already if path in SILVER]
            assert sorted(silver) == sorted(SILVER[: NEW_AT[name]]), f"{name}: at its death new were {new_already}"
        faults = audit(settings).faults
        assert faults == [], f"{name}: faults in what was left: {faults}"
        if name in NEW_AT or unfinished(settings) is not None:
            for stream in STREAMS:
                _assert_refused(settings, stream)
        _end(settings)
        ended = self._ended(settings, old)
        self._say(f"{name}: killed after {died:.0f} s, {len(new_already)} tables new by then; {ended}")

    def _ended(self, settings: Settings, old: State) -> str:
        """After the rebuild that came to its end: everything that is promised."""
        new = State.of(settings)
        assert unfinished(settings) is None
        left = {*SILVER, "gold/bars_1m", "gold/indicators_1m"} - set(new.unlike(old))
        assert not left, f"the rules of this test change every table, but not {sorted(left)}"
        looked_at = assert_old_or_new(settings, old, new)
        assert_right(settings)
        self._messages.more()
        materialize(settings)
        assert_right(settings)
        return f"{looked_at} versions old or new, every table exact, also after new messages"


def _command(settings: Settings) -> list[str]:
    """`lakehouse rebuild silver`, or that of the mutant that the environment names."""
    mutant = os.environ.get(mutants.VARIABLE)
    runner = ("tests.faults.mutants", mutant) if mutant else ("lakehouse",)
    return [sys.executable, "-m", *runner, *REBUILD, "--home", str(settings.home)]


def _run_rebuild(settings: Settings, kill_after: float | None) -> float | None:
    """The command, killed so many seconds after its first word of writing; None: to its end, seconds from there."""
    log = settings.home / "rebuild.log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            _command(settings),
            env=child_variables(settings.environment(), settings.home),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(
            "the rebuild's writing", lambda: b"writing " in log.read_bytes(), REBUILD_SECONDS, lambda: _lives(child)
        )
        began = time.monotonic()
        if kill_after is None:
            assert child.wait(REBUILD_SECONDS) == 0, log.read_text(encoding="utf-8")[-500:]
            return time.monotonic() - began
        time.sleep(kill_after)
        return None
    finally:
        child.kill()
        child.wait()


def _lives(child: subprocess.Popen[bytes]) -> None:
    assert child.poll() is None, f"the rebuild ended with {child.poll()} before it wrote anything"


def _assert_refused(settings: Settings, stream: Sequence[str]) -> None:
    variables = child_variables(settings.environment(), settings.home)
    try:
        done = lakehouse(*stream, cwd=settings.home, variables=variables, timeout=REFUSAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"`lakehouse {' '.join(stream)}` runs on over a rebuild that was cut") from None
    assert done.returncode, f"`lakehouse {' '.join(stream)}` did its work over a rebuild that was cut"
    assert_one_line(done, "a rebuild of Silver", "was cut", "say `lakehouse rebuild silver`")


def _end(settings: Settings) -> None:
    """The next rebuild, as a person says it."""
    done = subprocess.run(
        _command(settings),
        env=child_variables(settings.environment(), settings.home),
        capture_output=True,
        text=True,
        timeout=REBUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"the next rebuild ended with {done.returncode}: {done.stderr.strip()[-500:]}"


def run(settings: Settings, points: Sequence[str], moments: int, seed: int, say: Say) -> None:
    """All of it on one lake, whose topics are there. AssertionError where anything is not exact."""
    rng = random.Random(seed)
    fire = RebuildUnderFire(settings, say)
    fire.prepare()
    for point in points:
        fire.at_point(point)
    if moments:
        fire.undisturbed()
    for _ in range(moments):
        fire.at_random(rng)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, on a Kafka and a lake of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rebuild_killed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"steps, by comma, of: {', '.join(_step(point) for point in REBUILD_POINTS)}")
    parser.add_argument("--random", type=int, default=3, help="moments at random (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only is not None else None
    points = [point for point in REBUILD_POINTS if wanted is None or _step(point) in wanted]
    mutants.apply(os.environ.get(mutants.VARIABLE))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rebuild-killed-")))
        broker = EmbeddedBroker(load_settings(home=home / "kafka"))
        broker.start(BROKER_SECONDS)
        stack.callback(broker.stop)
        settings = load_settings(home=home / "lake", bootstrap_servers=broker.bootstrap)
        ensure_topics(settings)
        run(settings, points, options.random, options.seed, say)
    print(f"{len(points)} steps and {options.random} moments: every table exact")
    return 0


def _step(point: str) -> str:
    return point.partition(".")[2]


if __name__ == "__main__":
    sys.exit(main())
