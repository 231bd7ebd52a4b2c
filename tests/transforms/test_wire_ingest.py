"""All that ingest writes is recognised, in chunks of any kind, and as the judge judges it."""

from __future__ import annotations

import re
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.exchanges.model import Trade, encode
from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import BRONZE_MESSAGES
from lakehouse.transforms import wire
from lakehouse.transforms.message_judge import COLUMNS, judge
from tests.market.test_symbols import symbols
from tests.support.recognised_rows import GOOD, LEFT, SETTINGS, Row, bronze, literal, recognised
from tests.support.rows import utc
from tests.support.wire_messages import EARLIEST_US, LATEST_US, message

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
    """A chunk that the fast path gives up may hold good messages: they are left to the judge, and never lost."""
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


# ------------------------------------------------------------------------------------------- with the judge


def test_recogniser_and_judge_say_the_same() -> None:
    """The recognised trades with the judge's verdicts on the rest equal the judge's verdicts on all."""
    rng = Random(7)
    values = [*GOOD.values(), *LEFT.values(), *(message(rng) for _ in range(3_000))]
    messages = bronze(values, pa.schema([arrow_schema(BRONZE_MESSAGES).field(name) for name in COLUMNS]))

    def by_offset(table: pa.Table) -> tuple[dict[int, Row], dict[int, Row]]:
        rows = judge(table, SETTINGS)
        trades, refused = ({row["kafka_offset"]: row for row in one.to_pylist()} for one in (rows[0], rows[2]))
        return trades, refused

    taken = recognised(values)
    trades, refused = by_offset(messages)
    others, refused_others = by_offset(messages.filter(pa.array([place not in taken for place in range(len(values))])))
    assert {offset: trades.get(offset, refused.get(offset)) for offset in taken} == taken
    assert taken | others == trades
    assert taken.keys().isdisjoint(others)
    assert refused_others == refused
    assert len(trades) + len(refused) == len(values)
    assert min(len(taken), len(others), len({row["rule"] for row in refused.values()})) > 10
