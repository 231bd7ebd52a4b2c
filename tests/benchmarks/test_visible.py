"""From the ledger of batches to the moment at which a trade could be seen."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from benchmarks.growth import Case, cases, table
from benchmarks.visible import History, Visible, percentile

NOON = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)


def at(second: int) -> dt.datetime:
    return NOON + dt.timedelta(seconds=second)


def batch(second: int, query: str, source_end: dict[str, Any], **versions: int) -> dict[str, Any]:
    paths = {name.replace("_", "/", 1): version for name, version in versions.items()}
    return {
        "query": query,
        "committed_at": at(second),
        "source_end": json.dumps(source_end),
        "versions": json.dumps(paths),
    }


ROWS = [
    batch(1, "bronze", {"t": {"0": 10, "1": 5}}, bronze_messages=1),
    batch(2, "silver", {"version": 1, "complete": False}, silver_trades=1),
    batch(3, "silver", {"version": 1, "complete": True}, silver_trades=2),
    batch(4, "gold", {"version": 1, "complete": True}, gold_bars_1m=1),
    batch(5, "bronze", {"t": {"0": 20, "1": 5}}, bronze_messages=2),
    batch(6, "gold", {"version": 2, "complete": True}, gold_bars_1m=2),
    batch(7, "silver", {"version": 2, "complete": True}, silver_trades=3),
]


@pytest.mark.parametrize(
    ("partition", "offset", "silver", "gold"),
    [
        (0, 0, 3, 6),  # a batch that ended inside of the version has perhaps not read it
        (0, 9, 3, 6),
        (0, 10, 7, None),  # the end of a batch is the next offset; its bar is not written yet
        (1, 4, 3, 6),
        (1, 5, None, None),  # Bronze has not read it
        (7, 0, None, None),  # nor this partition at all
    ],
)
def test_a_trade_is_visible_from_the_first_batch_that_has_read_it(
    partition: int, offset: int, silver: int | None, gold: int | None
) -> None:
    expected = Visible(None if silver is None else at(silver), None if gold is None else at(gold))
    assert History(reversed(ROWS)).of(("t", partition), offset) == expected


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0


def test_growth_changes_one_thing_at_a_time() -> None:
    assert cases([1, 5], [10, 200], [1, 30], [1_000]) == [
        Case("trades", 1, 10, 1),
        Case("trades", 5, 10, 1),
        Case("symbols", 1, 10, 1),
        Case("symbols", 1, 200, 1),
        Case("symbols", 1, 10, 1, 1_000),
        Case("symbols", 1, 200, 1, 1_000),
        Case("history", 1, 10, 1),
        Case("history", 1, 10, 30),
    ]


def test_growth_is_told_per_trade_and_against_the_first_case() -> None:
    def record(trades: int, cpu: float, error: str = "") -> dict[str, Any]:
        case = Case("trades", trades, 10, 1)
        return {"round": 1} | case._asdict() | {"seconds": 2 * cpu, "cpu_seconds": cpu, "error": error}

    lines = table([record(1_000_000, 10.0), record(5_000_000, 100.0), record(20_000_000, 1.0, "out of memory")])
    assert [line[5:] for line in lines] == [
        ("20.0", "10.0", "1.00"),
        ("40.0", "20.0", "2.00"),
        ("failed: out of memory", "", ""),
    ]


def test_growth_compares_symbols_within_a_rate() -> None:
    def record(symbols: int, rate: int | None, cpu: float) -> dict[str, Any]:
        case = Case("symbols", 1_000_000, symbols, 1, rate)
        return {"round": 1} | case._asdict() | {"seconds": cpu, "cpu_seconds": cpu, "error": ""}

    lines = table([record(10, None, 10.0), record(200, None, 30.0), record(10, 1_000, 20.0), record(200, 1_000, 30.0)])
    assert [(line[2], line[-1]) for line in lines] == [
        ("12", "1.00"),
        ("12", "3.00"),
        ("1,000", "1.00"),
        ("1,000", "1.50"),
    ]
