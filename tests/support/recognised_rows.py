"""Messages of Bronze, good ones and others, and the rows that the recogniser makes of them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import load_settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES
from lakehouse.transforms import wire
from tests.support.messages import trade
from tests.support.rows import utc
from tests.support.wire_messages import EARLIEST_US, KAFKA_US, LATEST_US

SETTINGS = load_settings()
SCHEMA = pa.schema([arrow_schema(BRONZE_MESSAGES).field(name) for name in wire.COLUMNS])
Row = dict[str, Any]


def bronze(values: list[bytes | None], schema: pa.Schema = SCHEMA) -> pa.Table:
    rows = [
        {
            "topic": ("crypto.trades", "crypto.trades.of.before")[number % 7 == 6],
            "partition": number % 3,
            "offset": number,
            "ts_kafka": utc(KAFKA_US),
            "ts_type": 0,
            "key": b"key",
            "value_raw": value,
            "ingest_date": utc(KAFKA_US).date(),
        }
        for number, value in enumerate(values)
    ]
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def recognised(values: list[bytes | None]) -> dict[int, Row]:
    """Offset → trade; from chunks of 40 messages, since a chunk with many bad ones is left to the judge."""
    messages = bronze(values)
    whole = pa.concat_tables([messages.slice(start, 40) for start in range(0, len(values) or 1, 40)])
    found = wire.recognise(whole, SETTINGS)
    trades = {row["kafka_offset"]: row for row in found.trades.to_pylist()}
    assert found.trades.schema.names == list(SILVER_TRADES.column_names)
    assert list(trades) == [place for place, left in enumerate(found.left) if not left]
    return trades


def lineage(offset: int) -> Row:
    row = bronze([None] * (offset + 1)).to_pylist()[offset]
    return {f"kafka_{name}": row[name] for name in ("topic", "partition", "offset")} | {"ts_kafka": row["ts_kafka"]}


def literal(**literals: str) -> bytes:
    """A good message with JSON literals in place of its own."""
    fields = {name: json.dumps(value) for name, value in trade().items()} | literals
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


GOOD = {
    "as it is": literal(),
    "lowest id": literal(trade_id="1"),
    "highest id": literal(trade_id=str(10**18 - 1)),
    "first time": literal(ts_event=str(EARLIEST_US), ts_ingest=str(EARLIEST_US)),
    "last time": literal(ts_event=str(LATEST_US), ts_ingest=str(LATEST_US)),
    "20 digits, 18 decimals": literal(price='"00000000123456789012.123456789012345678"', size='"0.000000000000000001"'),
    "highest price": literal(price='"999999999999.999999999999999999"', size='"0.000000000000000001"'),
    "large notional": literal(price='"999999999999"', size='"999.999"'),
    "largest size": literal(price='"0.000000000000000001"', size='"999999999999999.999999999999999999"'),
    "control characters": literal(native_symbol='"\\n\\u0000"'),
    "beyond the plane": literal(native_symbol='"\\ud83d\\ude00"'),
    "other order": json.dumps(dict(reversed(trade().items()))).encode(),
    "escaped name of a field": literal().replace(b'"venue"', b'"\\u0076enue"'),
    "raw is null": literal(raw="null"),
    "no raw": literal().replace(b',"raw":', b"}")[: literal().index(b',"raw":') + 1],
}  # fmt: skip
#: Of which some are good, and it is the judge that says so.
LEFT = {
    "no value": None,
    "nothing": b"",
    "junk": b"junk",
    "no object": b"[1]",
    "id of text": literal(trade_id='"1"'),
    "id 0": literal(trade_id="0"),
    "id -0": literal(trade_id="-0"),
    "id 1.0": literal(trade_id="1.0"),
    "id 10^18": literal(trade_id=str(10**18)),
    "price a number": literal(price="1.5"),
    "19 decimals": literal(price='"1.0000000000000000001"'),
    "21 digits": literal(price=f'"{"0" * 20}1"'),
    "no price": literal(price='"0.000"'),
    "no size": literal(size='"0"'),
    "below 0": literal(price='"-1"'),
    "price 10^12": literal(price='"1000000000000"', size='"1"'),
    "size 10^15": literal(price='"0.1"', size='"1000000000000000"'),
    "notional 10^15": literal(price='"1000000"', size='"1000000000"'),
    "too early": literal(ts_event=str(EARLIEST_US - 1)),
    "received too early": literal(ts_ingest=str(EARLIEST_US - 1)),
    "too late": literal(ts_event=str(LATEST_US + 1)),
    "received too late": literal(ts_ingest=str(LATEST_US + 1)),
    "line feed behind the price": literal(price='"1\\n"'),
    "line feed behind the venue": literal(venue='"kraken\\n"'),
    "digits of another script": literal(price='"١"'),
    "U+001F": literal(native_symbol='"a\\u001fb"'),
    "null": literal(price="null"),
    "half a character": literal(native_symbol='"\\ud800"'),
    "no UTF-8": literal().replace(b"BTCUSDT", b"BTC\xffUSDT"),
    "no UTF-8 in raw": literal(raw='"x"').replace(b'"x"', b'"\xff"'),
    "raw control character": literal(raw='"\n"'),
    "behind the end": literal() + b" x",
    "another field": literal(extra="1"),
    "two": literal() + literal(),
    "two and a line": literal() + b"\n" + literal(),
    "cut behind a NUL": literal() + b"\0" + literal(),
    "NUL in a text": literal(native_symbol='"x"').replace(b'"x"', b'"\0"'),
    "cut": literal()[:-1],
    "cut in a text": literal()[:-5],
    "begun within": literal()[1:],
    "text for an object": literal(raw='{"a": "b"}'),
    "twice": literal(price='"5"')[:-1] + b',"price":"6"}',
    "twice, first null": literal(price="null")[:-1] + b',"price":"6"}',
    "white space behind": literal() + b" \r\n\t",
    "white space before": b" " + literal(),
    "a mark of the order of bytes": b"\xef\xbb\xbf" + literal(),
    "a comment": literal()[:-1] + b"/* */}",
    "a comma too many": literal()[:-1] + b",}",
    # Spark refuses these as JSON, whatever field they are in.
    "number of 1,001 digits": literal(extra="9" * 1_001),
    "raw of 1,001 digits": literal(raw="9" * 1_001),
    "name of 50,001 characters": literal(**{"k" * 50_001: "1"}),
    "nested deeper than any stack": literal(extra="[" * 100_000 + "]" * 100_000),
    "raw nested deeper than any stack": literal(raw="[" * 100_000),
    # Their product is 10^15 in the doubles that the rule goes by; Arrow's cast is one unit in the last place below.
    "rounded up to 10^15": literal(price='"4.783172136530753847"', size='"209066278916171.807240700912683508"'),
    "rounded down to 10^15": literal(price='"11.354229721671228702"', size='"88072905385325.429544483753337871"'),
}  # fmt: skip
