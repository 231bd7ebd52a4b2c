"""Days in memory: read once, again only if their files change, within a bound."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import table_io
from lakehouse.serving import opened as opened_module
from lakehouse.serving.cursor import micros
from lakehouse.serving.frames import Bounds, Frame, Frames, select, select_json
from lakehouse.serving.opened import OpenTables, WouldBlockError
from lakehouse.tables import GOLD_BARS_1M
from tests.support.api_server import as_json
from tests.support.market_lake import MarketLake
from tests.support.rows import NOON_US, bar_row, empty_lake

SCHEMA = table_io.arrow_schema(GOLD_BARS_1M)
MINUTE = 60_000_000


def test_a_new_version_reads_only_the_days_that_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "STALE_SECONDS"):
        monkeypatch.setattr(opened_module, name, 0.0)
    settings = empty_lake(tmp_path / "home")
    day = 86_400_000_000
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US), bar_row(NOON_US + day)])
    tables, frames = OpenTables(settings), Frames(settings)
    before = tables.newest(GOLD_BARS_1M)
    kept = {one: frames.day(before, one) for one in before.days}
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US + day + MINUTE)])
    after = tables.newest(GOLD_BARS_1M)
    assert after.version == before.version + 1
    first, second = sorted(after.days, key=str)
    assert frames.day(after, first, wait=False) is kept[first]
    with pytest.raises(WouldBlockError):
        frames.day(after, second, wait=False)
    assert frames.day(after, second).rows.num_rows == 2
    assert frames.day(before, second, wait=False) is kept[second]  # a page of before is still of before
    assert tables.at(GOLD_BARS_1M, before.version) is before


def test_a_day_that_changed_is_read_before_requests_get_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_module, "LOOK_SECONDS", 0.0)
    settings = empty_lake(tmp_path / "home")
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US)])
    frames = Frames(settings)
    tables = OpenTables(settings, frames.renew)
    before = tables.newest(GOLD_BARS_1M)
    (day,) = before.days
    frames.day(before, day)
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US + MINUTE)])
    deadline = time.monotonic() + 10
    while (after := tables.newest(GOLD_BARS_1M, wait=False)) is before:  # nobody waits for the look
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert frames.day(after, day, wait=False).rows.num_rows == 2


def test_memory_is_bounded(market: MarketLake) -> None:
    tables = OpenTables(market.settings)
    opened = tables.newest(GOLD_BARS_1M)
    first, second = sorted(opened.days, key=str)
    one_day = max(Frames(market.settings).day(opened, day).nbytes for day in (first, second))
    frames = Frames(market.settings, most_bytes=int(one_day * 1.1))
    frames.day(opened, first)
    frames.day(opened, second)
    assert 0 < frames.nbytes <= one_day * 1.1
    with pytest.raises(WouldBlockError):
        frames.day(opened, first, wait=False)


_ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["X/Y", "Z/Y"]), st.integers(0, 30)),
    unique=True,
    max_size=60,
)
_NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "d"])), st.one_of(st.none(), st.sampled_from(["X/Y", "Q/Y"]))
_LIMITS = st.one_of(st.none(), st.integers(-5, 40))


@given(
    _ROWS,
    *_NAMES,
    _LIMITS,
    _LIMITS,
    st.one_of(st.none(), st.tuples(st.sampled_from("abc"), st.just("X/Y"), st.integers(0, 30))),
    st.one_of(st.none(), st.integers(1, 20)),
    st.integers(1, 29),
)
def test_a_selection_is_what_a_loop_finds(
    rows: list[tuple[str, str, int]],
    venue: str | None,
    symbol: str | None,
    low: int | None,
    high: int | None,
    after: Any,
    limit: int | None,
    cut: int,
) -> None:
    keys = sorted(rows)
    expected = [
        (one, two, at)
        for one, two, at in keys
        if venue in (None, one)
        and symbol in (None, two)
        and (low is None or at >= low)
        and (high is None or at < high)
        and (after is None or (one, two, at) > after)
    ][:limit]
    frames = [
        Frame(GOLD_BARS_1M, pa.Table.from_pylist([bar_row(at, venue=one, symbol=two) for one, two, at in part], SCHEMA))
        for part in ([key for key in keys if key[2] < cut], [key for key in keys if key[2] >= cut])
    ]
    bounds = Bounds(venue, symbol, low, high, after)
    found = select(frames, SCHEMA, bounds, limit).to_pylist()
    assert [(row["venue"], row["symbol"], micros(row["bar_start"])) for row in found] == expected
    many = len(rows) if limit is None else limit
    objects = [msgspec.json.decode(row) for row in select_json(frames, bounds, many)]
    assert objects == [as_json(row) for row in found]
