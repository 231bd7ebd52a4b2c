"""Rules of a good message, as Spark columns over the parsed struct `m`. The first rule not met is the verdict.

`is_good_trade` combines all of `trade_rules` in one cheap expression, as nearly every message is good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse.lake.receipt_times import FUTURE_RULE
from lakehouse.settings import Settings
from lakehouse.tables import DECIMAL
from lakehouse.transforms import trade_forms as forms

if TYPE_CHECKING:
    from pyspark.sql import Column

    #: Name of a rule, the condition that it is met, and a text for the other case: what was found and expected.
    Rule = tuple[str, Column, Column]

#: Fields of a message of the trades' topic. All are read as text first, so that a wrong type gets a verdict and not a
#: null from Spark.
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
#: Fields of a message of the feed events' topic, and of one of the rejected messages' topic.
EVENT_FIELDS = ("venue", "event", "ts_event", "connection_id", "symbol", "first_id", "last_id", "detail")
REJECTED_FIELDS = ("venue", "reason", "detail", "raw", "ts_ingest")

# \z and not $, which would let a line feed follow.
_INTEGER = r"^[0-9]{1,18}\z"
_DECIMAL = rf"^[0-9]{{1,{forms.WHOLE_DIGITS}}}(\.[0-9]{{1,{forms.DECIMALS}}})?\z"

#: Form of a positive number below 10^whole, with at most 20 digits before the point, leading zeros included.
_POSITIVE = "(?=[0-9.]*[1-9])0{{0,{zeros}}}[0-9]{{1,{whole}}}([.][0-9]{{1,18}})?"
_FORMS = forms.GOOD_FORM | {
    "trade_id": "[0-9]{1,18}",
    "price": _POSITIVE.format(zeros=8, whole=12),
    "size": _POSITIVE.format(zeros=5, whole=15),
    "side": "(buy|sell)",
    "ts_event": "[0-9]{1,18}",
    "ts_ingest": "[0-9]{1,18}",
    "source": "(live|snapshot|repair)",
}

#: The forms of a good trade, each followed by U+001F, in the order of TRADE_FIELDS: one regular expression per row
#: instead of ten. `trade_rules` states the same rule by rule, for the few other rows.
GOOD_TRADE = "^" + "".join(f"{_FORMS[name]}\\x1f" for name in TRADE_FIELDS) + "\\z"


def trade_rules(settings: Settings) -> list[Rule]:
    """Rules of a message of the trades' topic, in the order in which they are judged."""
    price = F.when(F.col("m.price").rlike(_DECIMAL), F.col("m.price").cast(DECIMAL))
    size = F.when(F.col("m.size").rlike(_DECIMAL), F.col("m.size").cast(DECIMAL))
    decimal = "a plain decimal with at most 20 digits before and 18 after the point"
    return [
        *_shape_rules(TRADE_FIELDS),
        _venue_rule(),
        ("bad_symbol", _has_form("symbol"), _found("symbol", "BASE/QUOTE in the venue's own case")),
        (
            "bad_native_symbol",
            _has_form("native_symbol"),
            _found("native_symbol", "a name"),
        ),
        ("bad_trade_id", F.col("m.trade_id").rlike(_INTEGER), _found("trade_id", "a whole number below 10^18")),
        ("bad_price", price.isNotNull(), _found("price", decimal)),
        ("bad_size", size.isNotNull(), _found("size", decimal)),
        ("price_not_positive", price > 0, _found("price", "more than 0")),
        ("size_not_positive", size > 0, _found("size", "more than 0")),
        ("price_out_of_range", price < forms.MAX_PRICE, _found("price", "less than 10^12")),
        ("size_out_of_range", size < forms.MAX_SIZE, _found("size", "less than 10^15")),
        (
            "notional_out_of_range",
            price.cast("double") * size.cast("double") < float(forms.MAX_NOTIONAL),
            _found("size", "price × size less than 10^15"),
        ),
        ("bad_side", F.col("m.side").isin("buy", "sell"), _found("side", "buy or sell")),
        (
            "bad_source",
            F.col("m.source").isin("live", "snapshot", "repair"),
            _found("source", "live, snapshot, repair"),
        ),
        (
            "bad_event_time",
            _micros("ts_event") >= forms.EARLIEST_MICROS,
            _found("ts_event", "microseconds since the epoch"),
        ),
        (
            "bad_ingest_time",
            _micros("ts_ingest") >= forms.EARLIEST_MICROS,
            _found("ts_ingest", "microseconds since the epoch"),
        ),
        (
            FUTURE_RULE,
            (_micros("ts_event") <= _latest(settings)) & (_micros("ts_ingest") <= _latest(settings)),
            _in_the_future(settings, F.greatest(_micros("ts_event"), _micros("ts_ingest")), "it and ts_ingest "),
        ),
    ]


