"""The tape of the benchmarks: the messages that ingest itself would write, the same ones each time."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import pytest

from benchmarks.data import DAY_US, START, VENUES, Tape, symbol_names
from benchmarks.frame_server import wire
from benchmarks.ingest import frames
from lakehouse.exchanges import registry
from lakehouse.exchanges.model import Trade, encode

START_US = int(START.timestamp()) * 1_000_000


def trades_of(tape: Tape, count: int) -> list[Trade]:
    return [msgspec.json.decode(value, type=Trade) for _, value in tape.take(count)]


@pytest.mark.parametrize("venue", VENUES)
def test_a_message_is_what_ingest_makes_of_the_venues_frame_byte_by_byte(venue: str) -> None:
    symbols = 40  # real names and made-up ones
    parse = registry.venue(venue, symbol_names(symbols)).parse
    messages = list(Tape(3, symbols, (venue,), duplicates=0.0).take(2_000))
    for (key, value), frame in zip(messages, frames(venue, 2_000, symbols, 3), strict=True):
        (trade,) = parse(frame, msgspec.json.decode(value, type=Trade).ts_ingest)
        assert isinstance(trade, Trade)
        assert encode(trade) == value
        assert key == trade.symbol.encode()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, second, other = (list(Tape(seed).take(3_000)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_ids_are_contiguous_times_rise_and_repeats_are_true_ones() -> None:
    tape = Tape(5, symbols=4, duplicates=0.01)
    found = trades_of(tape, 10_000)
    assert len(found) == 10_000 + tape.repeats == 10_100
    times = Counter(found)
    assert sum(times.values()) - len(times) == tape.repeats
    ids: dict[tuple[str, str], list[int]] = defaultdict(list)
    at = 0
    for trade in dict.fromkeys(found):
        ids[trade.venue, trade.symbol].append(trade.trade_id)
        assert trade.ts_event >= at
        at = trade.ts_event
    assert len(ids) == 3 * 4
    assert all(of_pair == list(range(of_pair[0], of_pair[0] + len(of_pair))) for of_pair in ids.values())
    assert found[0].ts_event >= START_US
    assert START_US + DAY_US * 0.99 < at < START_US + DAY_US


def test_a_second_take_goes_on_where_the_first_ended() -> None:
    tape = Tape(1, symbols=2, duplicates=0.0)
    first, second = trades_of(tape, 1_000), trades_of(tape, 1_000)
    assert max(trade.ts_event for trade in first) < START_US + DAY_US <= min(trade.ts_event for trade in second)
    last = {(trade.venue, trade.symbol): trade.trade_id for trade in first}
    for trade in second:
        assert trade.trade_id == last[trade.venue, trade.symbol] + 1
        last[trade.venue, trade.symbol] = trade.trade_id


def test_without_raw_a_message_is_short_and_otherwise_the_same() -> None:
    full, bare = (trades_of(Tape(1, raw=raw), 100) for raw in ("full", "none"))
    assert [msgspec.structs.replace(trade, raw="{}") for trade in full] == bare


def test_there_are_symbols_enough_and_each_only_once() -> None:
    names = symbol_names(2_000)
    assert len(set(names)) == 2_000
    assert names[:2] == ["BTC/USDT", "ETH/USDT"]


def test_frames_are_framed_as_a_server_does() -> None:
    assert wire([b"x" * 125, b"y" * 126]) == b"\x81\x7d" + b"x" * 125 + b"\x81\x7e\x00\x7e" + b"y" * 126
    assert frames("kraken", 1, 1, 1)[0].startswith(b'{"channel":"trade","type":"update","data":[{')
