"""Messages → trades, for messages in the form that our own ingest writes. Arrow → Arrow, no Spark.

A recogniser and no judge. What it takes is a good trade by every rule of `parse`, with the same values; what it leaves,
for whatever reason, goes to `parse`, which judges it rule by rule. So the two can only differ in cost: a message here
costs a tenth of one there. A test holds them against each other, on fuzzed messages too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.exchanges.model import Side, Source
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms import parse
from lakehouse.transforms.columns import Mask, coded

#: Columns of bronze/messages that a trade is made of.
COLUMNS = ("topic", "partition", "offset", "ts_kafka", "value_raw")

_MICROS = pa.timestamp("us", tz="UTC")
_AMOUNT = pa.decimal128(38, 18)
_Number = Annotated[int, msgspec.Meta(ge=1, lt=10**18)]


#: Notionals that are below the bound for sure: Arrow's cast of a decimal to a double can be off in the last place, and
#: the rule goes by the right one. What is nearer to the bound is left.
_SURE_NOTIONAL = float(parse.MAX_NOTIONAL) * (1 - 1e-12)


class _Wire(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`exchanges.model.Trade` and no other field: no two readers of JSON agree on all that they only skip.

    Jackson, for one, refuses numbers of more than 1,000 digits and nesting beyond 1,000.
    """

    venue: str
    symbol: str
    native_symbol: str
    trade_id: _Number
    price: str
    size: str
    side: Side
    ts_event: _Number
    ts_ingest: _Number
    source: Source
    raw: str = ""


_decode = msgspec.json.Decoder(_Wire).decode


class Recognised(NamedTuple):
    """Trades of silver/trades' columns, and which messages, by their place in the chunk, they are not."""

    trades: pa.Table
    left: Mask


def recognise(messages: pa.Table, settings: Settings) -> Recognised:
    """The good trades of a chunk of messages of the trades' topic; the columns of `messages` are COLUMNS."""
    rows, places = _decoded(messages.column("value_raw").to_pylist())
    chunk = messages.take(places) if len(rows) < messages.num_rows else messages
    columns, good = _columns(rows, chunk.column("ts_kafka"), settings)
    left = np.ones(messages.num_rows, np.bool_)
    left[places[good]] = False
    kept = pa.array(good)
    event = columns["ts_event"].cast(_MICROS)
    columns |= {
        "price": columns["price"].filter(kept).cast(_AMOUNT),
        "size": columns["size"].filter(kept).cast(_AMOUNT),
    }
    data: dict[str, Any] = {
        **{name: values if name in ("price", "size") else values.filter(kept) for name, values in columns.items()},
        "kafka_topic": chunk.column("topic").filter(kept),
        "kafka_partition": chunk.column("partition").filter(kept),
        "kafka_offset": chunk.column("offset").filter(kept),
        "ts_kafka": chunk.column("ts_kafka").filter(kept),
        SILVER_TRADES.partition_by[0]: event.filter(kept).cast(pa.date32()),
    }
    data["ts_event"] = data["ts_event"].cast(_MICROS)
    data["ts_ingest"] = data["ts_ingest"].cast(_MICROS)
    return _in_range(pa.table({name: data[name] for name in SILVER_TRADES.column_names}), left, places[good])


def _decoded(values: Sequence[bytes | None]) -> tuple[list[_Wire], npt.NDArray[np.int64]]:
    """The messages that have the form, and their places."""
    try:
        return [_decode(value) for value in values], np.arange(len(values))  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        pass  # at least one has not: seldom
    rows: list[_Wire] = []
    places: list[int] = []
    for place, value in enumerate(values):
        try:
            rows.append(_decode(value))  # type: ignore[arg-type]
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            continue
        places.append(place)
    return rows, np.array(places, np.int64)


def _columns(rows: Sequence[_Wire], ts_kafka: Any, settings: Settings) -> tuple[dict[str, Any], Mask]:
    """The fields as arrays, price and size still text; and which rows have all forms and times right."""
    columns: dict[str, Any] = {
        "venue": pa.array([row.venue for row in rows], pa.string()),
        "symbol": pa.array([row.symbol for row in rows], pa.string()),
        "trade_id": pa.array([row.trade_id for row in rows], pa.int64()),
        "native_symbol": pa.array([row.native_symbol for row in rows], pa.string()),
        "price": pa.array([row.price for row in rows], pa.string()),
        "size": pa.array([row.size for row in rows], pa.string()),
        "side": pa.array([row.side for row in rows], pa.string()),
        "ts_event": pa.array([row.ts_event for row in rows], pa.int64()),
        "ts_ingest": pa.array([row.ts_ingest for row in rows], pa.int64()),
        "source": pa.array([row.source for row in rows], pa.string()),
    }
    good = np.ones(len(rows), np.bool_)
    for name in ("venue", "symbol", "native_symbol"):
        good &= _has_form(columns[name], parse.GOOD_FORM[name])
    for name in ("price", "size"):
        good &= _numpy(pc.match_substring_regex(columns[name], f"^{parse.DECIMAL_FORM}$"))
    event, ingest = _numpy(columns["ts_event"]), _numpy(columns["ts_ingest"])
    latest = _numpy(ts_kafka.cast(pa.int64())) + settings.future_tolerance_seconds * 1_000_000
    good &= (np.minimum(event, ingest) >= parse.EARLIEST_MICROS) & (np.maximum(event, ingest) <= latest)
    return columns, good


def _has_form(values: Any, form: str) -> Mask:
    """Names are few: each different one is looked at once."""
    names, codes = coded(values)
    fits: Mask = np.array([re.fullmatch(form, name) is not None for name in names], np.bool_)[codes]
    return fits


def _in_range(trades: pa.Table, left: Mask, places: npt.NDArray[np.int64]) -> Recognised:
    """Without those whose price, size or their product is out of range."""
    nothing = pa.scalar(Decimal(0), _AMOUNT)
    price, size = trades.column("price"), trades.column("size")
    product = _numpy(price.cast(pa.float64())) * _numpy(size.cast(pa.float64()))
    fits = product < _SURE_NOTIONAL
    for values, most in ((price, parse.MAX_PRICE), (size, parse.MAX_SIZE)):
        fits &= _numpy(pc.greater(values, nothing)) & _numpy(pc.less(values, pa.scalar(Decimal(most), _AMOUNT)))
    if fits.all():
        return Recognised(trades, left)
    left[places[~fits]] = True
    return Recognised(trades.filter(pa.array(fits)), left)


def _numpy(values: Any) -> Any:
    return values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
