"""The synthetic market: decides when a symbol trades and at which price. Seeded; the caller passes the time.

All venues share an asset's fair price (`fair_price.py`); each is off by a few basis points, and comes back. Trades come
one by one and in bursts, a burst being one taker that eats through the levels. docs/venues.md, "The simulated market",
has each figure and its source. Sizes and sides depend only on the seed and the position in the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from lakehouse.simulator.fair_price import FairPrice
from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.record import Row, Tape, file_of

#: This share of all trades comes in bursts, the rest one by one (a Poisson process). In the Coinbase recording 40 of 97
#: trades share their time with another.
BURST_SHARE = 0.4
#: A burst has the trades that the mean rate makes in 10 ms, times 10, 20 or 30: the peak-to-mean ratio of BTCUSDT
#: (docs/venues.md, "Rates"); at least SMALLEST_BURST.
BURST_WINDOW_SECONDS = 0.01
BURST_FACTORS = (10.0, 20.0, 30.0)
#: In a quiet market a burst is as long as in the Coinbase recording: ten times 2 trades, five times 3, once 5.
SMALL_BURSTS = (2,) * 10 + (3,) * 5 + (5,)
#: Most trades of a burst that share one microsecond (the largest group that was recorded on Kraken is 17).
LARGEST_GROUP = 17
#: A burst goes on to the next level with this chance a trade: 12 of 24 in the Coinbase recording.
LEVEL_CHANCE = 0.5
#: However long it is, a burst eats this part of the price on average at most: 3.7 basis points in that recording.
BURST_SPAN = 0.0004
#: The next taker is on the other side with this chance: 12 of 65 neighbours of unequal times in the Coinbase recording.
SIDE_CHANCE = 0.18
#: After a stall, trades are made for this many seconds of it at most, so that no flood follows.
LONGEST_CATCH_UP_SECONDS = 1.0
#: Standard deviation of a venue's log price from the fair one: 4 basis points off on average. Coinbase was 6 off the
#: mean of ten venues, and differences were gone in seconds (Bitwise, "Economic and Non-Economic Trading in Bitcoin",
#: 2019).
VENUE_DEVIATION = 0.0005
VENUE_SECONDS = 20.0
#: The time constant with which a price returns to the fair one after a restart with another seed. Slow enough that it
#: is no move beyond 2 % in a minute, fast enough that a venue without a record is not apart for long.
RESTART_SECONDS = 600.0


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
        """Advance by `seconds`, LONGEST_CATCH_UP_SECONDS at most, and return how many trades are now due.

        Returns (number of single trades, number of trades in a burst); the latter is 0 if no burst is due.
        """
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
        usual = round(self.rate * BURST_WINDOW_SECONDS * self._rng.choice(BURST_FACTORS))
        return max(self._rng.choice(SMALL_BURSTS), usual)


class Market:
    """The market of one (venue, symbol): makes its trades and appends them to its record file, the `tape`.

    `rate` is in trades per second, `folder` the record's folder. After a restart ids and price go on from the record.
    """

    def __init__(self, instrument: Instrument, fair: FairPrice, rate: float, seed: int, folder: Path) -> None:
        self.instrument = instrument
        self.is_open = False
        self.made = 0
        self._fair = fair
        self._path = file_of(folder, instrument.venue, instrument.symbol)
        self.tape: Tape | None = Tape(self._path) if self._path.exists() else None
        last = self.tape.last if self.tape else None
        self.next_id = last.trade_id + 1 if last else instrument.first_id
        self._last_time = last.ts_event if last else 0
        key = f"{seed}/{instrument.venue}/{instrument.symbol}/{self.next_id}"
        self._schedule = Schedule(rate, random.Random(f"{key}/schedule"))
        self._rng = random.Random(key)
        #: Log price less the fair one: by the venue, and left from before a restart; when they were looked at, in µs.
        self._offset: float | None = None
        self._left = 0.0
        self._looked_at = 0
        self._wiggle = 0.0
        self._buy = True

    @property
    def rate(self) -> float:
        """Mean trades per second that this market aims at."""
        return self._schedule.rate

    def make(self, seconds: float, now: int, skip: Callable[[], int] | None = None) -> list[Row]:
        """Make the trades of the last `seconds` up to `now` (µs since the epoch), record them and return them.

        After a stall only trades of LONGEST_CATCH_UP_SECONDS are made. `skip` is called if any are made; it returns how
        many ids to leave unused before them. Raises OSError if the record cannot be written; then no trade was made.
        """
        singles, burst = self._schedule.due(seconds)
        if not singles and not burst:
            return []
        if self.tape is None:
            self.tape = Tape(self._path)
        times = self._times(singles, burst, now - int(min(seconds, LONGEST_CATCH_UP_SECONDS) * 1e6), now)
        first_id = self.next_id + (skip() if skip else 0)
        rows = self._rows(times, singles, first_id, self._middle(now))
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

    def _middle(self, now: int) -> float:
        """The price around which to trade, in steps."""
        instrument = self.instrument
        step = instrument.step / 10.0**instrument.price_decimals
        price = instrument.price * self._fair.at(now / 1e6)
        if self._offset is None:
            self._offset = self._rng.gauss(0.0, VENUE_DEVIATION)
            last = self.tape.last if self.tape else None
            if last:
                apart = math.log(last.price / 10.0**last.price_decimals / price)
                self._offset = max(-3 * VENUE_DEVIATION, min(3 * VENUE_DEVIATION, apart))
                self._left = apart - self._offset
        elif now > self._looked_at:
            seconds = (now - self._looked_at) / 1e6
            fade = math.exp(-seconds / VENUE_SECONDS)
            self._offset = self._offset * fade + self._rng.gauss(0.0, VENUE_DEVIATION) * math.sqrt(1 - fade * fade)
            self._left *= math.exp(-seconds / RESTART_SECONDS)
        self._looked_at = now
        return price * math.exp(self._offset + self._left) / step

    def _rows(self, times: list[int], singles: int, first_id: int, middle: float) -> list[Row]:
        random_ = self._rng.random
        sizes, choices = self.instrument.sizes, len(self.instrument.sizes)
        decimals, step = self.instrument.price_decimals, self.instrument.step
        jitter = max(1.0, middle * 4e-6)
        level_chance = min(LEVEL_CHANCE, BURST_SPAN * middle / max(1, len(times) - singles))
        buy, wiggle = self._buy, self._wiggle
        rows = []
        for position, time in enumerate(times):
            if position <= singles:  # another taker: a single trade, or the first of the burst
                if random_() < SIDE_CHANCE:
                    buy = not buy
                if position < singles:
                    wiggle = wiggle * 0.98 + (random_() - 0.5) * jitter
            elif random_() < level_chance:
                wiggle += 1.0 if buy else -1.0
            size = sizes[int(random_() * choices)]
            price = max(1, round(middle + wiggle) + buy) * step
            rows.append(Row(first_id + position, time, price, size.value, decimals, size.decimals, buy))
        self._buy, self._wiggle = buy, wiggle
        return rows