def event_rules(settings: Settings) -> list[Rule]:
    """Rules of a message of the feed events' topic, in the order in which they are judged."""
    return [
        *_shape_rules(("venue", "event", "ts_event", "connection_id")),
        _venue_rule(),
        (
            "bad_event_time",
            _micros("ts_event") >= forms.EARLIEST_MICROS,
            _found("ts_event", "microseconds since the epoch"),
        ),
        (
            FUTURE_RULE,
            _micros("ts_event") <= _latest(settings),
            _in_the_future(settings, _micros("ts_event"), ""),
        ),
        *(
            (
                "bad_gap",
                F.col(f"m.{name}").isNull() | F.col(f"m.{name}").rlike(_INTEGER),
                _found(name, "a whole number"),
            )
            for name in ("first_id", "last_id")
        ),
    ]


def is_good_trade(settings: Settings) -> Column:
    """Condition that a trade meets all of `trade_rules`; short, because Spark compiles only small expressions."""
    line = F.concat(*(F.concat(F.coalesce(F.col(f"m.{name}"), F.lit("")), F.lit("\x1f")) for name in TRADE_FIELDS))
    first = F.least(_whole("ts_event"), _whole("ts_ingest"))
    last = F.greatest(_whole("ts_event"), _whole("ts_ingest"))
    notional = F.expr("try_cast(m.price as double)") * F.expr("try_cast(m.size as double)")
    in_range = (first >= forms.EARLIEST_MICROS) & (last <= _latest(settings)) & (notional < float(forms.MAX_NOTIONAL))
    return F.coalesce(line.rlike(GOOD_TRADE) & in_range, F.lit(False))


def all_met(rules: list[Rule]) -> Column:
    """Condition that every rule is met. A rule that evaluates to null is not met."""
    met = F.lit(True)
    for _, condition, _ in rules:
        met = met & condition
    return F.coalesce(met, F.lit(False))


def first_failure(rules: list[Rule]) -> Column:
    """Return the struct (rule, detail) of the first rule that is not met; null if all are met."""
    failure: Column | None = None
    for name, met, detail in rules:
        verdict = F.struct(F.lit(name).alias("rule"), detail.alias("detail"))
        broken = ~F.coalesce(met, F.lit(False))
        failure = F.when(broken, verdict) if failure is None else failure.when(broken, verdict)
    assert failure is not None
    return failure


def rejected_verdict() -> Column:
    """Verdict of a frame that ingest could not read: the struct (rule, detail) from ingest's own reason."""
    reason = F.coalesce(F.col("m.reason"), F.lit("unknown"))
    return F.struct(
        F.concat(F.lit("rejected:"), reason).alias("rule"),
        F.coalesce(F.col("m.detail"), F.lit("rejected by ingest without a detail")).alias("detail"),
    )


def _shape_rules(required: tuple[str, ...]) -> list[Rule]:
    missing = [F.when(F.col(f"m.{name}").isNull(), F.lit(name)) for name in required]
    readable = F.col("m").isNotNull() & F.coalesce(*(F.col(f"m.{name}") for name in required)).isNotNull()
    return [
        ("no_value", F.col("value_raw").isNotNull(), F.lit("the message has no value; expected a JSON object")),
        ("not_json", readable, F.lit("the value is not a JSON object with the expected fields")),
        (
            "missing_field",
            F.concat_ws(",", *missing) == "",
            F.concat(F.lit("found no "), F.concat_ws(", ", *missing), F.lit(f"; expected {', '.join(required)}")),
        ),
    ]


def _venue_rule() -> Rule:
    return ("bad_venue", _has_form("venue"), _found("venue", "a lower-case name"))


def _has_form(name: str) -> Column:
    return F.col(f"m.{name}").rlike(f"^{forms.GOOD_FORM[name]}\\z")


def _found(name: str, expected: str) -> Column:
    return F.concat(F.lit(f"found {name} "), F.substring(F.col(f"m.{name}"), 1, 100), F.lit(f"; expected {expected}"))


def _whole(name: str) -> Column:
    return F.expr(f"try_cast(m.{name} as bigint)")


def _micros(name: str) -> Column:
    return F.when(F.col(f"m.{name}").rlike(_INTEGER), F.col(f"m.{name}").cast("bigint"))


def _in_the_future(settings: Settings, last: Column, what: str) -> Column:
    """Detail of FUTURE_RULE: how far in the future, and the two possible causes."""
    seconds = F.format_number((last - F.unix_micros(F.col("ts_kafka"))) / 1_000_000, 1)
    expected = f"{what}at most {settings.future_tolerance_seconds} s after Kafka's time"
    return F.concat(
        _found("ts_event", expected),
        F.lit(", found "),
        seconds,
        F.lit(" s: a wrong time of the venue's, or the clock of the machine that ingests is slow (check clock_agrees)"),
    )


def _latest(settings: Settings) -> Column:
    """Latest time a message may contain: Kafka's own plus the tolerance, in microseconds since the epoch."""
    return F.unix_micros(F.col("ts_kafka")) + F.lit(settings.future_tolerance_seconds * 1_000_000)
