"""No input makes a parser raise, and no trade object goes missing: N of them give N values."""

from __future__ import annotations

import json
import re
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.exchanges.model import (
    Heartbeat,
    Parsed,
    Refused,
    Rejected,
    Shutdown,
    Subscribed,
    Trade,
    encode,
)
from tests.support import fuzz_frames
from tests.support.exchange_samples import BINANCE, COINBASE, KRAKEN, READERS, SAMPLES, TS_INGEST, Sample

PARSED = (Trade, Rejected, Subscribed, Refused, Heartbeat, Shutdown)
DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?")
EACH_VENUE = pytest.mark.parametrize("name", READERS)
EACH_SAMPLE = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)

CONTROL = [
    '{"result":null,"id":1}',
    '{"code":2,"msg":"Invalid request: x"}',
    '{"error":{"code":2,"msg":"x"},"id":1}',
    '{"e":"serverShutdown","E":1}',
    '{"channel":"status","type":"update","data":[{"connection_id":16389994220698793191}]}',
    '{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USDT","snapshot":true},"success":true}',
    '{"error":"Currency pair not supported XDG/USD","method":"subscribe","success":false,"symbol":"XDG/USD"}',
    '[993,[["354.11","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]',
    '{"channelID":993,"event":"subscriptionStatus","pair":"XMR/USD","status":"subscribed"}',
    '{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28Z"}',
    '{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}',
    '{"type":"error","message":"Failed to subscribe","reason":"X is not a valid product"}',
]
FRAMES = [sample.frame() for sample in SAMPLES.values()] + [text.encode() for text in CONTROL]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
#: Literals that a venue might send in place of a good one.
literals = (
    json_values.map(json.dumps)
    | st.decimals(allow_nan=True, allow_infinity=True).map(lambda value: f'"{value}"')
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.integers(-(2**70), 2**70).map(str)
    | st.datetimes().map(lambda value: f'"{value.isoformat()}Z"')
    | st.sampled_from(['"NaN"', "1e-7", "1E400", '"0"', "-0", '"1e5"', "1.0", '"buy"', '"BTC/USDT"'])
)
#: No parser of ours takes a lone surrogate for JSON, so it spoils the whole frame.
LONE_SURROGATE = '"\\ud800"'


def check(values: list[Parsed]) -> list[Parsed]:
    """Every value is of a known type, keeps the promises of its type, and can be put on the wire."""
    for value in values:
        assert type(value) in PARSED
        if isinstance(value, Trade):
            assert DECIMAL.fullmatch(value.price)
            assert DECIMAL.fullmatch(value.size)
            assert value.price.strip("0.")
            assert value.size.strip("0.")
            assert 0 <= value.trade_id < 2**63
            assert 1_230_000_000_000_000 < value.ts_event < 4_102_444_800_000_000
            assert value.side in ("buy", "sell")
            assert value.symbol.count("/") == 1
        if isinstance(value, Trade | Rejected):
            assert json.loads(encode(value))["raw"] == value.raw
        if isinstance(value, Rejected):
            assert re.fullmatch("[a-z0-9_]+", value.reason)
            assert len(value.detail) < 500
    return values


@EACH_VENUE
@settings(max_examples=200, deadline=None)
@given(frame=st.binary(max_size=200))
def test_random_bytes(name: str, frame: bytes) -> None:
    values = check(READERS[name].parse(frame, TS_INGEST))
    assert not any(isinstance(value, Trade) for value in values)


@EACH_VENUE
@settings(max_examples=200, deadline=None)
@given(value=json_values)
def test_random_json(name: str, value: object) -> None:
    check(READERS[name].parse(json.dumps(value).encode(), TS_INGEST))


@st.composite
def mutated_frames(draw: st.DrawFn) -> bytes:
    """A frame with up to four short parts cut out or written over."""
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(frame)))
        end = draw(st.integers(start, min(start + 6, len(frame))))
        frame[start:end] = draw(st.binary(max_size=4) | st.sampled_from([b'"', b",", b"{", b"]", b"e9", b"-", b"null"]))
    return bytes(frame)


@EACH_VENUE
@settings(max_examples=400, deadline=None)
@given(frame=mutated_frames())
def test_mutated_frames(name: str, frame: bytes) -> None:
    check(READERS[name].parse(frame, TS_INGEST))


