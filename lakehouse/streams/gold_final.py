"""Which bars are final: over, and everything received for them has been read. No Spark.

A bar is final once its symbol has a trade `final_after_seconds` past the bar's end, or once the clock is so far past it
and all that Kafka had received by then has been read: so the last bar of an idle market becomes final too. A trade that
comes later still (a repair) changes the bar, with a new revision; the bar stays final. Whether a trade can be missing
is another question, which `complete` answers.
Gap: where no stream runs, nothing becomes final until the next one, or a catch-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lakehouse import lake
from lakehouse.presence import Key
from lakehouse.settings import Settings
from lakehouse.streams.gold_complete import MINUTE_US, Bar, bars_and_spans
from lakehouse.streams.gold_rows import UTC_MICROS, set_final
from lakehouse.streams.progress import has_passed, last_position, newest_position
from lakehouse.tables import GOLD_BARS_1M

LAYERS = ("bronze", "silver", "gold")


class ReadThrough:
    """Until when everything that Kafka had received has come through to Gold: a moment, followed layer by layer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._moment: int | None = None
        self._layer = LAYERS[0]
        self._target: dict[str, Any] = {}

    def passed(self, now: int) -> int | None:
        """The followed moment, in microseconds since the epoch, once Gold has passed it; the next call follows `now`.

        Cheap where everything is at rest: then it is now. Raises BrokerUnavailableError where Kafka does not answer.
        """
        if self._moment is None:
            self._target = newest_position(self._settings, LAYERS[0])
            self._moment, self._layer = now, LAYERS[0]
        while has_passed(last_position(self._settings, self._layer), self._target, self._layer):
            if self._layer == LAYERS[-1]:
                moment, self._moment = self._moment, None
                return moment
            self._layer = LAYERS[LAYERS.index(self._layer) + 1]
            self._target = newest_position(self._settings, self._layer)
        return None


class Finality:
    """The newest trade of each (venue, symbol), as a time, and the bars that are not final."""

    def __init__(self, settings: Settings, newest: Mapping[Key, int]) -> None:
        """`newest` is in microseconds since the epoch; too low a time only makes bars final later."""
        self._settings = settings
        self._grace = round(settings.final_after_seconds * 1_000_000)
        self._newest = dict(newest)
        self._open: set[Bar] = set()

    @classmethod
    def of_tables(cls, settings: Settings) -> Finality:
        """As the tables of bars tell it."""
        minutes = lake.sql(
            settings, "SELECT venue, symbol, max(bar_start) AS at FROM t GROUP BY venue, symbol", t=GOLD_BARS_1M
        )
        times = minutes.column("at").cast(UTC_MICROS).cast(pa.int64())
        columns: list[list[Any]] = [one.to_pylist() for one in (minutes["venue"], minutes["symbol"], times)]
        found = cls(settings, {(venue, symbol): at for venue, symbol, at in zip(*columns, strict=True)})
        for table, length in lake.bar_tables(settings):
            left = lake.sql(
                settings,
                "SELECT venue, symbol, bar_start, first_trade_id, last_trade_id FROM t WHERE NOT is_final",
                t=table,
            )
            found._open |= {bar for bar, _ in bars_and_spans(left, length)}
        return found

    def saw(self, key: Key, at: int) -> None:
        """A trade of that time, in microseconds since the epoch."""
        self._newest[key] = max(at, self._newest.get(key, at))

    def with_flags(self, bars: pa.Table, minutes: int) -> pa.Table:
        """Bars with the column `is_final`; those that are not yet are remembered."""
        places = [bar for bar, _ in bars_and_spans(bars, minutes)]
        flags = [self._passed(bar) for bar in places]
        for bar, final in zip(places, flags, strict=True):
            (self._open.discard if final else self._open.add)(bar)
        return bars.append_column("is_final", pa.array(flags, pa.bool_()))

    def over(self, now: int) -> bool:
        """Whether there is a bar whose time is over by the clock, `now` in microseconds since the epoch."""
        return any(self._end(bar) <= now for bar in self._open)

    def write(self, now: int | None = None) -> int:
        """Flag what has become final, with a time `now` also what is over by the clock; how many bars."""
        due = {bar for bar in self._open if self._passed(bar) or (now is not None and self._end(bar) <= now)}
        for table, minutes in lake.bar_tables(self._settings):
            places = [(*bar.key, bar.start) for bar in due if bar.minutes == minutes]
            if places:
                set_final(self._settings, table, places)
        self._open -= due
        return len(due)

    def _passed(self, bar: Bar) -> bool:
        newest = self._newest.get(bar.key)
        return newest is not None and newest >= self._end(bar)

    def _end(self, bar: Bar) -> int:
        return bar.start + bar.minutes * MINUTE_US + self._grace
