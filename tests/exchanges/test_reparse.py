"""A rejected text read again: a part is put back into its frame, and the parser that rejected it rejects it again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.exchanges.model import Heartbeat, Rejected, Trade
from lakehouse.exchanges.reparse import parse_again
from tests.exchanges.test_fuzz import json_values, literals, mutated_frames
from tests.support.exchange_samples import READERS, SAMPLES, TS_INGEST, Sample

EACH_VENUE = pytest.mark.parametrize("name", READERS)
EACH_SAMPLE = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def rejected(venue: str, raw: str, reason: str = "not_json", detail: str = "of an older parser") -> Rejected:
    return Rejected(venue, reason, detail, raw, TS_INGEST)


def assert_rejected_again(name: str, frame: bytes) -> None:
    venue = READERS[name]
    for value in venue.parse(frame, TS_INGEST):
        if isinstance(value, Rejected):
            again = parse_again(venue, value)
            assert [type(one) for one in again] == [Rejected], value


@EACH_SAMPLE
@pytest.mark.parametrize("form", ["frame", "part"])
def test_a_good_text_is_a_trade_today(sample: Sample, form: str) -> None:
    raw = sample.frame().decode() if form == "frame" else sample.payload()
    (trade,) = parse_again(READERS[sample.venue], rejected(sample.venue, raw))
    assert isinstance(trade, Trade)
    found = (trade.symbol, trade.trade_id, trade.price, trade.size, trade.side, trade.ts_event)
    assert found == sample.expected
    assert (trade.ts_ingest, trade.raw) == (TS_INGEST, sample.payload())


def test_a_control_message_is_no_trade_and_no_fault() -> None:
    raw = '{"channel":"heartbeat"}'
    assert parse_again(READERS["kraken"], rejected("kraken", raw)) == [Heartbeat()]
    assert parse_again(READERS["binance"], rejected("binance", '{"stream":"x@depth","data":{"e":"depthUpdate"}}')) == []


@pytest.mark.parametrize("kind", ['"correction"', "7", None])
def test_a_kraken_trade_of_an_unknown_kind_of_frame_stays_rejected(kind: str | None) -> None:
    """It reads well, but its frame may have meant that it never happened."""
    item = SAMPLES["kraken"].payload()
    type_field = "" if kind is None else f'"type":{kind},'
    frame = f'{{"channel":"trade",{type_field}"data":[{item}]}}'
    (value,) = READERS["kraken"].parse(frame.encode(), TS_INGEST)
    assert isinstance(value, Rejected)
    assert value.raw == item
    assert_rejected_again("kraken", frame.encode())


@pytest.mark.parametrize(
    ("venue", "row"),
    [
        ("binance", '{"id":28457,"price":"4.1","qty":"12.0","time":1499865549590,"isBuyerMaker":true}'),
        ("kraken", '["30243.4","0.34507674",1688669597.8277369,"b","m","",61044952]'),
        ("coinbase", '{"trade_id":74,"side":"sell","size":"0.01","price":"10.0","time":"2014-11-07T22:19:28.578544Z"}'),
    ],
)
def test_a_row_of_a_history_does_not_say_its_symbol_and_stays_rejected(venue: str, row: str) -> None:
    assert [type(one) for one in parse_again(READERS[venue], rejected(venue, row))] == [Rejected]


@EACH_VENUE
@settings(max_examples=300, deadline=None)
@given(frame=mutated_frames())
def test_mutated_frames_are_rejected_again(name: str, frame: bytes) -> None:
    assert_rejected_again(name, frame)


@EACH_SAMPLE
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_spoilt_field_is_rejected_again(sample: Sample, data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(sorted(sample.roles)))
    assert_rejected_again(sample.venue, sample.frame(**{role: data.draw(literals | st.none())}))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | json_values.map(str))
def test_no_text_makes_it_raise(text: str) -> None:
    for name, venue in READERS.items():
        parse_again(venue, rejected(name, text))
