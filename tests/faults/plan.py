"""The plan of one seed: its steps, and when. Pure: the same seed and figures give the same plan.

Targets and kinds come from shuffled decks, so that each has its turn before one has it twice. A plan cannot fix the
moment of a kill to the microsecond; what it repeats is the order and the spacing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.simulator.faults.kinds import KINDS, Kind

#: How often each target lies in the deck. The stream needs half a minute to come back, and dies with its JVM and with
#: the code server too: what is killed all the time proves nothing about what it does in between.
WEIGHTS: Mapping[str, int] = {
    "ingest": 3,
    "stream": 1,
    "stream-jvm": 1,
    "broker": 2,
    "daemon": 2,
    "code-server": 1,
    "node": 3,
    "serve": 3,
}
#: Faults of a longer range than this, in seconds, would leave no time between them.
LONGEST_FAULT = 12.0
#: Seconds that a victim which had to be waited for lives at most: a start, and some work.
LONGEST_GRACE = 15.0
#: This part of the kills has a fault beginning at the same moment.
TOGETHER = 0.3
#: Kinds that change, lose or reorder what a socket brings. A wrong repeat of a trade must not come before the true one
#: (nobody could tell which is right), so `conflict` gets its venue for itself.
SOCKET_UNITS = frozenset({"frames", "connections", "subscriptions"})
#: Seconds after the end of a fault in which what it held back may still arrive.
SETTLE = 2.0


@dataclass(frozen=True)
class Fault:
    """One call of `POST /admin/faults`."""

    kind: str
    venue: str | None
    symbol: str | None
    seconds: float
    share: float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> dict[str, Any]:
        """The body of the call."""
        own = {"kind": self.kind, "venue": self.venue, "symbol": self.symbol, "seconds": self.seconds}
        return {**own, "share": self.share, **self.parameters}

    @property
    def words(self) -> str:
        """For people."""
        where = " ".join(filter(None, (self.venue or "all venues", self.symbol)))
        return f"{self.kind} on {where} for {self.seconds:g} s, share {self.share:g}"


@dataclass(frozen=True)
class Step:
    """Something that happens `at` seconds: a fault, or a kill of the first target of `kill`, the others standing in.

    A target that is dead and comes back lives for `grace` seconds first, so that not each dies while it starts.
    """

    at: float
    kill: tuple[str, ...] = ()
    fault: Fault | None = None
    grace: float = 0.0


def make_plan(
    seed: int,
    seconds: float,
    targets: Sequence[str],
    kills: int,
    faults: int,
    venues: Sequence[str],
    symbols: Sequence[str],
) -> list[Step]:
    """So many kills and faults within `seconds`, by time."""
    rng = random.Random(seed)
    victims = _deck(rng, [target for target in targets for _ in range(WEIGHTS[target])])
    steps = [
        Step(at, _preference(rng, next(victims), targets), grace=round(rng.uniform(0.0, LONGEST_GRACE), 1))
        for at in _times(rng, seconds, kills)
    ]
    kill_times = [step.at for step in steps]
    times = [
        rng.choice(kill_times) if kill_times and rng.random() < TOGETHER else at for at in _times(rng, seconds, faults)
    ]
    return sorted([*steps, *_faults(rng, sorted(times), venues, symbols)], key=lambda step: step.at)


def _times(rng: random.Random, seconds: float, count: int) -> list[float]:
    """One moment in each of so many equal parts."""
    return [round((number + rng.random()) * seconds / count, 3) for number in range(count)]


def _deck(rng: random.Random, cards: Sequence[str]) -> Iterator[str]:
    while True:
        yield from rng.sample(cards, len(cards))


def _preference(rng: random.Random, first: str, targets: Sequence[str]) -> tuple[str, ...]:
    """The target, then the others: where it is dead already, another one dies."""
    others = [target for target in targets if target != first]
    rng.shuffle(others)
    return (first, *others)


@dataclass
class _Busy:
    """Until when which venue has faults on its sockets, and until when a `conflict`."""

    sockets: dict[str, float] = field(default_factory=dict)
    conflict: dict[str, float] = field(default_factory=dict)

    def free(self, kind: Kind, at: float, venues: Sequence[str]) -> list[str]:
        """The venues that a fault of this kind may begin on."""
        able = [venue for venue in kind.venues if venue in venues]
        if kind.unit not in SOCKET_UNITS:
            return able
        free = [venue for venue in able if self.conflict.get(venue, 0.0) <= at]
        return [venue for venue in free if self.sockets.get(venue, 0.0) <= at] if kind.name == "conflict" else free

    def take(self, kind: Kind, until: float, venues: Sequence[str]) -> None:
        """Note a fault on these venues."""
        if kind.unit in SOCKET_UNITS:
            held = self.conflict if kind.name == "conflict" else self.sockets
            for venue in venues:
                held[venue] = max(held.get(venue, 0.0), until)


def _faults(rng: random.Random, times: Sequence[float], venues: Sequence[str], symbols: Sequence[str]) -> list[Step]:
    able = [kind.name for kind in KINDS.values() if kind.scheduled and set(kind.venues) & set(venues)]
    deck, busy, steps = _deck(rng, able), _Busy(), []
    postponed: list[Kind] = []
    for at in times:
        # A kind that had no free venue in its turn goes first; `conflict` needs one without any other fault.
        kind = next((one for one in postponed if busy.free(one, at, venues)), None)
        if kind is not None:
            postponed.remove(kind)
        while kind is None or not (free := busy.free(kind, at, venues)):
            postponed += [kind] if kind is not None else []
            kind = KINDS[next(deck)]
        # All venues at once every third time, where all are free; `conflict` stays on one.
        everywhere = len(free) == len(venues) and kind.name != "conflict" and rng.random() < 1 / 3
        venue = None if everywhere else rng.choice(free)
        low, high = kind.seconds
        duration = round(rng.uniform(low, max(low, min(high, LONGEST_FAULT))), 2)
        busy.take(kind, at + duration + SETTLE, venues if venue is None else [venue])
        symbol = rng.choice(symbols) if kind.knows_symbols and rng.random() < 1 / 3 else None
        fault = Fault(kind.name, venue, symbol, duration, round(rng.uniform(*kind.shares), 3))
        steps.append(Step(at, fault=fault))
    return steps
