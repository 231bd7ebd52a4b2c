"""Runs of the job `repair`, rows of the ledger, and a simulated exchange that has traded for a moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, ExecuteInProcessResult

from jobs import repair
from lakehouse.settings import Settings
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_tools import messages, until
from tests.support.rows import range_row, utc
from tests.support.simulator_support import Client, running

VENUES = ("binance", "kraken", "coinbase")


def run_repair(instance: DagsterInstance, settings: Settings, **config: Any) -> ExecuteInProcessResult:
    return repair.execute_in_process(
        run_config={"ops": {"mend_open_holes": {"config": config}}},
        resources={"settings": settings},
        instance=instance,
        raise_on_error=False,
    )


def tags(instance: DagsterInstance, result: ExecuteInProcessResult) -> dict[str, str]:
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return dict(run.tags)


def failure_line(result: ExecuteInProcessResult) -> str:
    failure = result.failure_data_for_node("mend_open_holes")
    assert failure is not None
    assert failure.user_failure_data is not None  # a dagster.Failure, not a bug's trace
    return failure.user_failure_data.description or ""


def figures(result: ExecuteInProcessResult) -> dict[str, object]:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def gap_row(venue: str, symbol: str, first: int, last: int, age: float = 600.0, **columns: Any) -> dict[str, Any]:
    since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    return range_row(first, last, **{"venue": venue, "symbol": symbol, "state": "open", "since": since, **columns})


@contextmanager
def traded_exchange(record: Path) -> Iterator[SimulatorServer]:
    """A market that has traded for a moment and is paused."""
    with running(record, symbols=("BTC/USDT",), rate=600.0) as server:
        clients = [
            Client(server, "/binance/stream?streams=btcusdt@trade"),
            Client(server, "/kraken/v2"),
            Client(server, "/coinbase"),
        ]
        clients[1].send({"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USDT"]}})
        clients[2].send({"type": "subscribe", "product_ids": ["BTC-USDT"], "channels": ["matches"]})
        until(lambda: all(len(traded(server, venue)) > 100 for venue in VENUES), 30)
        for client in clients:
            client.socket.close()
        yield server


def traded(server: SimulatorServer, venue: str) -> Sequence[TrueTrade]:
    record = server.record
    return list(record.iter(venue, "BTC/USDT")) if (venue, "BTC/USDT") in record.keys() else []  # noqa: SIM118


def gap_of(trades: Sequence[TrueTrade], first: int, last: int) -> dict[str, Any]:
    """The ledger's row of a gap over some places of the record."""
    return gap_row(
        trades[0].venue,
        trades[0].symbol,
        trades[first].trade_id,
        trades[last].trade_id,
        ts_first=utc(trades[first - 1].ts_event),
        ts_last=utc(trades[last + 1].ts_event),
    )


def sent(settings: Settings) -> list[tuple[str, int, str, str, str]]:
    found = [value for _, value in messages(settings.bootstrap(), settings.topic_trades)]
    return sorted((one["venue"], one["trade_id"], one["price"], one["size"], one["source"]) for one in found)


def true(trades: Sequence[TrueTrade], first: int, last: int) -> list[tuple[str, int]]:
    return [(one.venue, one.trade_id) for one in trades[first : last + 1]]
