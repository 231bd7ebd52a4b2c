"""Build the changed frames that faults send: reversed, repeated with another price, or unreadable. No I/O.

Works on the simulator's own trade frames (kind `trade`) as text, whose form is known; no number is decoded, so digits
stay as they are.
"""

from __future__ import annotations

import re
from random import Random

from lakehouse.simulator.faults.kinds import Garbage
from lakehouse.simulator.faults.model import Frame

_DATA_OPENING, _DATA_ENDING, _BETWEEN = b'"data":[', b"]}", b"},{"
_PRICE = re.compile(rb'("(?:p|price)":"?)([0-9.]+)("?)')
_PRICE_FIELD = re.compile(rb',"(?:p|price)":(?:"[^"]*"|[0-9.]+)')
_SIZE = re.compile(rb'("(?:q|qty|size)":"?)([0-9.]+)')
_ID = re.compile(rb'"(?:t|trade_id)":([0-9]+)')
_MILLIS = re.compile(rb'("T":)[0-9]+')
_ISO = re.compile(rb'("(?:timestamp|time)":")[0-9]{4}')
#: 2099-06-01T00:00:00Z in seconds.
_SECONDS_2099 = 4_083_955_200
#: One more than any column of this lakehouse, or any exchange, has.
_TOO_MANY_DECIMALS = 19


def _trades(frame: Frame) -> tuple[bytes, list[bytes]] | None:
    """(text up to the array, its objects without outer braces) of a Kraken frame; None for other venues' frames."""
    opening, separator, rest = frame.payload.partition(_DATA_OPENING)
    if not separator or not rest.endswith(_DATA_ENDING):
        return None
    return opening + separator, rest[1 : -len(_DATA_ENDING) - 1].split(_BETWEEN)


def reverse(frame: Frame) -> Frame:
    """Return a Kraken frame with its trades newest first; a frame with one trade unchanged."""
    parts = _trades(frame)
    if parts is None or len(parts[1]) < 2:
        return frame
    return _with(frame, parts[0] + b"{" + _BETWEEN.join(reversed(parts[1])) + b"}" + _DATA_ENDING)


def single(frame: Frame, random: Random) -> Frame:
    """Return a frame with one trade of `frame`, drawn at random; the frame itself if it has one trade."""
    parts = _trades(frame)
    if parts is None or not parts[1][0]:
        return frame
    payload = parts[0] + b"{" + random.choice(parts[1]) + b"}" + _DATA_ENDING
    found = _ID.search(payload)
    trade_id = int(found[1]) if found else 0
    return Frame(payload, frame.kind, frame.symbol, trade_id, trade_id)


def conflict(frame: Frame, random: Random) -> Frame:
    """Return a frame that repeats one trade of `frame`, drawn at random, with another price above 0."""

    def other(found: re.Match[bytes]) -> bytes:
        digits = found[2]
        # 1 to 9, and never the digit that was there.
        return found[1] + digits[:-1] + str(int(digits[-1:]) % 9 + 1).encode() + found[3]

    one = single(frame, random)
    return _with(one, _PRICE.sub(other, one.payload))


def as_snapshot(frame: Frame) -> Frame:
    """Return a frame that repeats the trades of `frame` as a snapshot: Kraken's, or Coinbase's `last_match`."""
    payload = frame.payload.replace(b'"type":"update"', b'"type":"snapshot"').replace(
        b'"type":"match"', b'"type":"last_match"'
    )
    return Frame(payload, "snapshot", frame.symbol, frame.first_id, frame.last_id)


def garbage(frame: Frame, what: Garbage, random: Random) -> Frame:
    """Make an unreadable or implausible frame, bad in the way `what`, from one trade of `frame`, drawn at random.

    If a trade id can be read from the frame, it is that trade's.
    """
    one = single(frame, random)
    payload = one.payload
    if what == "not_json":
        payload = payload[: len(payload) // 2]
    elif what == "not_an_object":
        payload = random.choice((b"[]", b"null", b"42", b'"trade"'))
    elif what == "missing_field":
        payload = _PRICE_FIELD.sub(b"", payload)
    elif what == "wrong_type":
        payload = _PRICE_FIELD.sub(lambda found: found[0].partition(b":")[0] + b":{}", payload)
    elif what == "nineteen_decimals":
        payload = _SIZE.sub(lambda found: found[1] + _finer(found[2]), payload)
    elif what == "negative_size":
        payload = _SIZE.sub(lambda found: found[1] + b"-" + found[2], payload)
    else:
        payload = _ISO.sub(rb"\g<1>2099", _MILLIS.sub(_in_2099, payload))
    return _with(one, payload)


def _finer(digits: bytes) -> bytes:
    whole, _, fraction = digits.partition(b".")
    return whole + b"." + fraction.ljust(_TOO_MANY_DECIMALS - 1, b"0") + b"1"


def _in_2099(found: re.Match[bytes]) -> bytes:
    unit = 10 ** max(0, len(found[0]) - len(found[1]) - 10)  # ten digits are seconds: the time keeps its unit
    return found[1] + str(_SECONDS_2099 * unit).encode()


def _with(frame: Frame, payload: bytes) -> Frame:
    return Frame(payload, frame.kind, frame.symbol, frame.first_id, frame.last_id)
