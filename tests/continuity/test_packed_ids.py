"""Known ids as bytes: what comes out is what went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.continuity.packed_ids import PackedIds, packed
from lakehouse.id_ranges import IdRanges

IDS = st.integers(0, 2**63 - 2)
MARKETS = st.dictionaries(
    st.tuples(st.sampled_from(["binance", "kraken", ""]), st.text(max_size=8)),
    st.lists(st.tuples(IDS, st.integers(0, 50)), max_size=20),
    max_size=6,
)


@given(MARKETS)
def test_every_market_has_its_ids(markets: dict[tuple[str, str], list[tuple[int, int]]]) -> None:
    ids = {
        key: IdRanges((first, min(2**63 - 2, first + more)) for first, more in ranges)
        for key, ranges in markets.items()
    }
    read = PackedIds(packed(ids.items()))
    assert {key: read.of(key) for key in ids} == ids
    assert read.of(("nobody", "BTC/USDT")) == IdRanges()


def test_many_gaps_are_a_few_bytes_each() -> None:
    """A market whose every seventh id is missing."""
    gaps = IdRanges((n * 7, n * 7 + 5) for n in range(10_000))
    data = packed([(("kraken", "BTC/USD"), gaps)])
    assert len(data) < 40_000
    assert PackedIds(data).of(("kraken", "BTC/USD")) == gaps
