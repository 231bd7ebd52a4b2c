"""The recogniser of plain messages takes good trades only, with the rules' values, and all that ingest writes."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.exchanges.model import Trade, encode
from lakehouse.lake.table_io import arrow_schema
from lakehouse.settings import load_settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES
from lakehouse.transforms import parse, wire
from tests.market.test_symbols import symbols
from tests.support.messages import trade
from tests.support.rows import utc
from tests.support.wire_messages import EARLIEST_US, KAFKA_US, LATEST_US, judged, message

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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
    """Offset → trade; from chunks of 40 messages, since a chunk with many bad ones is left to Spark."""
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


# ------------------------------------------------------------------------------------------- against plain Python


@given(st.lists(st.randoms(use_true_random=False).map(message), max_size=12))
@hypothesis_settings(deadline=None)
def test_what_is_recognised_is_good_and_has_the_rules_values(values: list[bytes | None]) -> None:
    for offset, row in recognised(values).items():
        good = judged(values[offset])
        assert good is not None, values[offset]
        assert row == good | lineage(offset)


def test_the_generator_reaches_every_kind_of_verdict() -> None:
    rng = Random(1)
    values = [message(rng) for _ in range(4_000)]
    taken = recognised(values)
    kinds = Counter((judged(value) is not None, offset in taken) for offset, value in enumerate(values))
    assert kinds[False, True] == 0
    assert min(kinds[True, True], kinds[True, False], kinds[False, False]) > 100


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

#: Of which some are good in Spark's eyes, and it is Spark that says so.
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


@pytest.mark.parametrize("name", GOOD)
def test_good_at_the_edge(name: str) -> None:
    good = judged(GOOD[name])
    assert good is not None
    assert recognised([GOOD[name], None]) == {0: good | lineage(0)}


@pytest.mark.parametrize("name", LEFT)
def test_left(name: str) -> None:
    assert list(recognised([literal(), LEFT[name], literal()])) == [0, 2]


@pytest.mark.parametrize(
    "values",
    [
        [literal() + literal(), b" "],
        [literal() + literal(), b"{}"],
        [literal()[:-1], b"{}}"],
        [literal()[:40], literal()[40:]],
        [literal() + literal()[:40], literal()[40:]],
        [literal(raw='"{')[:-1], b'{"}'],
    ],
)
def test_messages_are_no_trades_together(values: list[bytes]) -> None:
    assert list(recognised([literal(), *values, literal()])) == [0, len(values) + 1]


@pytest.mark.parametrize("values", [[], [None], [b"junk", None], [literal(price='"0"')]])
def test_nothing_recognised(values: list[bytes | None]) -> None:
    assert recognised(values) == {}


# ------------------------------------------------------------------------------------------- all that ingest writes

AMOUNTS = st.builds(
    lambda zeros, units, cut: f"{'0' * zeros}{units // 10**18}.{units % 10**18:018d}"[: cut or None],
    st.integers(0, 5),
    st.integers(1, 10**30 - 1) | st.integers(1, 10**4),
    st.integers(-17, 0),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), min_size=1)
GOOD_TRADES = st.builds(
    Trade,
    venue=st.from_regex(re.compile("[a-z0-9_-]{1,40}"), fullmatch=True),
    symbol=st.from_regex(re.compile("[A-Z0-9]{1,20}/[A-Z0-9]{1,20}"), fullmatch=True) | symbols(),
    native_symbol=WORDS,
    trade_id=st.integers(1, 10**18 - 1),
    price=AMOUNTS,
    size=AMOUNTS,
    side=st.sampled_from(["buy", "sell"]),
    ts_event=st.integers(EARLIEST_US, LATEST_US),
    ts_ingest=st.integers(EARLIEST_US, LATEST_US),
    source=st.sampled_from(["live", "snapshot", "repair"]),
    raw=st.text(st.characters(exclude_categories=["Cs"])),
)


@given(st.lists(GOOD_TRADES, min_size=1, max_size=5))
@hypothesis_settings(deadline=None)
def test_all_that_ingest_writes_is_recognised(trades: list[Trade]) -> None:
    for one in trades:
        price, size = Decimal(one.price), Decimal(one.size)
        assume(price > 0 and size > 0 and price * size < 10**15 - 1_000)
    found = recognised([encode(one) for one in trades])
    assert list(found) == list(range(len(trades)))
    for row, one in zip(found.values(), trades, strict=True):
        assert [row[name] for name in ("venue", "symbol", "native_symbol", "trade_id", "side", "source")] == [
            one.venue, one.symbol, one.native_symbol, one.trade_id, one.side, one.source,
        ]  # fmt: skip
        assert (row["price"], row["size"]) == (Decimal(one.price), Decimal(one.size))
        assert (row["ts_event"], row["ts_ingest"]) == (utc(one.ts_event), utc(one.ts_ingest))


def test_a_chunk_of_bad_messages_costs_little_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up may hold good ones: they are left, and never lost."""
    reads: list[int] = []
    parsed = wire._parsed

    def counted(values: Any) -> pa.Table | None:
        reads.append(len(values))
        return parsed(values)

    monkeypatch.setattr(wire, "_parsed", counted)
    monkeypatch.setattr(wire, "MOST_REFUSED", 200)
    good, bad = literal().replace(b":", b": ", 1), literal(extra="1")  # neither is the template's
    found = wire.recognise(bronze([good, bad, good, good] * 1_000), SETTINGS)
    assert wire.MOST_REFUSED < len(reads) < 2 * wire.MOST_REFUSED + 2
    assert 0 < found.trades.num_rows == (~found.left).sum() < 3_000
    assert found.left[1::4].all()
    reads.clear()
    found = wire.recognise(pa.concat_tables([bronze([bad] * 4_000), bronze([good] * 4_000)]), SETTINGS)
    assert found.left.tolist() == [True] * 4_000 + [False] * 4_000


