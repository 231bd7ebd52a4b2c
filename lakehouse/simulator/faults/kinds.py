"""The catalogue of faults: each kind's effect, the venues that it can hit, its parameters, its part in the schedule.

A fault is active for `seconds`, on one venue or all, on one symbol or all if its kind knows symbols. `share` (above 0,
at most 1) is the probability that it strikes each frame, connection, subscription, REST call or hole (the `unit` of its
kind).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from lakehouse.market.symbols import canonical_symbol
from lakehouse.settings import VENUES
from lakehouse.simulator.faults.words import HOW

LONGEST_SECONDS = 86_400.0
DEFAULT_SECONDS = 5.0

#: The things that a fault may strike: `share` is the probability for each of them, and the count of a kind counts them
#: (for `silent`, `mute` and `no_pong` it counts frames).
Unit = Literal["frames", "connections", "subscriptions", "calls", "holes"]
Value = float | str | bool

#: The ways in which a frame of the fault `garbage` is bad; `frame_faults.garbage` makes them.
Garbage = Literal[
    "not_json",
    "not_an_object",
    "missing_field",
    "wrong_type",
    "nineteen_decimals",
    "negative_size",
    "year_2099",
]
GARBAGE: tuple[Garbage, ...] = get_args(Garbage)


class FaultError(ValueError):
    """Raised for an invalid request for a fault: one line with what was found and what was expected."""


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a kind of fault, of its default's type: a number in `low`..`high`, one of `words`, a boolean."""

    default: Value
    low: float = 0.0
    high: float = math.inf
    words: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> Value:
        """Return the value for this parameter from JSON. Raises FaultError if the type or the value is not allowed.

        `name` is the parameter's, for the message.
        """
        if isinstance(self.default, bool):
            if isinstance(value, bool):
                return value
            raise FaultError(f"{name} {value!r}; expected true or false")
        if isinstance(self.default, str):
            if value in self.words:
                return str(value)
            raise FaultError(f"{name} {value!r}; expected one of {', '.join(self.words)}")
        return read_number(name, value, self.low, self.high)


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault. `seconds` and `shares` are the bounds within which the schedule draws duration and probability.

    `unit` is the thing that it strikes, `venues` are the venues that it can hit.
    """

    name: str
    unit: Unit
    seconds: tuple[float, float] = (1.0, 20.0)
    shares: tuple[float, float] = (1.0, 1.0)
    venues: tuple[str, ...] = VENUES
    knows_symbols: bool = False
    #: True if the fault strikes once, when it begins, and not for as long as it is active.
    once: bool = False
    #: False if it begins on demand only, because trades that it hides could be taken for lost.
    scheduled: bool = True
    parameters: Mapping[str, Parameter] = {}


_FRAMES: dict[str, Any] = {"unit": "frames", "knows_symbols": True}
_QUIET: dict[str, Any] = {
    "unit": "connections",
    "knows_symbols": True,
    "shares": (0.5, 1.0),
    "parameters": {"open_only": Parameter(False)},
}
_CUT: dict[str, Any] = {"unit": "connections", "once": True, "seconds": (1.0, 1.0), "shares": (0.5, 1.0)}
_CALLS: dict[str, Any] = {"unit": "calls", "seconds": (1.0, 10.0), "shares": (0.5, 1.0)}

_ALL = (
    # The frame is not sent on that connection.
    Kind("drop", **_FRAMES, shares=(0.05, 1.0)),
    # The frame is sent twice: at once, or the second time up to `delay` seconds later.
    Kind("duplicate", **_FRAMES, shares=(0.1, 1.0), parameters={"delay": Parameter(0.2, 0.0, 5.0)}),
    # The frame is held back for up to `delay` seconds and overtaken by what comes after it.
    Kind("reorder", **_FRAMES, shares=(0.05, 0.5), parameters={"delay": Parameter(0.3, 0.01, 5.0)}),
    # All that comes within `window` seconds is sent in reverse; Kraken's frames also inside.
    Kind("newest_first", **_FRAMES, parameters={"window": Parameter(0.05, 0.005, 5.0)}),
    # The true frame is followed by one that nobody can read or believe.
    Kind("garbage", **_FRAMES, shares=(0.01, 0.2), parameters={"what": Parameter("any", words=("any", *GARBAGE))}),
    # The true frame is followed by a repeat of one of its trades with another price.
    Kind("conflict", **_FRAMES, shares=(0.01, 0.2)),
    # Snapshots come late, after live trades, and live trades come once more as a snapshot (or `last_match`).
    Kind("snapshot_overlap", **_FRAMES, shares=(0.1, 1.0), venues=("kraken", "coinbase")),
    # Open, answering pings, but no data and no heartbeats; with `mute` the heartbeats go on. `open_only`: on the
    # connections of that moment, so that a new one helps.
    Kind("silent", **_QUIET),
    Kind("mute", **_QUIET),
    # Subscriptions made now are acknowledged and bring nothing for as long as their connection lives.
    Kind("ack_silent", unit="subscriptions", knows_symbols=True, seconds=(2.0, 20.0), shares=(0.5, 1.0)),
    # Subscriptions made now are refused in words that may pass: at most `times`, 0 being all; `cut` ends connections
    # first, so that there is something to refuse.
    Kind(
        "refuse_passing",
        unit="subscriptions",
        knows_symbols=True,
        seconds=(2.0, 20.0),
        shares=(0.5, 1.0),
        parameters={
            "how": Parameter("any", words=("any", *HOW)),
            "times": Parameter(0.0, 0.0, 1e6),
            "cut": Parameter(True),
        },
    ),
    # Pings stay unanswered, those of the protocol and Kraken's.
    Kind("no_pong", unit="connections"),
    Kind("cut_1006", **_CUT),
    Kind("cut_1008", **_CUT),
    Kind("day_end", **_CUT),
    # An announcement (Binance and Kraken), and `delay` seconds later close 1001.
    Kind("server_shutdown", **_CUT, parameters={"delay": Parameter(3.0, 0.0, 600.0)}),
    # All are cut and none gets in again; with `rest` REST is gone too.
    Kind(
        "outage",
        unit="connections",
        parameters={"how": Parameter("any", words=("any", "503", "reset")), "rest": Parameter(False)},
    ),
    # The connections of that moment are cut (unless not `cut`), and each new one is refused with `status`; "any" is one
    # that passes soon: 418, 429 or 503. `retry_after` in seconds; 0 names what is left of the fault. `form` is that of
    # the header; "any" is one of seconds, decimals and date.
    Kind(
        "handshake_refused",
        unit="connections",
        seconds=(1.0, 10.0),
        shares=(0.5, 1.0),
        parameters={
            "status": Parameter("any", words=("any", "403", "418", "429", "451", "503")),
            "retry_after": Parameter(0.0, 0.0, 86_400.0),
            "form": Parameter("any", words=("any", "none", "seconds", "decimals", "date")),
            "cut": Parameter(True),
        },
    ),
    # REST shows what is at least so many seconds, and so many trades, old.
    Kind(
        "rest_lag",
        unit="calls",
        knows_symbols=True,
        parameters={"lag": Parameter(2.0, 0.0, 3600.0), "ids": Parameter(0.0, 0.0, 1e9)},
    ),
    # REST leaves out every `every`th trade, by its id, until the trade is `delay` seconds old; then it has it.
    Kind(
        "rest_late_rows",
        unit="calls",
        knows_symbols=True,
        parameters={"delay": Parameter(60.0, 0.1, 86_400.0), "every": Parameter(3.0, 1.0, 1e6)},
    ),
    # Refusals. `retry_after` in seconds; 0 names what is left of the fault.
    Kind("rest_429", **_CALLS, parameters={"retry_after": Parameter(0.0, 0.0, 3600.0)}),
    Kind("rest_418", **_CALLS, parameters={"retry_after": Parameter(0.0, 0.0, 3600.0)}),
    # 500 or 502; Kraken's EService errors inside HTTP 200, too.
    Kind("rest_error", **_CALLS),
    Kind("kraken_rate_limit", **_CALLS, venues=("kraken",)),
    Kind("rest_slow", **_CALLS, parameters={"delay": Parameter(1.0, 0.0, 60.0)}),
    # The venue leaves out `ids` ids for good, at most once in `every` seconds a market.
    Kind(
        "id_holes",
        unit="holes",
        knows_symbols=True,
        shares=(0.2, 1.0),
        parameters={"ids": Parameter(3.0, 1.0, 1e6), "every": Parameter(1.0, 0.0, 3600.0)},
    ),
    # The venue's clock is `ahead` seconds of ours, or behind: its trades, recorded as sent, have its times. Only the
    # difference shows, so it stands for a clock of ours that is slow, or fast, too. When it ends, the venue's time
    # stands still until ours has come to it. Not drawn: what is in quarantine comes back only by a replay.
    Kind(
        "venue_clock",
        unit="frames",
        scheduled=False,
        parameters={"ahead": Parameter(61.0, -3600.0, 3600.0)},
    ),
    # REST has the newest `trades` trades and no older ones.
    Kind(
        "retention",
        unit="calls",
        knows_symbols=True,
        scheduled=False,
        parameters={"trades": Parameter(1000.0, 0.0, 1e12)},
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


class Wanted(msgspec.Struct, frozen=True):
    """A request for a fault: its kind, duration in seconds, probability `share`, and the values of its parameters.

    `venue` and `symbol` None mean all of them.
    """

    kind: Kind
    venue: str | None = None
    symbol: str | None = None
    seconds: float = DEFAULT_SECONDS
    share: float = 1.0
    parameters: Mapping[str, Value] = {}

    def number(self, name: str) -> float:
        """Return a numeric parameter; 0 if the fault has no parameter of that name."""
        return float(self.parameters.get(name, 0.0))


def read_number(name: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float. Raises FaultError, with `name`, unless it is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        bounds = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        raise FaultError(f"{name} {value!r}; expected a number, {bounds}")
    return float(value)


def read_fault(message: Any, venues: Sequence[str], symbols: Sequence[str]) -> Wanted:
    """Parse the JSON of `POST /admin/faults`, on a simulator with these venues and canonical symbols.

    Raises FaultError if a field is unknown or its value is not allowed.
    """
    if not isinstance(message, dict):
        raise FaultError('a fault is a JSON object; expected such as {"kind": "drop", "seconds": 5, "share": 0.5}')
    kind = KINDS.get(name) if isinstance(name := message.get("kind"), str) else None
    if kind is None:
        raise FaultError(f"unknown kind {name!r}; expected one of {', '.join(KINDS)}")
    rest = {key: value for key, value in message.items() if key not in Wanted.__struct_fields__}
    for key in rest:
        if key not in kind.parameters:
            known = ", ".join(["kind", "venue", "symbol", "seconds", "share", *kind.parameters])
            raise FaultError(f"{kind.name} has no {key!r}; expected of {known}")
    seconds = read_number("seconds", message.get("seconds", DEFAULT_SECONDS), 0.001, LONGEST_SECONDS)
    share = read_number("share", message.get("share", 1.0), 1e-9, 1.0)
    return Wanted(
        kind,
        _venue(kind, message.get("venue"), venues),
        _symbol(kind, message.get("symbol"), symbols),
        seconds,
        share,
        {key: one.read(key, rest.get(key, one.default)) for key, one in kind.parameters.items()},
    )


def _venue(kind: Kind, venue: Any, venues: Sequence[str]) -> str | None:
    able = [one for one in kind.venues if one in venues]
    if not able:
        raise FaultError(f"{kind.name} needs one of {', '.join(kind.venues)}; this simulator has {', '.join(venues)}")
    if venue is not None and venue not in able:
        raise FaultError(f"venue {venue!r} for {kind.name}; expected one of {', '.join(able)}, or null for all of them")
    return venue if venue is None else str(venue)


def _symbol(kind: Kind, symbol: Any, symbols: Sequence[str]) -> str | None:
    if symbol is None:
        return None
    if not kind.knows_symbols:
        raise FaultError(f"{kind.name} hits a whole venue; expected no symbol")
    try:
        found = canonical_symbol(symbol) if isinstance(symbol, str) else None
    except ValueError as error:
        raise FaultError(str(error)) from None
    if found not in symbols:
        raise FaultError(f"symbol {symbol!r}; expected one of {', '.join(symbols)}, or null for all of them")
    return found
