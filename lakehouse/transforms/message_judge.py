"""Bronze messages → rows of Silver with a verdict, for any message. Arrow → Arrow, a message at a time, no Spark.

Every message becomes exactly one of: a trade, a feed event, or a row in quarantine with the first rule of
`message_rules` that it does not meet. Duplicates are included. `wire` takes most trades at a tenth of the cost; what it
leaves comes here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from lakehouse.transforms import message_rules as rules
from lakehouse.transforms.message_fields import field_texts
from lakehouse.transforms.message_rules import Message

Kind = Literal["trade", "feed_event", "quarantine"]

#: Columns of bronze/messages that a judge needs, and those by which a row of Silver names its message.
COLUMNS = ("topic", "partition", "offset", "ts_kafka", "key", "value_raw", "ingest_date")
_POSITION = ("topic", "partition", "offset")

_MICROS = pa.timestamp("us", tz="UTC")
_AMOUNT = pa.decimal128(38, 18)

#: A text that is a whole number: as Spark's SQL reads one, and as this table's rows had it before (white space and
#: control characters around it, any number of leading zeros).
_WHOLE = re.compile(r"[\x00-\x20\x7f]*([+-]?)0*([0-9]{1,19})[\x00-\x20\x7f]*").fullmatch
_INT64 = 2**63


class Judged(NamedTuple):
    """The rows that messages became, in the schemas of their tables and in the order of the messages."""

    trades: pa.Table
    feed_events: pa.Table
    quarantine: pa.Table

    @classmethod
    def of_nothing(cls) -> Judged:
        """Return tables without rows."""
        tables = SILVER_TRADES, SILVER_FEED_EVENTS, SILVER_QUARANTINE
        return cls(*(arrow_schema(table).empty_table() for table in tables))


class _Verdict(NamedTuple):
    """The kind of a message with its fields; for quarantine also the rule and the detail."""

    kind: Kind
    message: Message
    rule: str = ""
    detail: str = ""


def judge(messages: pa.Table, settings: Settings) -> Judged:
    """Sort messages (COLUMNS) of any topic into rows of trades, of feed events and of quarantine."""
    verdicts = _verdicts(messages, settings)
    found = np.array([verdict.kind for verdict in verdicts], np.str_)

    def of(kind: Kind) -> tuple[pa.Table, list[_Verdict]]:
        return messages.filter(pa.array(found == kind)), [one for one in verdicts if one.kind == kind]

    return Judged(_trades(*of("trade")), _feed_events(*of("feed_event")), _quarantine(*of("quarantine")))


def kinds(messages: pa.Table, settings: Settings) -> list[Kind]:
    """Return the kind of each message, in order."""
    return [verdict.kind for verdict in _verdicts(messages, settings)]


def quarantine_rows(messages: pa.Table, verdicts: pa.Table) -> pa.Table:
    """Return the quarantine rows of the messages that `verdicts` names, with these verdicts, in any order.

    `verdicts`: kafka_topic, kafka_partition, kafka_offset, rule, detail. Messages that it does not name are left out.
    """
    named = verdicts.rename_columns([name.removeprefix("kafka_") for name in verdicts.column_names])
    types = pa.schema([messages.schema.field(name) for name in _POSITION])
    for name in ("rule", "detail"):
        types = types.append(pa.field(name, pa.string()))
    places = messages.select(_POSITION).append_column("row", pa.array(np.arange(messages.num_rows)))
    found = places.join(named.select(types.names).cast(types), list(_POSITION), join_type="inner")
    chosen = messages.take(found.column("row"))
    judged = [
        _Verdict("quarantine", Message(value is not None, field_texts(value), 0, 0), rule, detail)
        for value, rule, detail in _rows(chosen.column("value_raw"), found.column("rule"), found.column("detail"))
    ]
    return _quarantine(chosen, judged)


def _verdicts(messages: pa.Table, settings: Settings) -> list[_Verdict]:
    tolerance = settings.future_tolerance_seconds * 1_000_000
    verdicts = []
    kafka_times = messages.column("ts_kafka").cast(_MICROS).cast(pa.int64())
    for topic, kafka, value in _rows(messages.column("topic"), kafka_times, messages.column("value_raw")):
        message = Message(value is not None, field_texts(value), kafka, kafka + tolerance)
        verdicts.append(_verdict(topic, message, settings))
    return verdicts


def _verdict(topic: str, message: Message, settings: Settings) -> _Verdict:
    if topic == settings.topic_rejected:
        return _Verdict("quarantine", message, *rules.rejected_verdict(message))
    is_event = topic == settings.topic_feed_events
    unmet = rules.first_unmet(rules.EVENT_RULES if is_event else rules.TRADE_RULES, message)
    if unmet is not None:
        return _Verdict("quarantine", message, unmet.name, unmet.detail(message))
    return _Verdict("feed_event" if is_event else "trade", message)


def _rows(*columns: Any) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in columns), strict=True)


def _trades(messages: pa.Table, verdicts: Sequence[_Verdict]) -> pa.Table:
    event = _numbers("ts_event", verdicts, int, pa.int64()).cast(_MICROS)
    return _table(
        SILVER_TRADES,
        messages,
        {
            **{name: _texts(name, verdicts) for name in ("venue", "symbol", "native_symbol", "side", "source")},
            "trade_id": _numbers("trade_id", verdicts, int, pa.int64()),
            "price": _numbers("price", verdicts, Decimal, _AMOUNT),
            "size": _numbers("size", verdicts, Decimal, _AMOUNT),
            "ts_event": event,
            "ts_ingest": _numbers("ts_ingest", verdicts, int, pa.int64()).cast(_MICROS),
            SILVER_TRADES.partition_by[0]: event.cast(pa.date32()),
        },
    )


def _feed_events(messages: pa.Table, verdicts: Sequence[_Verdict]) -> pa.Table:
    event = _numbers("ts_event", verdicts, int, pa.int64()).cast(_MICROS)
    return _table(
        SILVER_FEED_EVENTS,
        messages,
        {
            **{name: _texts(name, verdicts) for name in ("venue", "event", "connection_id", "symbol")},
            "ts_event": event,
            "first_id": _numbers("first_id", verdicts, int, pa.int64()),
            "last_id": _numbers("last_id", verdicts, int, pa.int64()),
            "detail": _texts("detail", verdicts).fill_null(""),
            SILVER_FEED_EVENTS.partition_by[0]: event.cast(pa.date32()),
        },
    )


def _quarantine(messages: pa.Table, verdicts: Sequence[_Verdict]) -> pa.Table:
    return _table(
        SILVER_QUARANTINE,
        messages,
        {
            "rule": pa.array([verdict.rule for verdict in verdicts], pa.string()),
            "detail": pa.array([verdict.detail for verdict in verdicts], pa.string()),
            **{name: _texts(name, verdicts) for name in ("venue", "symbol")},
            "trade_id": _numbers("trade_id", verdicts, _whole, pa.int64()),
            "key": messages.column("key"),
            "value_raw": messages.column("value_raw"),
            SILVER_QUARANTINE.partition_by[0]: messages.column("ingest_date"),
        },
    )


def _texts(name: str, verdicts: Sequence[_Verdict]) -> Any:
    """Return the texts of a field as an Arrow array; null where a message lacks the field."""
    return pa.array([verdict.message.texts.get(name) for verdict in verdicts], pa.string())


def _numbers(name: str, verdicts: Sequence[_Verdict], read: Callable[[str], object], kind: pa.DataType) -> Any:
    """Return what `read` makes of the texts of a field as an Arrow array; null where a message lacks the field."""
    texts = (verdict.message.texts.get(name) for verdict in verdicts)
    return pa.array([None if text is None else read(text) for text in texts], kind)


def _whole(text: str) -> int | None:
    """Return a text as an int64; None if it is no whole number or does not fit."""
    found = _WHOLE(text)
    number = int(found[1] + found[2]) if found else _INT64
    return number if -_INT64 <= number < _INT64 else None


def _table(table: Table, messages: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Return the rows of a table from columns and from where their messages are in Kafka."""
    lineage = {f"kafka_{name}": messages.column(name) for name in _POSITION} | {"ts_kafka": messages.column("ts_kafka")}
    columns = columns | lineage
    return pa.table({name: columns[name] for name in table.column_names}).cast(arrow_schema(table))