@EACH_SAMPLE
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_trade_with_one_random_field_is_one_value(sample: Sample, data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(["symbol", "trade_id", "price", "size", "side", "time"]))
    changes = {role: data.draw(literals | st.just(LONE_SURROGATE))}
    values = check(READERS[sample.venue].parse(sample.frame(**changes), TS_INGEST))
    assert [type(value) in (Trade, Rejected) for value in values] == [True]
    (value,) = values
    assert isinstance(value, Trade | Rejected)
    whole_frame = changes[role] == LONE_SURROGATE
    assert value.raw == (sample.frame(**changes).decode() if whole_frame else sample.payload(**changes))


@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.dictionaries(st.sampled_from(sorted(KRAKEN.roles)), literals, max_size=2), max_size=8))
def test_a_batch_gives_as_many_values_as_it_has_trades(changes: list[dict[str, str]]) -> None:
    payloads = [KRAKEN.payload(**change) for change in changes]
    frame = f'{{"channel":"trade","type":"update","data":[{",".join(payloads)}]}}'
    values = check(READERS["kraken"].parse(frame.encode(), TS_INGEST))
    assert [value.raw for value in values if isinstance(value, Trade | Rejected)] == payloads
    untouched = [value for value, change in zip(values, changes, strict=True) if not change]
    assert all(isinstance(value, Trade) for value in untouched)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(json_values, max_size=6))
def test_a_v1_batch_gives_as_many_rejected_as_it_has_trades(rows: list[object]) -> None:
    values = check(READERS["kraken"].parse(json.dumps([993, rows, "trade", "XMR/USD"]).encode(), TS_INGEST))
    assert [value.reason for value in values if isinstance(value, Rejected)] == ["no_trade_id"] * len(rows)


@EACH_SAMPLE
@settings(max_examples=200, deadline=None)
@given(
    whole=st.integers(0, 10**20 - 1),
    decimals=st.text("0123456789", max_size=18),
    trade_id=st.integers(0, 2**63 - 1),
)
def test_every_valid_decimal_survives_digit_by_digit(sample: Sample, whole: int, decimals: str, trade_id: int) -> None:
    text = f"{whole}.{decimals}" if decimals else str(whole)
    frame = sample.frame(price=sample.decimal(text), size=sample.decimal(text), trade_id=str(trade_id))
    (value,) = check(READERS[sample.venue].parse(frame, TS_INGEST))
    if text.strip("0."):
        assert isinstance(value, Trade)
        assert (value.price, value.size, value.trade_id) == (text, text, trade_id)
    else:
        assert isinstance(value, Rejected)
        assert value.reason == "not_positive"


def test_the_samples_are_what_the_fuzzing_starts_from() -> None:
    for sample in (BINANCE, KRAKEN, COINBASE):
        assert isinstance(READERS[sample.venue].parse(sample.frame(), TS_INGEST)[0], Trade)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_spoilt_frames_and_pages(seed: int) -> None:
    """A part of what `python -m tests.support.fuzz_frames` does."""
    counts: Counter[str] = Counter()
    broken = fuzz_frames.run(6000, seed, counts)
    assert broken == []
    assert counts["frames"] == 6000
    # It would prove nothing if hardly a frame survived, or hardly one was spoilt.
    assert counts["trades"] > 300
    assert counts["rejected"] > 2000
    assert counts["control"] + counts["ignored"] > 300
    assert counts["refused"] > 50


def test_the_same_seed_spoils_the_same_frames() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for one in counts:
        fuzz_frames.run(500, 9, one)
    assert counts[0] == counts[1]


def test_a_parser_that_breaks_its_promise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    coinbase, frame = READERS["coinbase"], COINBASE.frame()
    (trade,) = coinbase.parse(frame, fuzz_frames.TS)
    assert isinstance(trade, Trade)
    fuzz_frames.check_frame("coinbase", frame, [trade])
    spoilt: list[list[Parsed]] = [
        [],
        [trade, trade],
        [Heartbeat()],
        [msgspec.structs.replace(trade, side="sell")],
        [msgspec.structs.replace(trade, price="986")],
        [msgspec.structs.replace(trade, trade_id=trade.trade_id + 1)],
        [msgspec.structs.replace(trade, ts_event=0)],
    ]
    for values in spoilt:
        with pytest.raises(fuzz_frames.BrokenPromiseError):
            fuzz_frames.check_frame("coinbase", frame, values)
    monkeypatch.setattr(type(coinbase), "parse", lambda *_: [])
    assert fuzz_frames.run(2000, 1, Counter())
