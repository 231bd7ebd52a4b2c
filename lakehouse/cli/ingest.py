"""`lakehouse ingest`: write the exchanges' feeds into Kafka, without Dagster, until Ctrl-C or SIGTERM.

SIGUSR1 replaces all sockets by new ones without interrupting the feeds; so does `lakehouse rotate` from another
terminal.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.errors import RetriableError, SettingError
from lakehouse.market.venues import in_words
from lakehouse.settings import Settings, load_settings

if TYPE_CHECKING:
    from lakehouse.ingest.service import IngestService
    from lakehouse.ingest.stats import IngestStats

#: Seconds between two looks at the ingest service; a dead feed is reported within this time.
CHECK_SECONDS = 0.5
#: Seconds between two status lines on standard error.
STATUS_SECONDS = 5.0
#: Seconds that the venues have to refuse a symbol that was asked for by name; without a refusal the run goes on.
#: Binance acknowledges any name; some 5 s later its REST API is asked about one that does not trade.
REFUSAL_SECONDS = 10.0
#: Seconds for the whole shutdown: sockets, then Kafka's acknowledgements.
STOP_SECONDS = 15.0


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse ingest` to the application."""
    app.command("ingest")(ingest)


def ingest(
    venue: Annotated[list[str] | None, typer.Option(help=f"{in_words('or')}; repeat or join by commas.")] = None,
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "--pair", help="BASE/QUOTE; repeat or join by commas.")
    ] = None,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka bootstrap servers, host:port[,host:port].")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of trades; default crypto.trades.")] = None,
    url: Annotated[str | None, typer.Option(help="http://HOST:PORT of the simulator, in place of live venues.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus port on 127.0.0.1; 0 takes a free one.")] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Write exchanges' trades to Kafka until Ctrl-C. Ends if a venue refuses a symbol that was named here."""
    from lakehouse.ingest.service import IngestService

    settings = load_settings(
        home=home,
        venues=_joined(venue),
        symbols=_joined(symbol),
        bootstrap_servers=bootstrap,
        topic_trades=topic,
        simulator_url=url,
        metrics_port=metrics_port,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    service = IngestService(settings)
    # A list, because a handler that its own signal interrupts must not wait for a lock. Set before the start, because
    # this signal ends a process that does not handle it.
    rotations: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: rotations.append(number))
    service.start()
    unflushed = 0
    try:
        _announce(settings, service.stats())
        if symbol:
            _no_refusals(service, stop)
        _watch(service, stop, rotations)
    finally:
        unflushed = service.stop(STOP_SECONDS)
        stats = service.stats()
        print(f"ingest stopped: {stats.produced:,} trades, {stats.acked:,} acknowledged by Kafka", file=sys.stderr)
        left = sum(one.open_ids for one in stats.venues)
        if left:
            print(f"{left:,} missed trades are not repaired yet; the next start goes on with them", file=sys.stderr)
    if unflushed:
        raise RetriableError(
            f"{unflushed:,} messages were not acknowledged by Kafka within {STOP_SECONDS:g} s of the stop",
            "0",
            "the trades among them are a gap that the next run has to repair",
        )


def _joined(values: Sequence[str] | None) -> str | None:
    """Join repeated values by commas, as the settings take them; None if there is none."""
    return ",".join(values) if values else None


def _announce(settings: Settings, stats: IngestStats) -> None:
    source = f"the simulator at {settings.simulator_url}" if settings.simulator_url else "live venues"
    print(
        f"ingesting {', '.join(settings.symbols)} of {', '.join(one.venue for one in stats.venues)} from {source} "
        f"to {settings.topic_trades} at {settings.bootstrap()}; "
        f"metrics at http://127.0.0.1:{stats.metrics_port}/metrics; Ctrl-C stops",
        file=sys.stderr,
    )


def _no_refusals(service: IngestService, stop: threading.Event) -> None:
    """Raise SettingError if a venue refuses a symbol that was asked for by name."""
    from lakehouse.ingest.stats import refusals_text

    deadline = time.monotonic() + REFUSAL_SECONDS
    while not stop.is_set() and time.monotonic() < deadline:
        refusals = service.wait_subscribed(0.2)
        if refusals:
            raise SettingError(f"refused by {refusals_text(refusals)}", "symbols that the venue lists")
        if service.settled:
            return


def _watch(service: IngestService, stop: threading.Event, rotations: list[int]) -> None:
    before, at = service.stats(), time.monotonic()
    while not stop.wait(CHECK_SECONDS):
        service.check()
        if rotations:
            rotations.clear()
            service.rotate()
            print("SIGUSR1: changing all sockets for new ones", file=sys.stderr)
        now = time.monotonic()
        if now - at >= STATUS_SECONDS:
            stats = service.stats()
            print(_status(stats, before, now - at), file=sys.stderr)
            before, at = stats, now


def _status(stats: IngestStats, before: IngestStats, seconds: float) -> str:
    parts = []
    for one, old in zip(stats.venues, before.venues, strict=True):
        part = (
            f"{one.venue} {'up' if one.connected else 'DOWN'} {(one.acked - old.acked) / seconds:,.0f}/s {one.acked:,}"
        )
        if one.gaps:
            part += f" gaps {one.gaps} ({one.missing:,} trades"
            part += f", {one.repaired:,} repaired" if one.repaired else ""
            part += f", {one.unavailable:,} unavailable" if one.unavailable else ""
            part += f", {one.open_ids:,} open)" if one.open_ids else ")"
        if one.requests != old.requests:
            part += f" rest {one.requests} requests, {one.budget_used:.0%} of the budget"
        if one.rejected:
            part += f" rejected {one.rejected:,}"
        if one.rotations:
            part += f" rotations {one.rotations}"
        if one.reconnects:
            part += f" reconnects {one.reconnects}"
        if one.refused:
            part += f" refused {', '.join(one.refused)}"
        if one.unsubscribed:
            part += f" NOT SUBSCRIBED {', '.join(f'{name} ({why})' for name, why in sorted(one.unsubscribed.items()))}"
        if not one.connected and one.last_error:
            part += f" [{one.last_error}]"
        parts.append(part)
    trouble = f" [{stats.kafka_trouble}]" if stats.kafka_trouble else ""
    return f"{' | '.join(parts)} | unacknowledged {stats.unacknowledged:,}{trouble}"
