"""A random sequence of faults that the seed, rate, venues and symbols determine, on any machine.

Faults come as a Poisson process of `rate` a minute; each kind that can hit one of the venues is as likely as any other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lakehouse.simulator.faults.kinds import KINDS, Kind, Value, Wanted

#: Probability that a fault hits one symbol instead of the whole venue, if its kind can.
SYMBOL_SHARE = 0.5
#: The bounds within which the schedule draws parameters; others keep their default.
_DRAWN: dict[tuple[str, str], tuple[float, float]] = {
    ("duplicate", "delay"): (0.05, 1.0),
    ("reorder", "delay"): (0.05, 1.0),
    ("newest_first", "window"): (0.01, 0.2),
    ("server_shutdown", "delay"): (1.0, 5.0),
    ("rest_lag", "lag"): (0.5, 5.0),
    ("rest_slow", "delay"): (0.2, 3.0),
    ("id_holes", "ids"): (1.0, 20.0),
}


class Planned(msgspec.Struct, frozen=True):
    """A fault of the schedule, and its beginning: `at` seconds after the start of the schedule."""

    at: float
    wanted: Wanted


def plan(seed: int, rate: float, venues: Sequence[str], symbols: Sequence[str]) -> Iterator[Planned]:
    """Yield random faults in the order of time, without end; `rate` is in faults a minute, above 0."""
    rng = random.Random(f"{seed}/faults")
    kinds = [kind for kind in KINDS.values() if kind.scheduled and set(kind.venues) & set(venues)]
    at = 0.0
    while True:
        at = round(at + rng.expovariate(rate / 60.0), 3)
        kind = rng.choice(kinds)
        venue = rng.choice([venue for venue in kind.venues if venue in venues])
        has_symbol = rng.random() < SYMBOL_SHARE and kind.knows_symbols
        symbol = rng.choice(list(symbols)) if has_symbol else None
        seconds, share = round(rng.uniform(*kind.seconds), 2), round(rng.uniform(*kind.shares), 3)
        yield Planned(at, Wanted(kind, venue, symbol, seconds, share, _parameters(kind, rng)))


def _parameters(kind: Kind, rng: random.Random) -> dict[str, Value]:
    values: dict[str, Value] = {name: parameter.default for name, parameter in kind.parameters.items()}
    for name in values:
        bounds = _DRAWN.get((kind.name, name))
        if bounds:
            drawn = rng.uniform(*bounds)
            values[name] = float(round(drawn)) if name == "ids" else round(drawn, 3)
    return values


def as_lines(wanted: Wanted) -> dict[str, Any]:
    """Return a fault as the JSON object that `/admin/faults` shows and takes: kind, venue, symbol, seconds, …"""
    lines: dict[str, Any] = {"kind": wanted.kind.name, "venue": wanted.venue, "symbol": wanted.symbol}
    return {**lines, "seconds": wanted.seconds, "share": wanted.share, **wanted.parameters}
