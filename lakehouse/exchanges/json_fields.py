"""Validate and convert the fields of a trade, by rules that all venues share: decimals, trade ids, times.

Nothing is ever rounded; surplus decimals of a time are cut.

The fast path of a parser puts these rules into msgspec types (`DecimalText`, `TradeId`) or calls the functions below;
`parse_errors` names the rule that a field broke.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec

#: Prices and sizes are DECIMAL(38,18) in the tables: 20 digits before the point, 18 after it.
MAX_INTEGER_DIGITS = 20
MAX_DECIMALS = 18
#: A plain positive decimal that fits: no sign, no exponent, no NaN, not zero. ASCII digits only.
DECIMAL_PATTERN = rf"^(?![0.]*\Z)[0-9]{{1,{MAX_INTEGER_DIGITS}}}(?:\.[0-9]{{1,{MAX_DECIMALS}}})?\Z"
DecimalText = Annotated[str, msgspec.Meta(pattern=DECIMAL_PATTERN)]
is_decimal = re.compile(DECIMAL_PATTERN).match

#: Bounded, so that `1e999999999` cannot ask for a gigabyte of zeros.
_SCIENTIFIC = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?[eE][+-]?[0-9]{1,3}")

#: Trade ids are bigint (64 bits, signed) in the tables.
MAX_TRADE_ID = 2**63 - 1
TradeId = Annotated[int, msgspec.Meta(ge=0, le=MAX_TRADE_ID)]

#: Range of a trade's time in µs since the epoch, MAX_TIME excluded. No exchange traded before Bitcoin's first block,
#: and a value of another century is not a time in microseconds. Silver judges whether a time lies too far past the
#: receive time; it has the setting for that.
MIN_TIME = int(datetime(2009, 1, 3, tzinfo=UTC).timestamp()) * 1_000_000
MAX_TIME = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
#: Below it a number is milliseconds: as microseconds it would lie before April 1973, as milliseconds before 5138.
_LEAST_MICROSECONDS = 100_000_000_000_000

#: Kraken's REST writes up to seven decimals of a second.
_SECONDS = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,40}))?")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_is_utc_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)"
).fullmatch


def number_text(literal: str) -> str | None:
    """Return a JSON number literal in plain digits; None if it is not a positive decimal within DECIMAL(38,18).

    The literal's digits survive as they are. Scientific notation (`1.5e-7`), which a serializer may choose for a small
    number, is written out (`0.00000015`) exactly; it never passes through a float.
    """
    if is_decimal(literal):
        return literal
    plain = written_out(literal)
    return plain if plain is not None and is_decimal(plain) else None


def written_out(literal: str) -> str | None:
    """Rewrite scientific notation in plain digits, exactly: `1.5e-7` → `0.00000015`.

    None if `literal` is not an unsigned number in that notation. The result may be too long for the tables.
    """
    return format(Decimal(literal), "f") if _SCIENTIFIC.fullmatch(literal) else None


def epoch_micros(value: int) -> int | None:
    """Convert an epoch time in milliseconds or microseconds, told apart by magnitude, to microseconds.

    None if the time is outside MIN_TIME..MAX_TIME (2009 to 2099).
    """
    micros = value if value >= _LEAST_MICROSECONDS else value * 1000
    return micros if MIN_TIME <= micros < MAX_TIME else None


def seconds_nanos(literal: str) -> int | None:
    """Convert epoch seconds in decimal, such as `1762795433.9717445`, to nanoseconds since the epoch.

    None if `literal` is not such a number, or outside 2009 to 2099. Decimals after the ninth are cut, not rounded;
    nothing passes through a float.
    """
    match = _SECONDS.fullmatch(literal)
    if match is None:
        return None
    nanos = int(match[1]) * 1_000_000_000 + int((match[2] or "")[:9].ljust(9, "0"))
    return nanos if MIN_TIME <= nanos // 1000 < MAX_TIME else None


def iso_micros(text: str) -> int | None:
    """Convert an ISO 8601 UTC time such as `2021-04-17T16:43:37.089723Z` to microseconds since the epoch.

    None for another form, or a time outside 2009 to 2099. Up to nine decimals of a second are read; those after the
    sixth are cut, not rounded.
    """
    if not _is_utc_time(text):
        return None
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError:  # the 30th of February, hour 24, second 60
        return None
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return micros if MIN_TIME <= micros < MAX_TIME else None
