"""The synthetic market: decides when a symbol trades and at which price. Seeded; the caller passes the time.

A symbol's reference price is a function of (seed, asset, time): waves of several periods and one shock of 2.5–4 % in
every five minutes. So the venues differ by a few basis points only, a restart goes on at the price that it would have
had, and a demo sees moves beyond 2 % in a minute. Sizes and sides depend only on the seed and the position in the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.record import Row, Tape, file_of

#: This share of all trades comes in bursts, the rest one by one (a Poisson process).
BURST_SHARE = 0.4
#: A burst has the trades that the mean rate makes in 10 ms, times 10, 20 or 30: the peak-to-mean ratio of BTCUSDT
#: (docs/venues.md, "Rates"); at least SMALLEST_BURST.
BURST_WINDOW_SECONDS = 0.01
BURST_FACTORS = (10.0, 20.0, 30.0)
SMALLEST_BURST = 3.0
#: Most trades of a burst that share one microsecond (the largest group that was recorded on Kraken is 17).
LARGEST_GROUP = 17
#: After a stall, trades are made for this many seconds of it at most, so that no flood follows.
LONGEST_CATCH_UP_SECONDS = 1.0
#: Time constant in seconds with which a price returns to its reference after a restart with another seed.
OFFSET_SECONDS = 60.0

SHOCK_EVERY_SECONDS = 300
SHOCK_RISE_SECONDS = 15.0
SHOCK_FADE_SECONDS = 40.0


class Reference:
    """The course of an asset's price over time, common to all venues, as a factor of its typical price."""

    def __init__(self, seed: int, asset: str) -> None:
        self._key = f"{seed}/{asset}"
        rng = random.Random(self._key)
        # (amplitude, angular frequency per second, phase); periods from 20 seconds to 2 hours.
        self._waves = [
            (amplitude, math.tau / (period * rng.uniform(0.8, 1.25)), rng.uniform(0, math.tau))
            for amplitude, period in ((0.02, 7200), (0.008, 1500), (0.003, 300), (0.001, 70), (0.0004, 20))
        ]
        self._window = -1
        self._shock = (0.0, 0.0)

    def at(self, seconds: float) -> float:
        """Return the factor (about 0.93 to 1.07) to multiply the typical price with, at `seconds` since the epoch."""
        value = sum(amplitude * math.sin(speed * seconds + phase) for amplitude, speed, phase in self._waves)
        window = int(seconds // SHOCK_EVERY_SECONDS)
        if window != self._window:
            rng = random.Random(f"{self._key}/{window}")
            self._window = window
            # Early enough in its window to have faded (below 1 %) when the next one begins.
            self._shock = (rng.uniform(0, 60.0), rng.choice((-1, 1)) * rng.uniform(0.025, 0.04))
        start, height = self._shock
        since = seconds - window * SHOCK_EVERY_SECONDS - start
        if since > 0:
            value += (
                height
                * min(1.0, since / SHOCK_RISE_SECONDS)
                * math.exp(-max(0.0, since - SHOCK_RISE_SECONDS) / SHOCK_FADE_SECONDS)
            )
        return 1.0 + value


class Schedule:
    """Decides how many trades of a market are due, single ones and bursts; in the long run `rate` trades a second."""

    def __init__(self, rate: float, rng: random.Random) -> None:
        self.rate = rate
        self._rng = rng
        self._singles = 0.0
        self._gap = rng.expovariate(1.0)
        self._burst = self._next_burst()
        # Somewhere between two bursts, so that the mean holds from the start.
        self._saved = rng.random() * self._burst

    def due(self, seconds: float) -> tuple[int, int]:
        """Advance by `seconds`; return (number of single trades, number of trades in a burst, 0 for none) now due."""
        credit = self.rate * min(seconds, LONGEST_CATCH_UP_SECONDS)
        self._singles += credit * (1 - BURST_SHARE)
        singles = 0
        while self._singles >= self._gap:
            self._singles -= self._gap
            self._gap = self._rng.expovariate(1.0)
            singles += 1
        self._saved += credit * BURST_SHARE
        if self._saved < self._burst:
            return singles, 0
        burst = self._burst
        self._saved -= burst
        self._burst = self._next_burst()
        return singles, burst

    def _next_burst(self) -> int:
        return round(max(SMALLEST_BURST, self.rate * BURST_WINDOW_SECONDS * self._rng.choice(BURST_FACTORS)))


class Market:
    """The market of one (venue, symbol): makes its trades and appends them to its record file, the `tape`.

    `rate` is in trades per second, `folder` the record's. After a restart ids and price go on from the record.
    """

    def __init__(self, instrument: Instrument, reference: Reference, rate: float, seed: int, folder: Path) -> None:
        self.instrument = instrument
        self.is_open = False
        self.made = 0
        self._reference = reference
        self._path = file_of(folder, instrument.venue, instrument.symbol)
        self.tape: Tape | None = Tape(self._path) if self._path.exists() else None
        last = self.tape.last if self.tape else None
        self.next_id = last.trade_id + 1 if last else instrument.first_id
        self._last_time = last.ts_event if last else 0
        key = f"{seed}/{instrument.venue}/{instrument.symbol}/{self.next_id}"
        self._schedule = Schedule(rate, random.Random(f"{key}/schedule"))
        self._rng = random.Random(key)
        self._offset: float | None = None
        self._wiggle = 0.0
        self._buy = True

    @property
    def rate(self) -> float:
        """Mean trades per second that this market aims at."""
        return self._schedule.rate

    def make(self, seconds: float, now: int, skip: Callable[[], int] | None = None) -> list[Row]:
        """Make the trades of the last `seconds` up to `now` (µs since the epoch), record them and return them.

        `skip` is called if there are any; it returns how many ids to leave unused before them. Raises OSError if the
        record cannot be written; then no trade was made.
        """
        singles, burst = self._schedule.due(seconds)
        if not singles and not burst:
            return []
        if self.tape is None:
            self.tape = Tape(self._path)
        times = self._times(singles, burst, now - int(min(seconds, LONGEST_CATCH_UP_SECONDS) * 1e6), now)
        first_id = self.next_id + (skip() if skip else 0)
        rows = self._rows(times, singles, first_id, self._middle(now, seconds))
        self.tape.append(rows)
        self.next_id = first_id + len(rows)
        self._last_time = times[-1]
        self.made += len(rows)
        return rows

    def close(self) -> None:
        """Close the record file of this market."""
        if self.tape:
            self.tape.close()

    def _times(self, singles: int, burst: int, start: int, now: int) -> list[int]:
        """Event times in order, from after the last trade to now: singles spread out, then the burst within 1 ms."""
        rng = self._rng
        start = max(start, self._last_time)
        now = max(now, start)  # the clock may have been set back; a market's time does not
        # A burst takes a millisecond, longer only if it would crowd more than a group into one microsecond.
        burst_start = max(start, now - max(1000, burst)) if burst else now
        width = burst_start - start
        times = sorted([start + int(rng.random() * width) for _ in range(singles)])
        if burst:
            stride = max(1, (now - burst_start) // (burst // (LARGEST_GROUP // 2) + 1))
            time, left = burst_start, 0
            for _ in range(burst):
                if not left:
                    left = rng.randint(1, LARGEST_GROUP)
                    time = min(now, time + stride)
                left -= 1
                times.append(time)
        return times

    def _middle(self, now: int, seconds: float) -> float:
        """The price around which to trade, in steps."""
        instrument = self.instrument
        step = instrument.step / 10.0**instrument.price_decimals
        price = instrument.price * self._reference.at(now / 1e6)
        if self._offset is None:
            last = self.tape.last if self.tape else None
            self._offset = math.log(last.price / 10.0**last.price_decimals / price) if last else 0.0
        # About ±3 basis points between the venues, on top of what is left from before a restart.
        fade = math.exp(-seconds / OFFSET_SECONDS)
        self._offset = self._offset * fade + self._rng.gauss(0.0, 0.0003) * math.sqrt(1 - fade * fade)
        return price * math.exp(self._offset) / step

    def _rows(self, times: list[int], singles: int, first_id: int, middle: float) -> list[Row]:
        random_ = self._rng.random
        sizes, choices = self.instrument.sizes, len(self.instrument.sizes)
        decimals, step = self.instrument.price_decimals, self.instrument.step
        jitter = max(1.0, middle * 4e-6)
        buy, wiggle = self._buy, self._wiggle
        rows = []
        for position, time in enumerate(times):
            if position < singles:
                if random_() < 0.4:  # takers come in runs
                    buy = not buy
                wiggle = wiggle * 0.98 + (random_() - 0.5) * jitter
            elif position == singles:
                buy = random_() < 0.5
            elif random_() < 0.1:  # a burst is one taker that eats through the levels
                wiggle += 1.0 if buy else -1.0
            size = sizes[int(random_() * choices)]
            price = max(1, round(middle + wiggle) + buy) * step
            rows.append(Row(first_id + position, time, price, size.value, decimals, size.decimals, buy))
        self._buy, self._wiggle = buy, wiggle
        return rows
