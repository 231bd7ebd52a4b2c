"""ETag, forms, compression, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakehouse.serving.forms import accepted
from lakehouse.serving.opened import STALE_SECONDS
from lakehouse.serving.problems import Problem
from lakehouse.tables import GOLD_BARS_1M
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import serving
from tests.support.market_lake import MarketLake, put

RANGE = {"start": "2026-11-01T14:00:00Z", "end": "2026-11-01T15:00:00Z"}
PATHS = ["bars", "trades", "indicators", "moves", "spreads", "completeness", "markets"]


@pytest.mark.parametrize("path", PATHS)
def test_a_copy_that_is_still_right_is_not_sent_again(client: httpx.Client, path: str) -> None:
    first = client.get(f"/v1/{path}")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for sent in (tag, f'"other", {tag}', "*"):
        again = client.get(f"/v1/{path}", headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"/v1/{path}", headers={"If-None-Match": 'W/"other"'}).status_code == 200
    assert client.get(f"/v1/{path}", headers={"Accept": "text/csv"}).headers["etag"] != tag


def test_another_query_and_another_version_have_another_tag(tmp_path: Path) -> None:
    market = MarketLake.written(tmp_path / "home", hours=1)
    with serving(market.settings, UNLIMITED) as client:
        queries = [{}, {"limit": "5"}, {"venue": "kraken"}, {"size": "5m"}, {"fill": "forward"}, RANGE]
        tags = [client.get("/v1/bars", params=query).headers["etag"] for query in queries]
        assert len({*tags}) == len(tags)
        put(market.settings, GOLD_BARS_1M, market.bars(1))
        time.sleep(STALE_SECONDS + 0.1)
        answer = client.get("/v1/bars", headers={"If-None-Match": tags[0]})
        assert answer.status_code == 200
        assert answer.headers["etag"] != tags[0]


def test_gzip_if_asked_for(client: httpx.Client) -> None:
    chosen = {**RANGE, "limit": "10000"}
    packed = client.get("/v1/bars", params=chosen, headers={"Accept-Encoding": "gzip"})
    plain = client.get("/v1/bars", params=chosen, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 3 < int(plain.headers["content-length"])


def test_no_other_site_may_read(client: httpx.Client) -> None:
    answer = client.get("/v1/markets", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("application/*", "json"),
        ("application/json;q=0.5, text/csv", "csv"),
        ("application/json;q=0, */*", "csv"),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", "arrow"),
    ],
)
def test_the_accepted_form(accept: str | None, form: str) -> None:
    assert accepted(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "application/json;q=x", ";"])
def test_no_accepted_form(accept: str) -> None:
    with pytest.raises(Problem, match="expected one of application/json, text/csv"):
        accepted(accept)


@pytest.mark.parametrize(
    ("path", "parameters", "status", "words"),
    [
        ("/v1/bars", {"venue": "binanse"}, 400, "unknown venue 'binanse'; expected one of binance, kraken"),
        ("/v1/bars", {"symbol": "BTC"}, 400, "expected BASE/QUOTE"),
        ("/v1/bars", {"size": "7m"}, 400, "bar size '7m'; expected 1m, 5m"),
        ("/v1/bars", {"fill": "back"}, 400, "fill 'back'; expected 'none' or 'forward'"),
        ("/v1/bars", {"start": "yesterday"}, 400, "time 'yesterday'; expected ISO 8601"),
        ("/v1/bars", {"start": "1969-12-31"}, 400, "expected a year from 1970 to 2199"),
        ("/v1/bars", {"start": "2026-11-02", "end": "2026-11-01"}, 400, "an end that is not before its start"),
        ("/v1/bars", {"limit": "0"}, 400, "limit '0'; expected greater than or equal to 1"),
        ("/v1/bars", {"limit": "10001"}, 400, "less than or equal to 10000"),
        ("/v1/bars", {"limit": "many"}, 400, "limit 'many'; expected a valid integer"),
        ("/v1/bars", {"cursor": "x"}, 400, "cursor 'x'; expected one of an earlier answer"),
        ("/v1/bars", {"form": "csv"}, 400, "parameter 'form'; expected some of cursor, end, fill"),
        ("/v1/markets", {"venue": "kraken"}, 400, "parameter 'venue'; expected some of none"),
        ("/v1/spreads", {"venue": "kraken"}, 400, "parameter 'venue'"),
        ("/v1/price", {"venue": "binanse"}, 400, "unknown venue 'binanse'"),
        ("/v1/price", {"symbol": "BTC"}, 400, "expected BASE/QUOTE"),
        ("/v1/nothing", {}, 404, "'/v1/nothing'; expected a path of /openapi.json"),
        ("/docs", {}, 404, "/docs"),
        (
            "/v1/bars",
            {"start": "2026-01-01", "end": "2026-11-01"},
            400,
            "lakehouse export bars --size 1m --from 2026-01-01",
        ),
        (
            "/v1/trades",
            {"start": "2026-11-01", "end": "2026-11-02", "venue": "kraken"},
            400,
            "trades of 1 day, 0:00:00; expected 1 hours at most without a venue and a symbol",
        ),
        (
            "/v1/trades",
            {"start": "2026-11-01", "end": "2026-11-03", "venue": "kraken", "symbol": "ETH/USD"},
            400,
            "export trades",
        ),
        ("/v1/completeness", {"start": "2026-01-01", "end": "2026-11-03"}, 400, "ask in parts"),
    ],
)
def test_a_problem_says_what_was_found_and_expected(
    client: httpx.Client, path: str, parameters: dict[str, str], status: int, words: str
) -> None:
    answer = client.get(path, params=parameters)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert problem["type"].startswith("urn:lakehouse:problem:")
    assert words in problem["detail"]


def test_a_parameter_that_is_there_twice(client: httpx.Client) -> None:
    answer = client.get("/v1/bars?venue=kraken&venue=binance")
    assert answer.status_code == 400
    assert "2 times" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_get(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/v1/bars")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_lake_that_is_not_there_yet_is_a_problem_that_passes(tmp_path: Path) -> None:
    from lakehouse.settings import load_settings

    settings = load_settings(home=tmp_path / "home")
    with serving(settings, UNLIMITED) as client:
        for path in (*PATHS, "health"):
            answer = client.get(f"/v1/{path}")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json()["type"] == "urn:lakehouse:problem:lake-not-ready"
        assert client.get("/v1/price").json()["connected"] is False
        MarketLake.written(tmp_path / "home", hours=1)
        assert client.get("/v1/bars").status_code == 200
        assert client.get("/v1/health").status_code == 200
