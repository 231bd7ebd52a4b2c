"""Cursors: all pages together are the whole, of one state; a mangled one is refused and never read as another place."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.client import Lake
from lakehouse.lake.table_io import append_rows, table_uri
from lakehouse.serving.cursor import Cursor, read_cursor
from lakehouse.serving.problems import Problem
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import as_json, pages, serving
from tests.support.market_lake import MarketLake, put

RANGE = {"start": "2026-11-01T21:00:00Z", "end": "2026-11-02T01:30:00Z"}
LONG = {"start": "2026-11-01", "end": "2026-11-03"}
QUERIES: list[tuple[str, dict[str, str]]] = [
    ("/v1/bars", RANGE),
    ("/v1/bars", {**RANGE, "venue": "binance", "symbol": "BTC/USDT"}),
    ("/v1/bars", {**RANGE, "size": "10m"}),
    ("/v1/bars", {**RANGE, "size": "1h", "fill": "forward"}),
    ("/v1/bars", {"venue": "kraken"}),
    ("/v1/trades", {"start": "2026-11-01T23:30:00Z", "end": "2026-11-02T00:20:00Z"}),
    (
        "/v1/trades",
        {"start": "2026-11-01T20:30:00Z", "end": "2026-11-02T03:20:00Z", "venue": "kraken", "symbol": "ETH/USD"},
    ),
    ("/v1/indicators", RANGE),
    ("/v1/moves", LONG),
    ("/v1/spreads", RANGE),
    ("/v1/completeness", LONG),
    ("/v1/completeness", {**RANGE, "size": "1m"}),
]


@given(query=st.sampled_from(QUERIES), limit=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_all_pages_are_the_whole(client: httpx.Client, query: tuple[str, dict[str, str]], limit: int) -> None:
    path, parameters = query
    whole = client.get(path, params={**parameters, "limit": 10_000}).json()
    assert whole["next"] is None
    limit = max(limit, len(whole["rows"]) // 40)
    found = pages(client, path, limit, **parameters)
    assert [row for page in found for row in page] == whole["rows"]
    assert len(found) == max(1, -(-len(whole["rows"]) // limit))


@pytest.mark.parametrize(("path", "parameters"), QUERIES)
def test_csv_and_arrow_have_the_cursor_in_a_header(client: httpx.Client, path: str, parameters: dict[str, str]) -> None:
    chosen: dict[str, str | int] = {**parameters, "limit": 1}
    cursor = client.get(path, params=chosen).json()["next"]
    assert cursor
    for accept in ("text/csv", "application/vnd.apache.arrow.stream"):
        answer = client.get(path, params=chosen, headers={"Accept": accept})
        assert answer.headers["x-next-cursor"] == cursor
        target = answer.headers["link"].removeprefix("<").split(">")[0]
        following = client.get(target, headers={"Accept": "application/json"})
        assert following.json()["rows"] == client.get(path, params={**parameters, "limit": 2}).json()["rows"][1:]


_KEYS = st.lists(st.one_of(st.text(max_size=30), st.integers(-(2**63), 2**63 - 1)), max_size=5)
_TIMES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@given(
    st.builds(
        Cursor,
        table_id=st.text(max_size=40),
        version=st.integers(-(2**63), 2**63 - 1),
        query=st.text(max_size=30),
        key=_KEYS.map(tuple),
        start=_TIMES,
        end=_TIMES,
    )
)
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    text = cursor.text()
    assert text.isascii()
    if len(text) <= 1_000:
        assert read_cursor(text) == cursor


@given(st.data())
def test_a_mangled_cursor_is_refused(data: st.DataObject) -> None:
    text = Cursor("table", 7, "query", ("binance", "BTC/USDT", 5), 1, 2).text()
    at = data.draw(st.integers(0, len(text) - 1))
    mangled = data.draw(
        st.one_of(
            st.characters().map(lambda one: text[:at] + one + text[at + 1 :]),
            st.characters().map(lambda one: text[:at] + one + text[at:]),
            st.just(text[:at] + text[at + 1 :]),
            st.text(max_size=200),
        )
    )
    if mangled != text:
        with pytest.raises(Problem, match="cursor"):
            read_cursor(mangled)


@given(
    key=_KEYS.map(tuple),
    version=st.integers(-(2**63), 2**63 - 1),
    start=_TIMES,
    end=_TIMES,
    path=st.sampled_from(["/v1/bars", "/v1/trades", "/v1/completeness", "/v1/spreads"]),
)
@settings(max_examples=60, deadline=None)
def test_a_forged_cursor_is_a_problem_or_a_page(
    client: httpx.Client, path: str, key: Any, version: int, start: int | None, end: int | None
) -> None:
    """Somebody who knows the form can write one: it gives no right, and breaks nothing."""
    first = client.get(path, params={**RANGE, "limit": 1} if path != "/v1/trades" else {"limit": 1})
    assert first.status_code == 200, first.text
    real = read_cursor(
        client.get(path, params={**RANGE, "limit": 1} if path != "/v1/trades" else {"limit": 1}).json()["next"]
    )
    for one in (real.version, version):
        forged = Cursor(real.table_id, one, real.query, key, start, end).text()
        answer = client.get(path, params={**(RANGE if path != "/v1/trades" else {}), "cursor": forged})
        assert answer.status_code in (200, 400, 410), answer.text


def test_a_cursor_of_another_query_is_refused(client: httpx.Client) -> None:
    cursor = client.get("/v1/bars", params={**RANGE, "limit": 1}).json()["next"]
    for path, other in (
        ("/v1/bars", {"venue": "kraken"}),
        ("/v1/bars", {"size": "5m"}),
        ("/v1/bars", {"end": "2026-11-02T01:00:00Z"}),
        ("/v1/indicators", {}),
    ):
        answer = client.get(path, params={**RANGE, **other, "cursor": cursor})
        assert answer.status_code == 400
        assert "another query" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["bars", "trades"])
def test_pages_are_of_one_state_while_the_table_changes(tmp_path: Path, kind: str) -> None:
    market = MarketLake.written(tmp_path / "home", hours=3)
    table, rows = (GOLD_BARS_1M, market.bars(1)) if kind == "bars" else (SILVER_TRADES, market.trades)
    chosen = {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T12:50:00Z"}
    with serving(market.settings, UNLIMITED) as client:
        whole = client.get(f"/v1/{kind}", params=chosen).json()
        first = client.get(f"/v1/{kind}", params={**chosen, "limit": 20}).json()
        put(market.settings, table, rows[::2])
        rest = client.get(f"/v1/{kind}", params={**chosen, "cursor": first["next"], "limit": 10_000}).json()
        assert rest["version"] == first["version"]
        assert first["rows"] + rest["rows"] == whole["rows"]
        newest = _eventually_newer(client, kind, chosen, first["version"])
        assert len(newest["rows"]) < len(whole["rows"])


def _eventually_newer(client: httpx.Client, kind: str, chosen: dict[str, str], version: int) -> Any:
    import time

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = client.get(f"/v1/{kind}", params=chosen).json()
        if found["version"] > version:
            return found
        time.sleep(0.1)
    raise AssertionError("the new version was never seen")


def test_a_version_that_is_gone_is_said(tmp_path: Path) -> None:
    market = MarketLake.written(tmp_path / "home", hours=1)
    with serving(market.settings, UNLIMITED) as client:
        cursor = client.get("/v1/bars", params={"limit": 1}).json()["next"]
    rows = market.bars(1)
    for _ in range(3):
        put(market.settings, GOLD_BARS_1M, rows)
    (Path(table_uri(market.settings, GOLD_BARS_1M)) / "_delta_log" / f"{0:020}.json").unlink()
    (Path(table_uri(market.settings, GOLD_BARS_1M)) / "_delta_log" / f"{1:020}.json").unlink()
    with serving(market.settings, UNLIMITED) as client:
        answer = client.get("/v1/bars", params={"cursor": cursor})
        assert answer.status_code in (410, 503)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_lake_that_was_made_anew_has_no_old_pages(tmp_path: Path) -> None:
    market = MarketLake.written(tmp_path / "home", hours=1)
    with serving(market.settings, UNLIMITED) as client:
        cursor = client.get("/v1/bars", params={"limit": 1}).json()["next"]
        shutil.rmtree(market.settings.lake)
        MarketLake.written(tmp_path / "home", hours=1)
        _eventually_other(client, cursor)


def _eventually_other(client: httpx.Client, cursor: str) -> None:
    import time

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        client.get("/v1/bars")
        answer = client.get("/v1/bars", params={"cursor": cursor})
        if answer.status_code == 410:
            assert "before" in answer.json()["detail"]
            return
        time.sleep(0.1)
    raise AssertionError("the old page was still answered")


_NEW = itertools.count()


@given(limits=st.lists(st.integers(1, 700), min_size=1, max_size=8), kind=st.sampled_from(["bars", "trades"]))
@settings(max_examples=10, deadline=None)
def test_pages_of_any_size_are_the_answer_at_once_while_rows_are_appended(
    growing: tuple[MarketLake, httpx.Client], limits: list[int], kind: str
) -> None:
    market, client = growing
    # Each example begins with a version that a stream has just replaced.
    table, rows = (GOLD_BARS_1M, market.bars(1)) if kind == "bars" else (SILVER_TRADES, market.trades)
    parameters: dict[str, Any] = {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T13:00:00Z"}
    sizes = itertools.cycle(limits)
    cursor: str | None = None
    found: list[dict[str, Any]] = []
    versions: set[int] = set()
    for turn in range(2_000):
        more = {} if cursor is None else {"cursor": cursor}
        size = max(next(sizes), len(rows) // 40)
        answer = client.get(f"/v1/{kind}", params={**parameters, "limit": size, **more})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["rows"]
        versions.add(page["version"])
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["rows"]) == size
        if turn < 3:
            other = {"symbol": f"A{next(_NEW)}/USD"}  # before most others in the order of pages
            append_rows(market.settings, table, [rows[turn] | other])
    assert len(versions) == 1
    start, end = (dt.datetime.fromisoformat(parameters[name]) for name in ("start", "end"))
    reader = getattr(Lake(market.settings), kind)(start=start, end=end, version=versions.pop())
    assert found == [as_json(row) for row in _shown(reader.arrow().to_pylist(), found)]


def _shown(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns that an answer has."""
    return [{name: row[name] for name in found[0]} for row in rows] if found else rows


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MarketLake, httpx.Client]]:
    market = MarketLake.written(tmp_path_factory.mktemp("growing") / "home", hours=1)
    with serving(market.settings, UNLIMITED) as client:
        yield market, client