def test_a_chunk_of_several_arrays() -> None:
    parts = [bronze([literal(trade_id=str(number)), None]) for number in (1, 2, 3)]
    found = wire.recognise(pa.concat_tables(parts), SETTINGS)
    assert found.trades.column("trade_id").to_pylist() == [1, 2, 3]
    assert found.left.tolist() == [False, True] * 3


# ------------------------------------------------------------------------------------------- against Spark


@pytest.mark.spark
def test_recogniser_and_spark_judge_the_same(spark: SparkSession) -> None:
    """What is recognised is what Spark makes of it; and judged in two parts is judged as a whole."""
    rng = Random(7)
    values = [*GOOD.values(), *LEFT.values(), *(message(rng) for _ in range(3_000))]
    messages = bronze(values, arrow_schema(BRONZE_MESSAGES))

    def spark_judges(table: pa.Table) -> tuple[dict[int, Row], dict[int, str]]:
        parsed = parse.parse_messages(spark.createDataFrame(table), SETTINGS)
        refused = parse.quarantine(parsed, SETTINGS).select("kafka_offset", "rule").toArrow().to_pylist()
        trades = parse.trades(parsed).toArrow().select(SILVER_TRADES.column_names).to_pylist()
        return {row["kafka_offset"]: row for row in trades}, {row["kafka_offset"]: row["rule"] for row in refused}

    taken = recognised(values)
    left = pa.array([offset not in taken for offset in range(len(values))])
    trades, refused = spark_judges(messages)
    assert {offset: trades.get(offset, refused.get(offset)) for offset in taken} == taken
    others, refused_others = spark_judges(messages.filter(left))
    assert taken | others == trades
    assert taken.keys().isdisjoint(others)
    assert refused_others == refused
    assert len(trades) + len(refused) == len(values)
    assert min(len(taken), len(others), len(set(refused.values()))) > 10
