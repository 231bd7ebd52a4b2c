"""The fair price of an asset: a seeded function of the time, common to all venues.

Guarantee: the factor depends on (seed, asset, time, moves per hour) only, so the venues share it and a restart goes on
where the price would be. docs/venues.md, "The simulated market", has each figure and its source.

A day is a walk in minutes between two seeded levels, and a minute is a walk in seconds. The variance of a minute is the
asset's own times the product of multipliers that change at random, the fast ones after minutes, the slow ones after
hours: a Markov-switching multifractal (Calvet and Fisher, Journal of Financial Econometrics, 2004). So calm and wild
hours follow each other, and the tails are fat. Moves beyond 2 % in a minute come on top, at random times.

Limits: assets move independently of each other; a day's multipliers begin anew at midnight UTC; from one day to the
next a price stays around its long-run level, so that a walk of weeks does not wander off.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

T = TypeVar("T")

DAY_MINUTES = 1440
MINUTE_SECONDS = 60
HOUR_SECONDS = 3600

#: Standard deviation of the log returns of a year. BTC and ETH in 2024 (The Risk Protocol, "Crypto Volatility is Tamer
#: Than You Think", 2025), SOL over 30 days (trdesk.com/volatility, where other coins have 80 to 200 %).
YEAR_VOLATILITY = {"BTC": 0.53, "ETH": 0.64, "SOL": 0.84}
OTHER_VOLATILITY = 0.84
#: Currencies, and coins that are pegged to one: that of EUR/USD, 0.42 % a working day (PMC9304798, table 3).
CURRENCIES = ("USD", "EUR", "GBP", "USDT", "USDC")
CURRENCY_VOLATILITY = 0.067

#: A multiplier is 1 ± SWING and is drawn anew after so many minutes on average. Five give minute returns a kurtosis of
#: 3 × (1 + SWING²)⁵ = 14. That it is far above 3 is recorded (Takaishi, arXiv 1707.07618); the figure is our choice.
SWING = 0.6
MULTIPLIER_MINUTES = (4, 15, 60, 240, 960)

#: A move starts and ends its rise or fall within one minute, by at least so much, and on average so much more.
MOVE_LEAST, MOVE_MORE, MOVE_MOST = 0.025, 0.005, 0.05
MOVE_STARTS = (3.0, 40.0)
MOVE_SECONDS = (3.0, 12.0)
#: The price comes back from a move with this time constant, so that many moves do not carry it away.
MOVE_FADE_SECONDS = 1800.0
#: So many hours later nothing is left of a move: e⁻¹⁰ of it.
MOVE_HOURS = 5

#: Venues whose clocks differ ask for different minutes and days by turns.
KEPT = 4


def minute_deviation(asset: str) -> float:
    """Return the standard deviation of an asset's log returns of one minute, moves not counted."""
    year = CURRENCY_VOLATILITY if asset in CURRENCIES else YEAR_VOLATILITY.get(asset, OTHER_VOLATILITY)
    return year / math.sqrt(365 * DAY_MINUTES)


class Move(NamedTuple):
    """A change of the log price by `height` within `seconds` from `start` on (seconds since the epoch)."""

    start: float
    seconds: float
    height: float

    def at(self, seconds: float) -> float:
        """Return the move's part of the log price at a time (seconds since the epoch): rising, then fading."""
        since = seconds - self.start
        if since <= 0:
            return 0.0
        return self.height * min(since / self.seconds, math.exp(-max(0.0, since - self.seconds) / MOVE_FADE_SECONDS))


