"""Bronze messages → typed rows with a verdict. Pure DataFrame → DataFrame, the same for stream, batch and replay.

Every message gets a `kind`: trade, feed_event or quarantine. No row is dropped here. For the few in quarantine, `rule`
names the first rule that was not met, and `detail` says what was found and what was expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse.lake.receipt_times import FUTURE_RULE
from lakehouse.market.symbols import SYMBOL_FORM
from lakehouse.settings import Settings
from lakehouse.tables import DECIMAL, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

#: Everything is read as text first, so that a wrong type is a verdict of ours and not a null of Spark's.
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
EVENT_FIELDS = ("venue", "event", "ts_event", "connection_id", "symbol", "first_id", "last_id", "detail")
REJECTED_FIELDS = ("venue", "reason", "detail", "raw", "ts_ingest")

# \z and not $, which would let a line feed follow.
_INTEGER = r"^[0-9]{1,18}\z"
#: Digits before and after the point at most.
WHOLE_DIGITS, DECIMALS = 20, 18
_DECIMAL = rf"^[0-9]{{1,{WHOLE_DIGITS}}}(\.[0-9]{{1,{DECIMALS}}})?\z"

#: Whole parts that keep every bar's sums within DECIMAL(38,18): 10^12 quote units a coin, 10^15 coins, 10^15 a trade.
MAX_PRICE, MAX_SIZE, MAX_NOTIONAL = 10**12, 10**15, 10**15

#: The form of all fields of a good trade at once, each with a U+001F behind it, in the order of TRADE_FIELDS: one
#: regular expression a row instead of ten. `_trade_rules` says the same rule by rule, for the few that do not match.
#: More than 0, below 10^whole, and 20 digits before the point at most, leading zeros included, as _DECIMAL has it.
_POSITIVE = "(?=[0-9.]*[1-9])0{{0,{zeros}}}[0-9]{{1,{whole}}}([.][0-9]{{1,18}})?"
GOOD_FORM = {
    "venue": "[a-z0-9_-]{1,40}",
    "symbol": SYMBOL_FORM,
    "native_symbol": "[^\\x1f]+",
    "trade_id": "[0-9]{1,18}",
    "price": _POSITIVE.format(zeros=8, whole=12),
    "size": _POSITIVE.format(zeros=5, whole=15),
    "side": "(buy|sell)",
    "ts_event": "[0-9]{1,18}",
    "ts_ingest": "[0-9]{1,18}",
    "source": "(live|snapshot|repair)",
}
_GOOD_TRADE = "^" + "".join(f"{GOOD_FORM[name]}\\x1f" for name in TRADE_FIELDS) + "\\z"

EARLIEST_MICROS = 1_230_768_000_000_000  # 2009-01-01, before the first exchange of crypto assets


def parse_messages(messages: DataFrame, settings: Settings) -> DataFrame:
    """Bronze rows with the parsed struct `m` (all text) and their `kind`: trade, feed_event or quarantine."""
    fields = dict.fromkeys((*TRADE_FIELDS, *EVENT_FIELDS, *REJECTED_FIELDS))
    schema = ", ".join(f"{name} string" for name in fields)
    text = F.col("value_raw").cast("string")
    parsed = messages.withColumn("m", F.from_json(text, schema, {"mode": "PERMISSIVE"}))
    is_event = F.col("topic") == settings.topic_feed_events
    is_rejected = F.col("topic") == settings.topic_rejected
    kind = (
        F.when(is_rejected, "quarantine")
        .when(is_event, F.when(_all_met(_event_rules(settings)), "feed_event").otherwise("quarantine"))
        .otherwise(F.when(_is_good_trade(settings), "trade").otherwise("quarantine"))
    )
    return parsed.select(*messages.columns, "m", kind.alias("kind"))


def trades(parsed: DataFrame) -> DataFrame:
    """The rows that may enter silver/trades, in its schema. One row per message; duplicates are still in it."""
    ts_event = F.timestamp_micros(F.col("m.ts_event").cast("bigint"))
    return parsed.where(F.col("kind") == "trade").select(
        F.col("m.venue").alias("venue"),
        F.col("m.symbol").alias("symbol"),
        F.col("m.trade_id").cast("bigint").alias("trade_id"),
        F.col("m.native_symbol").alias("native_symbol"),
        F.col("m.price").cast(DECIMAL).alias("price"),
        F.col("m.size").cast(DECIMAL).alias("size"),
        F.col("m.side").alias("side"),
        ts_event.alias("ts_event"),
        F.timestamp_micros(F.col("m.ts_ingest").cast("bigint")).alias("ts_ingest"),
        F.col("m.source").alias("source"),
        *_lineage(),
        F.to_date(ts_event).alias(SILVER_TRADES.partition_by[0]),
    )


def feed_events(parsed: DataFrame) -> DataFrame:
    """The rows of silver/feed_events."""
    ts_event = F.timestamp_micros(F.col("m.ts_event").cast("bigint"))
    return parsed.where(F.col("kind") == "feed_event").select(
        F.col("m.venue").alias("venue"),
        F.col("m.event").alias("event"),
        ts_event.alias("ts_event"),
        F.col("m.connection_id").alias("connection_id"),
        F.col("m.symbol").alias("symbol"),
        F.col("m.first_id").cast("bigint").alias("first_id"),
        F.col("m.last_id").cast("bigint").alias("last_id"),
        F.coalesce(F.col("m.detail"), F.lit("")).alias("detail"),
        *_lineage(),
        F.to_date(ts_event).alias(SILVER_FEED_EVENTS.partition_by[0]),
    )


def quarantine(parsed: DataFrame, settings: Settings) -> DataFrame:
    """The rows of silver/quarantine, with the first rule that each one failed."""
    unnamed = F.struct(
        F.lit("bad_form").alias("rule"), F.lit("found no good trade; expected every rule met").alias("detail")
    )
    failed = (
        F.when(F.col("topic") == settings.topic_rejected, _rejected_verdict())
        .when(F.col("topic") == settings.topic_feed_events, _first_failure(_event_rules(settings)))
        .otherwise(F.coalesce(_first_failure(_trade_rules(settings)), unnamed))
    )
    return _quarantine_rows(parsed.where(F.col("kind") == "quarantine").withColumn("failed", failed))


def quarantined(parsed: DataFrame, verdicts: DataFrame) -> DataFrame:
    """The rows of silver/quarantine of messages that were judged elsewhere: Kafka position, rule, detail of each."""
    failed = verdicts.select(
        F.col("kafka_topic").alias("topic"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
        F.struct("rule", "detail").alias("failed"),
    )
    return _quarantine_rows(parsed.join(failed, ["topic", "partition", "offset"]))


def _quarantine_rows(judged: DataFrame) -> DataFrame:
    return judged.select(
        F.col("failed.rule").alias("rule"),
        F.col("failed.detail").alias("detail"),
        F.col("m.venue").alias("venue"),
        F.col("m.symbol").alias("symbol"),
        F.expr("try_cast(m.trade_id as bigint)").alias("trade_id"),
        "key",
        "value_raw",
        *_lineage(),
        F.col("ingest_date").alias(SILVER_QUARANTINE.partition_by[0]),
    )


def first_of_key(rows: DataFrame) -> DataFrame:
    """Each trade once: of the rows with the same (venue, symbol, trade_id), the one that Kafka holds first."""
    order = F.struct("kafka_topic", "kafka_partition", "kafka_offset")
    keys = SILVER_TRADES.key
    others = [name for name in rows.columns if name not in keys]
    return (
        rows.groupBy(*keys)
        .agg(F.min_by(F.struct(*others), order).alias("kept"))
        .select(*(F.col(name) if name in keys else F.col(f"kept.{name}").alias(name) for name in rows.columns))
    )


def _lineage() -> tuple[Column, ...]:
    return (
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("ts_kafka"),
    )


def _is_good_trade(settings: Settings) -> Column:
    """Whether a trade meets every rule of `_trade_rules`, in little code: Spark compiles what is small."""
    line = F.concat(*(F.concat(F.coalesce(F.col(f"m.{name}"), F.lit("")), F.lit("\x1f")) for name in TRADE_FIELDS))
    first = F.least(_whole("ts_event"), _whole("ts_ingest"))
    last = F.greatest(_whole("ts_event"), _whole("ts_ingest"))
    notional = F.expr("try_cast(m.price as double)") * F.expr("try_cast(m.size as double)")
    in_range = (first >= EARLIEST_MICROS) & (last <= _latest(settings)) & (notional < float(MAX_NOTIONAL))
    return F.coalesce(line.rlike(_GOOD_TRADE) & in_range, F.lit(False))


def _has_form(name: str) -> Column:
    return F.col(f"m.{name}").rlike(f"^{GOOD_FORM[name]}\\z")


def _whole(name: str) -> Column:
    return F.expr(f"try_cast(m.{name} as bigint)")


def _all_met(rules: list[tuple[str, Column, Column]]) -> Column:
    """Whether every rule is met; a rule that cannot be evaluated (null) is not."""
    met = F.lit(True)
    for _, condition, _ in rules:
        met = met & condition
    return F.coalesce(met, F.lit(False))


def _first_failure(rules: list[tuple[str, Column, Column]]) -> Column:
    """The struct (rule, detail) of the first rule that is not met, null where all are."""
    failure: Column | None = None
    for name, met, detail in rules:
        verdict = F.struct(F.lit(name).alias("rule"), detail.alias("detail"))
        broken = ~F.coalesce(met, F.lit(False))
        failure = F.when(broken, verdict) if failure is None else failure.when(broken, verdict)
    assert failure is not None
    return failure


def _rejected_verdict() -> Column:
    reason = F.coalesce(F.col("m.reason"), F.lit("unknown"))
    return F.struct(
        F.concat(F.lit("rejected:"), reason).alias("rule"),
        F.coalesce(F.col("m.detail"), F.lit("rejected by ingest without a detail")).alias("detail"),
    )


def _shape_rules(required: tuple[str, ...]) -> list[tuple[str, Column, Column]]:
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


def _found(name: str, expected: str) -> Column:
    return F.concat(F.lit(f"found {name} "), F.substring(F.col(f"m.{name}"), 1, 100), F.lit(f"; expected {expected}"))


def _micros(name: str) -> Column:
    return F.when(F.col(f"m.{name}").rlike(_INTEGER), F.col(f"m.{name}").cast("bigint"))


def _trade_rules(settings: Settings) -> list[tuple[str, Column, Column]]:
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
        ("price_out_of_range", price < MAX_PRICE, _found("price", "less than 10^12")),
        ("size_out_of_range", size < MAX_SIZE, _found("size", "less than 10^15")),
        (
            "notional_out_of_range",
            price.cast("double") * size.cast("double") < float(MAX_NOTIONAL),
            _found("size", "price × size less than 10^15"),
        ),
        ("bad_side", F.col("m.side").isin("buy", "sell"), _found("side", "buy or sell")),
        (
            "bad_source",
            F.col("m.source").isin("live", "snapshot", "repair"),
            _found("source", "live, snapshot, repair"),
        ),
        ("bad_event_time", _micros("ts_event") >= EARLIEST_MICROS, _found("ts_event", "microseconds since the epoch")),
        (
            "bad_ingest_time",
            _micros("ts_ingest") >= EARLIEST_MICROS,
            _found("ts_ingest", "microseconds since the epoch"),
        ),
        (
            FUTURE_RULE,
            (_micros("ts_event") <= _latest(settings)) & (_micros("ts_ingest") <= _latest(settings)),
            _in_the_future(settings, F.greatest(_micros("ts_event"), _micros("ts_ingest")), "it and ts_ingest "),
        ),
    ]


def _event_rules(settings: Settings) -> list[tuple[str, Column, Column]]:
    return [
        *_shape_rules(("venue", "event", "ts_event", "connection_id")),
        _venue_rule(),
        ("bad_event_time", _micros("ts_event") >= EARLIEST_MICROS, _found("ts_event", "microseconds since the epoch")),
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


def _venue_rule() -> tuple[str, Column, Column]:
    return ("bad_venue", _has_form("venue"), _found("venue", "a lower-case name"))


def _in_the_future(settings: Settings, last: Column, what: str) -> Column:
    """The detail of FUTURE_RULE: by how much, and the two things that can be wrong."""
    seconds = F.format_number((last - F.unix_micros(F.col("ts_kafka"))) / 1_000_000, 1)
    expected = f"{what}at most {settings.future_tolerance_seconds} s after Kafka's time"
    return F.concat(
        _found("ts_event", expected),
        F.lit(", found "),
        seconds,
        F.lit(" s: a wrong time of the venue's, or the clock of the machine that ingests is slow (check clock_agrees)"),
    )


def _latest(settings: Settings) -> Column:
    """The latest time that a message can speak of: Kafka's own plus the tolerance, in microseconds."""
    return F.unix_micros(F.col("ts_kafka")) + F.lit(settings.future_tolerance_seconds * 1_000_000)
