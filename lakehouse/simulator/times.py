"""Format times as the venues write them, and read the clock. All in microseconds since the epoch, UTC."""

from __future__ import annotations

import time

_last_second = -1
_last_text = ""


def iso_micros(micros: int) -> str:
    """Format microseconds since the epoch as an ISO 8601 time in UTC: `2023-09-25T07:48:36.925533Z`."""
    global _last_second, _last_text
    second, fraction = divmod(micros, 1_000_000)
    if second != _last_second:  # thousands of trades share a second; strftime once for all
        _last_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last_second = second
    return f"{_last_text}.{fraction:06d}Z"


def now_micros() -> int:
    """Return this machine's time, in microseconds since the epoch."""
    return time.time_ns() // 1000