class FairPrice:
    """The price of an asset relative to its long-run price. `moves_per_hour` counts moves of this asset, 0 to 60."""

    def __init__(self, seed: int, asset: str, moves_per_hour: float = 0.0) -> None:
        self._key = f"{seed}/{asset}"
        self._deviation = minute_deviation(asset)
        self._chance = moves_per_hour / 60
        self._days = _Kept(self._day)
        self._hours = _Kept(self._moves)
        self._minutes = _Kept(self._minute)

    def at(self, seconds: float) -> float:
        """Return the factor at a time in seconds since the epoch; around 1."""
        minute, second = divmod(seconds, MINUTE_SECONDS)
        points = self._minutes[int(minute)]
        place = int(second)
        return points[place] + (points[place + 1] - points[place]) * (second - place)

    def _minute(self, minute: int) -> list[float]:
        """The factor at each second of a minute, the next minute's first one included."""
        day, place = divmod(minute, DAY_MINUTES)
        levels, deviations = self._days[day]
        deviation = deviations[place] / math.sqrt(MINUTE_SECONDS)
        rng = random.Random(f"{self._key}/minute/{minute}")
        walk = _bridge(rng, levels[place], levels[place + 1], [deviation] * MINUTE_SECONDS)
        start = minute * MINUTE_SECONDS
        moves = [move for move in self._hours[start // HOUR_SECONDS] if move.start < start + MINUTE_SECONDS]
        if not moves:
            return [math.exp(level) for level in walk]
        latest = moves[-1]
        earlier = sum(move.at(start) for move in moves if move.start < start)
        new = latest if latest.start >= start else None
        return [
            math.exp(level + earlier * math.exp(-second / MOVE_FADE_SECONDS) + (new.at(start + second) if new else 0.0))
            for second, level in enumerate(walk)
        ]

    def _day(self, day: int) -> tuple[array[float], array[float]]:
        """A day's log levels at each minute, the next day's first one included, and its minutes' deviations."""
        rng = random.Random(f"{self._key}/day/{day}")
        deviations = _deviations(rng, self._deviation)
        levels = _bridge(rng, self._midnight(day), self._midnight(day + 1), deviations)
        return array("d", levels), array("d", deviations)  # a third of a list's memory, for hundreds of assets

    def _midnight(self, day: int) -> float:
        # Two of them differ by what a walk of a day makes.
        day_deviation = self._deviation * math.sqrt(DAY_MINUTES)
        return random.Random(f"{self._key}/midnight/{day}").gauss(0.0, day_deviation / math.sqrt(2))

    def _moves(self, hour: int) -> list[Move]:
        """The moves that still count in an hour, in order of time: one in a minute at most."""
        found = []
        for earlier in range(hour - MOVE_HOURS, hour + 1):
            rng = random.Random(f"{self._key}/moves/{earlier}")
            for minute in range(60):
                if rng.random() < self._chance:
                    start = earlier * HOUR_SECONDS + minute * MINUTE_SECONDS + rng.uniform(*MOVE_STARTS)
                    height = min(MOVE_MOST, MOVE_LEAST + rng.expovariate(1 / MOVE_MORE))
                    found.append(Move(start, rng.uniform(*MOVE_SECONDS), rng.choice((-1, 1)) * height))
        return found


class _Kept(dict[int, T]):
    """Makes a value when it is first asked for, and keeps the latest ones."""

    def __init__(self, make: Callable[[int], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: int) -> T:
        while len(self) >= KEPT:
            del self[next(iter(self))]
        value = self[key] = self._make(key)
        return value


def _deviations(rng: random.Random, mean: float) -> list[float]:
    """The standard deviation of each minute of a day."""
    multipliers = [1 + rng.choice((-SWING, SWING)) for _ in MULTIPLIER_MINUTES]
    chances = [1 / minutes for minutes in MULTIPLIER_MINUTES]
    found = []
    for _ in range(DAY_MINUTES):
        for place, chance in enumerate(chances):
            if rng.random() < chance:
                multipliers[place] = 1 + rng.choice((-SWING, SWING))
        found.append(mean * math.sqrt(math.prod(multipliers)))
    return found


def _bridge(rng: random.Random, start: float, end: float, deviations: Iterable[float]) -> list[float]:
    """A random walk from `start` to `end`, one step for each standard deviation."""
    steps = [rng.gauss(0.0, deviation) for deviation in deviations]
    drift = (end - start - math.fsum(steps)) / len(steps)
    level, found = start, [start]
    for step in steps:
        level += step + drift
        found.append(level)
    return found
