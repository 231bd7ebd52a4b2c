"""Read the header Retry-After of a venue's HTTP answer to a REST request or a WebSocket handshake. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The longest wait that is believed, in seconds. Binance's longest ban is three days [documentation]; a longer time is
#: a mistake, and a feed that obeyed it would stay silent until it is restarted.
LONGEST_SECONDS = 3 * 86_400.0
#: RFC 9110 (10.2.3) knows whole seconds; some venues send decimals.
_is_seconds = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?").fullmatch


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that Retry-After asks to wait, at most LONGEST_SECONDS; None if it is missing or unreadable.

    Names of headers are lower-case. A date counts from the answer's own `date` header, so that a wrong clock of this
    machine does not matter; without that header, from `now` (seconds since the epoch; None: the clock). A date that has
    passed gives 0.
    """
    value = headers.get("retry-after", "").strip()
    if _is_seconds(value):
        return min(float(value), LONGEST_SECONDS)
    until = _epoch_seconds(value)
    if until is None:
        return None
    sent = _epoch_seconds(headers.get("date", ""))
    if sent is None:
        sent = time.time() if now is None else now
    return min(max(until - sent, 0.0), LONGEST_SECONDS)


def _epoch_seconds(value: str) -> float | None:
    """Seconds since the epoch of an HTTP date in any of its three forms (RFC 9110, 5.6.7); None if it is none."""
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return (date - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
