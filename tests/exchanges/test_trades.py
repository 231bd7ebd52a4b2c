"""Exact trades and named faults, the same for all venues."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest

from lakehouse.exchanges.model import Parsed, Rejected, Trade, encode
from lakehouse.exchanges.parse_errors import MAX_RAW
from tests.support.exchange_samples import BINANCE, COINBASE, KRAKEN, READERS, SAMPLES, TS_INGEST, Sample

ALL = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def parse_one(sample: Sample, frame: bytes) -> Parsed:
    (parsed,) = READERS[sample.venue].parse(frame, TS_INGEST)
    return parsed


def trade_of(sample: Sample, **changes: str | None) -> Trade:
    parsed = parse_one(sample, sample.frame(**changes))
    assert isinstance(parsed, Trade), parsed
    return parsed


def rejected_of(sample: Sample, frame: bytes) -> Rejected:
    parsed = parse_one(sample, frame)
    assert isinstance(parsed, Rejected), parsed
    assert parsed.venue == sample.venue
    assert parsed.ts_ingest == TS_INGEST
    assert parsed.detail
    assert "\n" not in parsed.detail
    return parsed


@ALL
def test_a_valid_trade(sample: Sample) -> None:
    trade = trade_of(sample)
    assert (trade.symbol, trade.trade_id, trade.price, trade.size, trade.side, trade.ts_event) == sample.expected
    assert (trade.venue, trade.ts_ingest, trade.source) == (sample.venue, TS_INGEST, "live")
    assert trade.native_symbol == json.loads(sample.fields[sample.roles["symbol"]])


@ALL
def test_raw_is_the_trade_object_verbatim(sample: Sample) -> None:
    payload = sample.payload().replace(",", " ,\t").replace("}", ' , "extra":[1e400,"é \\u00e9"] }')
    parsed = parse_one(sample, sample.wrap(payload).encode())
    assert isinstance(parsed, Trade)
    assert parsed.raw == payload


@ALL
@pytest.mark.parametrize(
    "text",
    [
        "46116860414.00000000",
        "0.000000000000000001",
        "99999999999999999999.999999999999999999",
        "0.1000",
        "7",
        "9007199254740993",  # 2**53 + 1: no float holds it
        "0.1234567890123456789"[:-1],
    ],
)
def test_digits_survive(sample: Sample, text: str) -> None:
    trade = trade_of(sample, price=sample.decimal(text), size=sample.decimal(text))
    assert (trade.price, trade.size) == (text, text)


DECIMAL_FAULTS = {
    "0": "not_positive",
    "0.000": "not_positive",
    "-1.5": "not_positive",
    "-0.0": "not_positive",
    "1.0000000000000000001": "too_many_decimals",
    "1.0000000000000000000": "too_many_decimals",
    "100000000000000000000": "too_many_digits",
    "1e999999999": "exponent",
    "-1e5": "exponent",
}
STRING_FAULTS = {
    "": "bad_decimal",
    "NaN": "bad_decimal",
    "Infinity": "bad_decimal",
    "1,5": "bad_decimal",
    "1.": "bad_decimal",
    ".5": "bad_decimal",
    "+1": "bad_decimal",
    " 1": "bad_decimal",
    "1\\n": "bad_decimal",
    "1_000": "bad_decimal",
    "１.５": "bad_decimal",
    "0x10": "bad_decimal",
    "1e-7": "exponent",
    "1.5E+2": "exponent",
}


@ALL
@pytest.mark.parametrize("role", ["price", "size"])
@pytest.mark.parametrize(("text", "reason"), DECIMAL_FAULTS.items())
def test_bad_decimals(sample: Sample, role: str, text: str, reason: str) -> None:
    rejected = rejected_of(sample, sample.frame(**{role: sample.decimal(text)}))
    assert rejected.reason == reason
    assert f"in {sample.roles[role]}" in rejected.detail
    assert text in rejected.detail
    assert "expected" in rejected.detail


@pytest.mark.parametrize("sample", [BINANCE, COINBASE], ids=["binance", "coinbase"])
@pytest.mark.parametrize(("text", "reason"), STRING_FAULTS.items())
def test_bad_decimal_strings(sample: Sample, text: str, reason: str) -> None:
    assert rejected_of(sample, sample.frame(price=f'"{text}"')).reason == reason


@pytest.mark.parametrize(
    ("literal", "plain"),
    [("1.5e-7", "0.00000015"), ("1E-18", "0.000000000000000001"), ("1.50E+2", "150"), ("12e0", "12")],
)
def test_scientific_numbers_are_written_out_exactly(literal: str, plain: str) -> None:
    trade = trade_of(KRAKEN, price=literal)
    assert trade.price == plain
    assert Decimal(trade.price) == Decimal(literal)
    assert literal in trade.raw


@pytest.mark.parametrize(("literal", "reason"), [("1e-19", "too_many_decimals"), ("1e20", "too_many_digits")])
def test_scientific_numbers_that_do_not_fit(literal: str, reason: str) -> None:
    assert rejected_of(KRAKEN, KRAKEN.frame(price=literal)).reason == reason


@ALL
@pytest.mark.parametrize("role", ["symbol", "trade_id", "price", "size", "side", "time"])
def test_missing_field(sample: Sample, role: str) -> None:
    rejected = rejected_of(sample, sample.frame(**{role: None}))
    assert rejected.reason == "missing_field"
    assert rejected.detail.endswith(f"expected the field {sample.roles[role]} too")
    assert rejected.raw == sample.payload(**{role: None})


@ALL
@pytest.mark.parametrize("role", ["symbol", "trade_id", "price", "size", "side", "time"])
@pytest.mark.parametrize("literal", ["null", "[]", '{"a":1}'])
def test_wrong_type(sample: Sample, role: str, literal: str) -> None:
    rejected = rejected_of(sample, sample.frame(**{role: literal}))
    assert rejected.reason == "wrong_type"
    assert literal in rejected.detail
    assert f"in {sample.roles[role]}" in rejected.detail


@pytest.mark.parametrize(
    ("sample", "literal"), [(BINANCE, "0.001"), (COINBASE, "0.001"), (KRAKEN, '"0.5147"'), (BINANCE, "true")]
)
def test_decimals_of_the_wrong_json_type(sample: Sample, literal: str) -> None:
    assert rejected_of(sample, sample.frame(price=literal)).reason == "wrong_type"


@ALL
@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("-1", "bad_trade_id"),
        (str(2**63), "bad_trade_id"),
        ("9" * 5000, "bad_trade_id"),
        ("1.0", "wrong_type"),
        ("1e3", "wrong_type"),
        ('"7"', "wrong_type"),
        ("true", "wrong_type"),
    ],
)
def test_bad_trade_id(sample: Sample, literal: str, reason: str) -> None:
    assert rejected_of(sample, sample.frame(trade_id=literal)).reason == reason


@ALL
@pytest.mark.parametrize("trade_id", [0, 2**63 - 1])
def test_trade_ids_at_the_edges(sample: Sample, trade_id: int) -> None:
    assert trade_of(sample, trade_id=str(trade_id)).trade_id == trade_id


@ALL
@pytest.mark.parametrize("native", ["", "X", "BTC", "BTC USDT", "btcusdt", "BTC_USDT", "a/b/c", "a-b-c", "//", "-USD"])
def test_unknown_symbol(sample: Sample, native: str) -> None:
    rejected = rejected_of(sample, sample.frame(symbol=json.dumps(native)))
    assert rejected.reason == "unknown_symbol"
    assert repr(native) in rejected.detail


@pytest.mark.parametrize("literal", ['"2021-04-17 16:43:37Z"', '"2021-04-17T16:43:37"', '"2021-04-17T16:43:37+02:00"'])
@pytest.mark.parametrize("sample", [KRAKEN, COINBASE], ids=["kraken", "coinbase"])
def test_bad_iso_time(sample: Sample, literal: str) -> None:
    assert rejected_of(sample, sample.frame(time=literal)).reason == "bad_time"


@pytest.mark.parametrize("text", ["2008-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "2021-02-30T00:00:00Z", ""])
@pytest.mark.parametrize("sample", [KRAKEN, COINBASE], ids=["kraken", "coinbase"])
def test_iso_time_out_of_range(sample: Sample, text: str) -> None:
    assert rejected_of(sample, sample.frame(time=f'"{text}"')).reason == "bad_time"


@pytest.mark.parametrize(
    ("text", "fraction"), [("", 0), (".5", 500_000), (".089723", 89_723), (".089723999", 89_723), (".000001", 1)]
)
@pytest.mark.parametrize("sample", [KRAKEN, COINBASE], ids=["kraken", "coinbase"])
def test_fractions_of_a_second(sample: Sample, text: str, fraction: int) -> None:
    assert trade_of(sample, time=f'"2021-04-17T16:43:37{text}Z"').ts_event == 1618677817_000000 + fraction


@pytest.mark.parametrize("sample", [KRAKEN, COINBASE], ids=["kraken", "coinbase"])
def test_bad_side(sample: Sample) -> None:
    assert rejected_of(sample, sample.frame(side='"BUY"')).reason == "bad_side"


@ALL
@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"pong", "not_json"),
        (b'{"a":NaN}', "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 100_000, "not_json"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b"\x80", "not_utf8"),
        (b"null", "unknown_frame"),
        (b"5", "unknown_frame"),
        (b'"trade"', "unknown_frame"),
        (b"[]", "unknown_frame"),
    ],
)
def test_unreadable_frames(sample: Sample, frame: bytes, reason: str) -> None:
    rejected = rejected_of(sample, frame)
    assert rejected.reason == reason
    assert rejected.raw == frame.decode("utf-8", "backslashreplace")[:MAX_RAW]


@ALL
def test_bad_bytes_outside_the_trade_object_are_not_overlooked(sample: Sample) -> None:
    assert rejected_of(sample, sample.frame().replace(b"{", b'{"\xff":1,', 1)).reason == "not_utf8"


@ALL
def test_a_field_given_twice(sample: Sample) -> None:
    name = sample.roles["price"]
    payload = sample.payload().replace("{", f'{{"{name}":null,', 1)
    parsed = parse_one(sample, sample.wrap(payload).encode())
    # Kraken takes the literal undecoded, so there the last one counts, as JSON parsers commonly do.
    assert isinstance(parsed, Trade) if sample is KRAKEN else isinstance(parsed, Rejected)
    if isinstance(parsed, Rejected):
        assert parsed.reason == "unreadable"


@ALL
def test_a_huge_trade_is_rejected_and_cut(sample: Sample) -> None:
    payload = sample.payload().replace("}", f',"junk":"{"x" * MAX_RAW}"}}')
    rejected = rejected_of(sample, sample.wrap(payload).encode())
    assert rejected.reason == "too_long"
    assert f"raw text cut after {MAX_RAW} of {len(payload)} characters" in rejected.detail
    assert rejected.raw == payload[:MAX_RAW]


def test_even_a_rejected_frame_of_control_characters_fits_a_kafka_message() -> None:
    rejected = rejected_of(COINBASE, b"\x00" * 10_000_000)
    assert len(encode(rejected)) < 1_000_000


@ALL
def test_values_survive_the_wire_format(sample: Sample) -> None:
    trade = trade_of(sample)
    assert msgspec.json.decode(encode(trade), type=Trade) == trade
