"""Batches divided into units of few messages, so that a test's messages are several units. No test module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from unittest.mock import patch

from lakehouse.broker.offset_ranges import OffsetRange
from lakehouse.settings import Settings
from lakehouse.streams import gold_bars, landing, silver, touched_bars
from lakehouse.streams.landing import LandUnit


@contextlib.contextmanager
def small_units(most: int) -> Iterator[None]:
    """Divide what Bronze, Silver and Gold work on in this process into units of up to `most` messages or trades."""
    units_of = landing.units_of

    def divided(settings: Settings, ranges: Sequence[OffsetRange]) -> list[LandUnit]:
        return units_of(settings, ranges, most)

    with (
        patch.object(landing, "units_of", divided),
        patch.object(silver, "UNIT_MESSAGES", most),
        patch.object(touched_bars, "UNIT_MESSAGES", most),
        patch.object(gold_bars, "UNIT_MESSAGES", most),
    ):
        yield
