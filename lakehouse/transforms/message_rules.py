"""Rules of a good message, in the order in which they are judged. The first rule not met is the verdict.

Stated once, for the streams, `lakehouse replay`, `lakehouse rebuild silver` and the prices. `wire` takes messages of
ingest's own form that certainly meet all of them, by the same forms and bounds (`trade_forms`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from lakehouse.lake.receipt_times import FUTURE_RULE
from lakehouse.transforms import trade_forms as forms

#: Fields that a message of the trades' topic must have, and one of the feed events' topic.
TRADE_FIELDS = (
    "venue",
    "symbol",
    "native_symbol",
    "trade_id",
    "price",
    "size",
    "side",
    "ts_event",
    "ts_ingest",
    "source",
)
EVENT_FIELDS = ("venue", "event", "ts_event", "connection_id")

#: Most characters of a value that are quoted in a detail.
_QUOTED = 100

_is_integer = re.compile("[0-9]{1,18}").fullmatch
_is_decimal = re.compile(rf"[0-9]{{1,{forms.WHOLE_DIGITS}}}(\.[0-9]{{1,{forms.DECIMALS}}})?").fullmatch
_FITS = {name: re.compile(form).fullmatch for name, form in forms.GOOD_FORM.items()}


class Message(NamedTuple):
    """A message to judge. `texts` are the fields that it has (`message_fields`); times are µs since the epoch.

    `kafka` is Kafka's time of the message, `latest` the latest time that it may contain.
    """

    has_value: bool
    texts: Mapping[str, str]
    kafka: int
    latest: int


class Rule(NamedTuple):
    """A rule: its name, whether a message meets it, and a text for the other case: what was found and expected.

    Both functions may rely on the rules before this one being met.
    """

    name: str
    is_met: Callable[[Message], bool]
    detail: Callable[[Message], str]


def first_unmet(rules: Iterable[Rule], message: Message) -> Rule | None:
    """Return the first rule that a message does not meet; None if it meets all."""
    for rule in rules:
        if not rule.is_met(message):
            return rule
    return None


def rejected_verdict(message: Message) -> tuple[str, str]:
    """Return rule and detail for a message of the rejected topic, from ingest's own reason."""
    texts = message.texts
    detail = texts.get("detail", "rejected by ingest without a detail")
    return f"rejected:{texts.get('reason', 'unknown')}", detail


def _shape_rules(required: tuple[str, ...]) -> tuple[Rule, ...]:
    names = frozenset(required)

    def missing(message: Message) -> str:
        return ", ".join(name for name in required if name not in message.texts)

    return (
        Rule("no_value", lambda m: m.has_value, lambda _: "the message has no value; expected a JSON object"),
        Rule(
            "not_json",
            lambda m: not names.isdisjoint(m.texts),
            lambda _: "the value is not a JSON object with the expected fields",
        ),
        Rule(
            "missing_field",
            lambda m: names <= m.texts.keys(),
            lambda m: f"found no {missing(m)}; expected {', '.join(required)}",
        ),
    )


def _found(name: str, expected: str) -> Callable[[Message], str]:
    return lambda m: f"found {name} {m.texts[name][:_QUOTED]}; expected {expected}"


def _has_form(name: str) -> Callable[[Message], bool]:
    return lambda m: _FITS[name](m.texts[name]) is not None


def _is_after_2008(name: str) -> Callable[[Message], bool]:
    return lambda m: _is_integer(m.texts[name]) is not None and int(m.texts[name]) >= forms.EARLIEST_MICROS


def _is_id_or_none(name: str) -> Callable[[Message], bool]:
    return lambda m: name not in m.texts or _is_integer(m.texts[name]) is not None


def _is_positive(name: str) -> Callable[[Message], bool]:
    return lambda m: Decimal(m.texts[name]) > 0


def _is_below(name: str, bound: int) -> Callable[[Message], bool]:
    return lambda m: Decimal(m.texts[name]) < bound


def _last(message: Message, times: tuple[str, ...]) -> int:
    return max(int(message.texts[name]) for name in times)


def _too_late(what: str, times: tuple[str, ...], m: Message) -> str:
    """Return the detail of FUTURE_RULE: how far in the future, and the two possible causes."""
    tolerance = (m.latest - m.kafka) // 1_000_000
    return (
        _found("ts_event", f"{what}at most {tolerance} s after Kafka's time")(m)
        + f", found {(_last(m, times) - m.kafka) / 1_000_000:,.1f} s: a wrong time of the venue's, "
        "or the clock of the machine that ingests is slow (check clock_agrees)"
    )


def _future_rule(what: str, *times: str) -> Rule:
    return Rule(FUTURE_RULE, lambda m: _last(m, times) <= m.latest, partial(_too_late, what, times))


_VENUE = Rule("bad_venue", _has_form("venue"), _found("venue", "a lower-case name"))
_EVENT_TIME = Rule("bad_event_time", _is_after_2008("ts_event"), _found("ts_event", "microseconds since the epoch"))
_DECIMAL = "a plain decimal with at most 20 digits before and 18 after the point"

#: Rules of a message of the trades' topic.
TRADE_RULES: tuple[Rule, ...] = (
    *_shape_rules(TRADE_FIELDS),
    _VENUE,
    Rule("bad_symbol", _has_form("symbol"), _found("symbol", "BASE/QUOTE in the venue's own case")),
    Rule("bad_native_symbol", _has_form("native_symbol"), _found("native_symbol", "a name")),
    Rule(
        "bad_trade_id",
        lambda m: _is_integer(m.texts["trade_id"]) is not None,
        _found("trade_id", "a whole number below 10^18"),
    ),
    Rule("bad_price", lambda m: _is_decimal(m.texts["price"]) is not None, _found("price", _DECIMAL)),
    Rule("bad_size", lambda m: _is_decimal(m.texts["size"]) is not None, _found("size", _DECIMAL)),
    Rule("price_not_positive", _is_positive("price"), _found("price", "more than 0")),
    Rule("size_not_positive", _is_positive("size"), _found("size", "more than 0")),
    Rule("price_out_of_range", _is_below("price", forms.MAX_PRICE), _found("price", "less than 10^12")),
    Rule("size_out_of_range", _is_below("size", forms.MAX_SIZE), _found("size", "less than 10^15")),
    Rule(
        "notional_out_of_range",
        lambda m: float(m.texts["price"]) * float(m.texts["size"]) < forms.MAX_NOTIONAL,
        _found("size", "price × size less than 10^15"),
    ),
    Rule("bad_side", lambda m: m.texts["side"] in forms.CHOICES["side"], _found("side", "buy or sell")),
    Rule(
        "bad_source", lambda m: m.texts["source"] in forms.CHOICES["source"], _found("source", "live, snapshot, repair")
    ),
    _EVENT_TIME,
    Rule("bad_ingest_time", _is_after_2008("ts_ingest"), _found("ts_ingest", "microseconds since the epoch")),
    _future_rule("it and ts_ingest ", "ts_event", "ts_ingest"),
)

#: Rules of a message of the feed events' topic.
EVENT_RULES: tuple[Rule, ...] = (
    *_shape_rules(EVENT_FIELDS),
    _VENUE,
    _EVENT_TIME,
    _future_rule("", "ts_event"),
    *(Rule("bad_gap", _is_id_or_none(name), _found(name, "a whole number")) for name in ("first_id", "last_id")),
)
