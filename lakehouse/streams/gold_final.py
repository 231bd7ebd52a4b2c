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

import numpy as np
import pyarrow as pa

from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams.gold_complete import MINUTE_US
from lakehouse.streams.gold_rows import UTC_MICROS
from lakehouse.streams.progress import has_passed, last_position, newest_position
from lakehouse.streams.replacement import flag
from lakehouse.tables import GOLD_BARS_1M, LAYERS
from lakehouse.transforms.arrow_numpy import Integers, Mask
from lakehouse.transforms.bars import BAR_KEY
from lakehouse.transforms.row_keys import RowKeys

_NEVER = np.iinfo(np.int64).min


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

    def __init__(self, settings: Settings, newest: Mapping[MarketKey, int]) -> None:
        """`newest` is in microseconds since the epoch; too low a time only makes bars final later."""
        self._settings = settings
        self._grace = round(settings.final_after_seconds * 1_000_000)
        self._newest = dict(newest)
        #: Length in minutes → bars that are not final.
        self._open = {length: RowKeys.of_tuples(()) for _, length in table_io.bar_tables(settings)}

    @classmethod
    def of_tables(cls, settings: Settings) -> Finality:
        """As the tables of bars tell it."""
        minutes = table_io.sql(
            settings, "SELECT venue, symbol, max(bar_start) AS at FROM t GROUP BY venue, symbol", t=GOLD_BARS_1M
        )
        times = minutes.column("at").cast(UTC_MICROS).cast(pa.int64())
        columns: list[list[Any]] = [one.to_pylist() for one in (minutes["venue"], minutes["symbol"], times)]
        found = cls(settings, {(venue, symbol): at for venue, symbol, at in zip(*columns, strict=True)})
        for table, length in table_io.bar_tables(settings):
            left = table_io.sql(settings, "SELECT venue, symbol, bar_start FROM t WHERE NOT is_final", t=table)
            found._open[length] = RowKeys.of(left, table.key)
        return found

    def saw(self, key: MarketKey, at: int) -> None:
        """A trade of that time, in microseconds since the epoch."""
        self._newest[key] = max(at, self._newest.get(key, at))

    def with_flags(self, bars: pa.Table, minutes: int) -> pa.Table:
        """Bars with the column `is_final`; those that are not yet are remembered."""
        places, known = RowKeys.of(bars, BAR_KEY), self._open[minutes]
        final = self._passed(places, minutes)
        self._open[minutes] = known.at(~known.among(places)).plus(places.at(~final))
        return bars.append_column("is_final", pa.array(final))

    def passed(self, minutes: int) -> RowKeys:
        """Bars of a length that have become final by their symbols' trades and are not yet written so."""
        places = self._open[minutes]
        return places.at(self._passed(places, minutes))

    def over(self, now: int) -> bool:
        """Whether there is a bar whose time is over by the clock, `now` in microseconds since the epoch."""
        return any((self._ends(places, minutes) <= now).any() for minutes, places in self._open.items())

    def write(self, now: int | None = None) -> int:
        """Flag what has become final, with a time `now` also what is over by the clock; how many bars.

        Raises RetriableError where somebody else has written a table meanwhile.
        """
        written = 0
        for table, minutes in table_io.bar_tables(self._settings):
            places = self._open[minutes]
            due = self._passed(places, minutes)
            if now is not None:
                due |= self._ends(places, minutes) <= now
            if due.any():
                flag(self._settings, table, places.at(due), "is_final")  # neither revision nor `updated_at` changes
                self._open[minutes] = places.at(~due)
            written += int(due.sum())
        return written

    def _passed(self, places: RowKeys, minutes: int) -> Mask:
        """Whether the symbol of each place has traded so far past the bar's end."""
        keys, key = places.pairs()
        newest = np.array([self._newest.get(one, _NEVER) for one in keys], np.int64)
        passed: Mask = newest[key] >= self._ends(places, minutes)
        return passed

    def _ends(self, places: RowKeys, minutes: int) -> Integers:
        return places.start + minutes * MINUTE_US + self._grace
