"""Every path, in every form, against the rows that plain Python has made."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any

import httpx
import pyarrow as pa
import pytest

from lakehouse.client import Lake
from tests.serving.conftest import between
from tests.support.api_server import as_json
from tests.support.market_lake import MARKETS, MarketLake

START, END = dt.datetime(2026, 11, 1, 23, 10, tzinfo=dt.UTC), dt.datetime(2026, 11, 2, 0, 5, tzinfo=dt.UTC)
RANGE = {"start": START.isoformat(), "end": END.isoformat()}
KINDS = {
    "bars": "bar_start",
    "indicators": "bar_start",
    "moves": "bar_start",
    "spreads": "bar_start",
    "trades": "ts_event",
}
ARROW = "application/vnd.apache.arrow.stream"


def get(client: httpx.Client, path: str, accept: str | None = None, **parameters: Any) -> httpx.Response:
    answer = client.get(f"/v1/{path}", params=parameters, headers={} if accept is None else {"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_json_is_the_rows_of_the_range(client: httpx.Client, truth: dict[str, Any], kind: str) -> None:
    answer = get(client, kind, limit=10_000, **RANGE)
    expected = between(truth[kind], KINDS[kind], START, END)
    assert expected
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["rows"] == [as_json(row) for row in expected]
    assert answer.json()["next"] is None
    assert answer.headers["x-table"] == answer.json()["table"]
    assert answer.headers["x-table-version"] == str(answer.json()["version"])


@pytest.mark.parametrize("kind", KINDS)
def test_csv_is_the_same_rows(client: httpx.Client, kind: str) -> None:
    answer = get(client, kind, "text/csv", **RANGE)
    assert answer.headers["content-type"].startswith("text/csv")
    expected = get(client, kind, **RANGE).json()["rows"]
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert [[one[name] for name in expected[0]] for one in found] == [
        [
            "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            for value in row.values()
        ]
        for row in expected
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_arrow_is_the_clients_table(client: httpx.Client, lake: Lake, kind: str) -> None:
    answer = get(client, kind, ARROW, limit=10_000, **RANGE)
    assert answer.headers["content-type"] == ARROW
    found = pa.ipc.open_stream(answer.content).read_all()
    assert found.equals(getattr(lake, kind)(start=START, end=END).arrow().combine_chunks())


@pytest.mark.parametrize(
    ("venue", "symbol"), [*MARKETS, ("kraken", None), (None, "BTC/USDT"), ("coinbase", "BTC/USDT")]
)
@pytest.mark.parametrize("kind", ["bars", "trades", "indicators", "moves"])
def test_a_market(
    client: httpx.Client, truth: dict[str, Any], kind: str, venue: str | None, symbol: str | None
) -> None:
    chosen = {name: value for name, value in (("venue", venue), ("symbol", symbol)) if value is not None}
    found = get(client, kind, limit=10_000, **chosen, **RANGE).json()["rows"]
    expected = between(truth[kind], KINDS[kind], START, END)
    assert found == [as_json(row) for row in expected if chosen.items() <= row.items()]


def test_a_pair_of_spreads_and_a_symbol_as_people_type_it(client: httpx.Client, truth: dict[str, Any]) -> None:
    expected = [as_json(row) for row in between(truth["spreads"], "bar_start", START, END)]
    assert get(client, "spreads", symbol="eth-usd", **RANGE).json()["rows"] == expected
    assert get(client, "spreads", symbol="ETH/USDT", **RANGE).json()["rows"] == []


@pytest.mark.parametrize("fill", ["none", "forward"])
@pytest.mark.parametrize("size", ["1m", "5m", "10m", "1h", "4h", "1d"])
def test_sizes_and_filling_are_the_clients(client: httpx.Client, lake: Lake, size: str, fill: Any) -> None:
    expected = lake.bars("kraken", "ETH/USD", size=size, fill=fill, start=START, end=END).arrow()
    answer = get(client, "bars", venue="kraken", symbol="ETH/USD", size=size, fill=fill, **RANGE).json()
    assert answer["rows"] == [as_json(row) for row in expected.to_pylist()]


def test_bars_of_five_minutes_are_the_fold(client: httpx.Client, market: MarketLake) -> None:
    found = get(client, "bars", size="5m", limit=10_000, **RANGE).json()["rows"]
    assert found == [as_json(row) for row in between(market.bars(5), "bar_start", START, END)]


def test_without_a_range_the_newest_rows(client: httpx.Client, truth: dict[str, Any]) -> None:
    found = get(client, "bars", venue="binance").json()["rows"]
    bars = [row for row in truth["bars"] if row["venue"] == "binance"]
    newest = max(row["bar_start"] for row in truth["bars"])
    assert found == [as_json(row) for row in bars if row["bar_start"] > newest - dt.timedelta(minutes=500)]
    trades = get(client, "trades").json()["rows"]
    last = max(row["ts_event"] for row in truth["trades"])
    assert as_json(next(row for row in truth["trades"] if row["ts_event"] == last)) in trades


def test_a_start_alone_reaches_to_the_newest_row(client: httpx.Client, truth: dict[str, Any]) -> None:
    start = dt.datetime(2026, 11, 2, 17, tzinfo=dt.UTC)
    found = get(client, "bars", start=start.isoformat()).json()["rows"]
    assert found == [as_json(row) for row in truth["bars"] if row["bar_start"] >= start]
    assert get(client, "bars", start="2027-01-01").json()["rows"] == []


def test_markets(client: httpx.Client, truth: dict[str, Any]) -> None:
    answer = get(client, "markets").json()
    assert [(row["venue"], row["symbol"]) for row in answer["rows"]] == sorted(MARKETS)
    assert answer["simulated"] is False
    for row in answer["rows"]:
        of_market = [one for one in truth["trades"] if (one["venue"], one["symbol"]) == (row["venue"], row["symbol"])]
        assert row["first_trade"] == as_json(of_market[0])["ts_event"]
        assert row["last_trade"] == as_json(of_market[-1])["ts_event"]


@pytest.mark.parametrize(
    "chosen",
    [{}, RANGE, {"venue": "kraken", **RANGE}, {"start": START.isoformat()}, {"size": "5m", **RANGE}],
)
def test_a_certificate_is_the_clients_and_says_its_proof(
    client: httpx.Client, lake: Lake, chosen: dict[str, str]
) -> None:
    answer = get(client, "completeness", **chosen).json()
    assert answer["rows"] == [as_json(row) for row in lake.completeness(**chosen).arrow().to_pylist()]  # type: ignore[arg-type]
    assert answer["rows"]
    assert (answer["proof"]["ledger"], answer["proof"]["ledger_version"]) == ("silver/continuity", answer["version"])
    assert answer["proof"]["trades_version"] == answer["rows"][0]["trades_version"]


def test_a_certificate_counts_what_plain_python_counts(client: httpx.Client, market: MarketLake) -> None:
    for row in get(client, "completeness").json()["rows"]:
        trades = market.of((row["venue"], row["symbol"]))
        gaps = market.gaps[row["venue"], row["symbol"]]
        missing = {
            state: sum(last - first + 1 for first, last, is_in in gaps if is_in == state)
            for state in ("open", "unavailable")
        }
        assert row["present"] == len(trades)
        assert row["repaired"] == sum(one["source"] == "repair" for one in trades)
        assert {name: row[name] for name in missing} == missing


def test_health(client: httpx.Client, truth: dict[str, Any]) -> None:
    answer = get(client, "health").json()
    assert answer["status"] == "degraded"
    assert "no embedded broker" in answer["kafka_reason"]
    assert answer["versions"].keys() == {"gold/bars_1m", "silver/trades", "silver/continuity"}
    newest = max(row["bar_start"] for row in truth["bars"])
    assert dt.datetime.fromisoformat(answer["newest_bar"]) == newest


def test_openapi_describes_every_path(client: httpx.Client) -> None:
    found = client.get("/openapi.json").json()
    kinds = ("bars", "trades", "indicators", "moves", "spreads", "completeness", "markets", "price", "health")
    assert {f"/v1/{kind}" for kind in kinds} == set(found["paths"])
    for path in found["paths"].values():
        answer = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer["$ref"].split("/")[-1] in found["components"]["schemas"]
    bar = found["components"]["schemas"]["Bar"]["properties"]
    assert "Quote units" in found["components"]["schemas"]["Trade"]["properties"]["price"]["description"]
    assert bar["close"]["type"] == "string"
    assert "securitySchemes" not in found["components"]
