"""Checks of single settings: text in, the value to use out, or ValueError with what was found and expected. Pure."""

from __future__ import annotations

import re

from pydantic import SecretStr

#: Value of `Settings.trigger` with which a stream reads what its source holds at the start, and then ends.
AVAILABLE_NOW = "available-now"
#: Intervals of Spark's processing-time trigger, as far as a stream needs them.
_INTERVAL = re.compile(r"([1-9][0-9]{0,11}) (millisecond|second|minute|hour)s?")
_UNIT_MS = {"millisecond": 1, "second": 1_000, "minute": 60_000, "hour": 3_600_000}
#: The longest of them, a year in milliseconds: Spark counts microseconds in 64 bits and refuses more when the stream
#: starts.
_LONGEST_MS = 365 * 24 * 3_600_000

#: The least heap of Spark's driver, bytes. Spark refuses less than 471,859,200 (`UnifiedMemoryManager`); Java keeps a
#: part of what it is given for itself, some 16 MB of 480 MB with the serial collector.
LEAST_DRIVER_MEMORY = 480 << 20
_MEMORY = re.compile(r"([1-9][0-9]{0,17})([kmgt]?)")
#: Least characters of the HTTP API's key.
LEAST_KEY = 16


def trigger_of(value: str) -> str:
    """Return a trigger in lower case: AVAILABLE_NOW, or an interval. Raises ValueError for anything else."""
    text = " ".join(value.split()).lower()
    interval = _INTERVAL.fullmatch(text)
    if text != AVAILABLE_NOW and (not interval or int(interval[1]) * _UNIT_MS[interval[2]] > _LONGEST_MS):
        raise ValueError(
            f"{value[:40]!r}; expected {AVAILABLE_NOW}, or an interval such as '3 seconds' or '1 minute', "
            "a year (8760 hours) at most"
        )
    return text


def heap_of(value: str) -> str:
    """Return the heap of Spark's driver, such as 1g, in lower case. Raises ValueError if it is too small or no size."""
    text = value.strip().lower()
    size = _MEMORY.fullmatch(text)
    if not size or int(size[1]) << (10 * " kmgt".index(size[2] or " ")) < LEAST_DRIVER_MEMORY:
        raise ValueError(f"{value[:40]!r}; expected a heap such as 1g or 512m, 480m at least: Spark takes no less")
    return text


def key_of(value: SecretStr | None) -> SecretStr | None:
    """Return the HTTP API's key. Raises ValueError, without the key, if it is short or not printable ASCII."""
    found = "" if value is None else value.get_secret_value()
    if value is not None and (len(found) < LEAST_KEY or not found.isascii() or not found.isprintable()):
        raise ValueError(f"a key of {len(found)} characters; expected {LEAST_KEY} or more, all printable ASCII")
    return value
