"""Messages → trades, for messages in the form that our own ingest writes. Arrow → Arrow, no Spark.

It recognises and does not judge. A message that it takes is a good trade by every rule of `message_rules`, with the
same values; every other message goes to `message_judge`, which judges it rule by rule. So the two only differ in cost:
a message costs a tenth here. A test compares them, on fuzzed messages too. `wire_template` reads most messages, and
pyarrow's JSON reader those that are written in another way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms import trade_forms as forms
from lakehouse.transforms import wire_template
from lakehouse.transforms.arrow_numpy import Integers, Mask, coded, has_any, no_digits, texts, whole
from lakehouse.transforms.wire_template import FIELDS

#: Columns of bronze/messages from which a trade is made.
COLUMNS = ("topic", "partition", "offset", "ts_kafka", "value_raw")

_MICROS = pa.timestamp("us", tz="UTC")
_AMOUNT = pa.decimal128(38, 18)

#: Notionals below this are certainly below the bound: Arrow's cast of a decimal to a double can be off in the last
#: place, and the rule uses the exact value. Messages nearer to the bound are left.
_SURE_NOTIONAL = float(forms.MAX_NOTIONAL) * (1 - 1e-12)

#: The fields of `exchanges.model.Trade` and no others: JSON readers disagree about values that they only skip. Jackson,
#: for example, refuses numbers of more than 1,000 digits and nesting beyond 1,000.
_SCHEMA = pa.schema(FIELDS)

#: Most pieces of a chunk that the JSON reader may refuse before the rest is left to the judge: at most half a second.
MOST_REFUSED = 1_000

#: One thread: two cost a third more CPU, and a catch-up uses all of it.
_READ = pa_json.ReadOptions(use_threads=False)
_PARSE = pa_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error")
_NEEDED = [name for name in FIELDS if name != "raw"]
_ROWS = pa.schema([_SCHEMA.field(name) for name in _NEEDED])
_NUMBERS = ("trade_id", "ts_event", "ts_ingest")
_BELOW = 10**18
_POINT = ord(".")


class Recognised(NamedTuple):
    """The good trades, in silver/trades' schema, and a mask of the messages that were left for the judge."""

    trades: pa.Table
    left: Mask


def recognise(messages: pa.Table, settings: Settings) -> Recognised:
    """Return the good trades among messages (COLUMNS) of the trades' topic that have the form of our own ingest.

    The order is that of the messages; duplicates are included.
    """
    rows, places = _fields(messages.column("value_raw"))
    chunk = messages.take(places) if rows.num_rows < messages.num_rows else messages
    good = _good(rows, chunk.column("ts_kafka"), settings)
    left = np.ones(messages.num_rows, np.bool_)
    left[places[good]] = False
    if not good.all():
        rows, chunk = rows.filter(pa.array(good)), chunk.filter(pa.array(good))
    event = rows["ts_event"].cast(_MICROS)
    data: dict[str, Any] = {
        **{name: rows[name].cast(_SCHEMA.field(name).type) for name in _NEEDED},
        "price": rows["price"].cast(_AMOUNT),
        "size": rows["size"].cast(_AMOUNT),
        "ts_event": event,
        "ts_ingest": rows["ts_ingest"].cast(_MICROS),
        "kafka_topic": chunk.column("topic"),
        "kafka_partition": chunk.column("partition"),
        "kafka_offset": chunk.column("offset"),
        "ts_kafka": chunk.column("ts_kafka"),
        SILVER_TRADES.partition_by[0]: event.cast(pa.date32()),
    }
    return _in_range(pa.table({name: data[name] for name in SILVER_TRADES.column_names}), left, places[good])


def _fields(values: Any) -> tuple[pa.Table, Integers]:
    """Return the fields and row numbers of the messages that have the form, by the template and by the JSON reader."""
    rows, places = wire_template.read(values)
    if len(rows) == len(values):
        return rows, places
    others = np.ones(len(values), np.bool_)
    others[places] = False
    decoded, found = _decoded(values.filter(pa.array(others)))
    if not len(decoded):
        return rows, places
    places = np.concatenate([places, np.flatnonzero(others)[found]])
    order: Integers = np.argsort(places)
    return pa.concat_tables([rows.cast(_ROWS), decoded]).take(order), places[order]


def _decoded(values: Any) -> tuple[pa.Table, Integers]:
    """Return the fields and row numbers of the messages that the JSON reader can read."""
    rows: list[pa.Table] = [_ROWS.empty_table()]
    places: list[Integers] = [np.empty(0, np.int64)]
    start = 0
    for chunk in values.chunks:
        for place, found in _pieces(chunk):
            rows.append(found)
            places.append(np.arange(start + place, start + place + len(found)))
        start += len(chunk)
    return pa.concat_tables(rows), np.concatenate(places)


