"""Finality of bars: a final bar is over, and everything received for it has been read. No Spark.

A bar is final once its symbol has a trade `final_after_seconds` past the bar's end, or once the clock is so far past it
and all that Kafka had received by then has been read: so the last bar of an idle market becomes final too. A trade that
comes later still (a repair) changes the bar, with a new revision; the bar stays final. The flag does not say that no
trade is missing; `complete` does.
Gap: while no stream runs, nothing becomes final; the next one, or a catch-up, makes up for it.
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
    """Follows one moment at a time through the layers, until Gold has read all that Kafka had received by then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._moment: int | None = None
        self._layer = LAYERS[0]
        self._target: dict[str, Any] = {}

    def passed(self, now: int) -> int | None:
        """Return the followed moment once Gold has read all that Kafka had received by then, else None.

        If none is followed, follow `now`, in microseconds since the epoch, which is passed at once if everything is at
        rest. Raises BrokerUnavailableError if Kafka does not answer.
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
        """Begin without bars. `newest` is in microseconds since the epoch; a time too low makes bars final later."""
        self._settings = settings
        self._grace = round(settings.final_after_seconds * 1_000_000)
        self._newest = dict(newest)
        #: Length in minutes → bars that are not final.
        self._open = {length: RowKeys.of_tuples(()) for _, length in table_io.bar_tables(settings)}

    @classmethod
    def of_tables(cls, settings: Settings) -> Finality:
        """Read the newest times and the bars that are not final from the tables of bars.

        A symbol's newest time is the start of its newest one-minute bar, which is at most a minute too low.
        """
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
        """Note that a symbol has a trade at a time, in microseconds since the epoch."""
        self._newest[key] = max(at, self._newest.get(key, at))

    def with_flags(self, bars: pa.Table, minutes: int) -> pa.Table:
        """Return bars, of a length in minutes, with the column `is_final`; remember those that are not final yet."""
        places, known = RowKeys.of(bars, BAR_KEY), self._open[minutes]
        final = self._passed(places, minutes)
        self._open[minutes] = known.at(~known.among(places)).plus(places.at(~final))
        return bars.append_column("is_final", pa.array(final))

    def passed(self, minutes: int) -> RowKeys:
        """Return the bars of a length that have become final by their symbols' trades and are not yet written so."""
        places = self._open[minutes]
        return places.at(self._passed(places, minutes))

    def over(self, now: int) -> bool:
        """Return True if a bar that is not final is over by the clock: `now`, in microseconds since the epoch."""
        return any((self._ends(places, minutes) <= now).any() for minutes, places in self._open.items())

    def write(self, now: int | None = None) -> int:
        """Flag the bars that have become final in their tables, and return their number.

        With a time `now`, in microseconds since the epoch, flag also those that are over by the clock. Raises
        RetriableError if another writer was faster.
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
        """Return a mask of the bars whose symbol has a trade `final_after_seconds` or more past the bar's end."""
        keys, key = places.pairs()
        newest = np.array([self._newest.get(one, _NEVER) for one in keys], np.int64)
        passed: Mask = newest[key] >= self._ends(places, minutes)
        return passed

    def _ends(self, places: RowKeys, minutes: int) -> Integers:
        return places.start + minutes * MINUTE_US + self._grace