def _pieces(values: Any) -> Iterator[tuple[int, pa.Table]]:
    """Yield, in order, the start and rows of pieces whose messages all have the form.

    A message without it spoils its piece and is found by halving. After MOST_REFUSED pieces halving stops and the rest
    is left: refusing a piece costs more than the judge's verdict on some messages.
    """
    waiting, refused = [(0, values)], 0
    while waiting:
        place, piece = waiting.pop()
        found = _parsed(piece)
        if found is not None:
            yield place, found
            continue
        refused += 1
        if len(piece) > 1 and refused < MOST_REFUSED:
            half = len(piece) // 2
            waiting += [(place + half, piece[half:]), (place, piece[:half])]


def _parsed(values: Any) -> pa.Table | None:
    """Return one row per message; None if a message does not have the form.

    Arrow reads objects from a stream of bytes, however many are on a line, and ignores what follows a NUL. So no
    message may contain a control character (JSON escapes those of a text), and each must begin an object: then each
    holds at least one object, and if there are as many rows as messages, exactly one.
    """
    if values.null_count or not len(values) or not _begin_objects(values):
        return None
    try:
        lines: Any = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values), b"\n")
        source: Any = pa.BufferReader(lines[0].as_buffer())
        rows = pa_json.read_json(source, read_options=_READ, parse_options=_PARSE)
        rows.validate(full=True)  # that texts are UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowCapacityError):
        return None
    rows = rows.select(_NEEDED)
    return rows if len(rows) == len(values) and not any(column.null_count for column in rows.columns) else None


def _begin_objects(values: Any) -> bool:
    """Return whether each value begins with a brace, and none has a control character."""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    if not np.diff(bounds).all():
        return False
    text = np.frombuffer(data, np.uint8)
    return bool(text[bounds[0] : bounds[-1]].min() >= ord(" ") and (text[bounds[:-1]] == ord("{")).all())


def _good(rows: pa.Table, ts_kafka: Any, settings: Settings) -> Mask:
    """Mask of the rows, with price and size still as text, whose forms and times are right."""
    good = np.ones(len(rows), np.bool_)
    for name in ("venue", "symbol", "native_symbol"):
        good &= _all_of(rows[name], re.compile(forms.GOOD_FORM[name]).fullmatch)
    for name, choices in forms.CHOICES.items():
        good &= _all_of(rows[name], choices.__contains__)
    for name in ("price", "size"):
        good &= _are_decimals(rows[name])
    numbers = {name: _numpy(rows[name]) for name in _NUMBERS}
    for values in numbers.values():
        good &= (values >= 1) & (values < _BELOW)
    event, ingest = numbers["ts_event"], numbers["ts_ingest"]
    latest = _numpy(ts_kafka.cast(pa.int64())) + settings.future_tolerance_seconds * 1_000_000
    good &= (np.minimum(event, ingest) >= forms.EARLIEST_MICROS) & (np.maximum(event, ingest) <= latest)
    return good


def _are_decimals(column: Any) -> Mask:
    """Mask of the texts that are decimals as in `message_rules`, at a third of the cost of its regular expression."""
    data, bounds = texts(whole(column))
    starts, stops = bounds[:-1], bounds[1:]
    points = np.flatnonzero(data == _POINT)
    if len(points) == len(starts) and ((starts <= points) & (points < stops)).all():
        holders = np.arange(len(points))  # one per text, the usual case
    else:
        holders = np.searchsorted(bounds, points, "right") - 1
    point = stops.copy()  # the text's end if it has none
    point[holders] = points
    digits, decimals = point - starts, stops - point - 1
    good: Mask = (digits >= 1) & (digits <= forms.WHOLE_DIGITS) & (decimals != 0) & (decimals <= forms.DECIMALS)
    return (
        good & (np.bincount(holders, minlength=len(stops)) <= 1) & ~has_any(no_digits(data) & (data != _POINT), bounds)
    )


def _all_of(words: Any, fits: Callable[[str], object]) -> Mask:
    """Mask of the words that fit. There are few different words, and each is tested once."""
    different, codes = coded(words)
    found: Mask = np.array([bool(fits(word)) for word in different], np.bool_)[codes]
    return found


def _in_range(trades: pa.Table, left: Mask, places: Integers) -> Recognised:
    """Remove trades whose price, size or product is out of range."""
    nothing = pa.scalar(Decimal(0), _AMOUNT)
    price, size = trades.column("price"), trades.column("size")
    product = _doubles(price) * _doubles(size)
    fits = product < _SURE_NOTIONAL
    for values, most in ((price, forms.MAX_PRICE), (size, forms.MAX_SIZE)):
        fits &= _numpy(pc.greater(values, nothing)) & _numpy(pc.less(values, pa.scalar(Decimal(most), _AMOUNT)))
    if fits.all():
        return Recognised(trades, left)
    left[places[~fits]] = True
    return Recognised(trades.filter(pa.array(fits)), left)


def _doubles(decimals: Any) -> Any:
    """Return decimals from 0 on as doubles, to a few units in the last place; Arrow's cast costs ten times as much."""
    array = whole(decimals)
    halves = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 2)[
        array.offset : array.offset + len(array)
    ]
    return (halves[:, 1] * 2.0**64 + halves[:, 0]) / 10.0**_AMOUNT.scale


def _numpy(values: Any) -> Any:
    return values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
