"""`lakehouse simulate`: run the simulated exchange as a process."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.market.venues import in_words, titles

if TYPE_CHECKING:
    from lakehouse.simulator.options import SimulatorOptions

_HELP = f"""Run an exchange on localhost that speaks {in_words("and", titles())}. Ctrl-C ends it.

A market opens at its first subscription and goes on trading even if nobody listens. Faults come by schedule or on
demand: POST {{"kind": "drop", "seconds": 5}} to /admin/faults (the answer to a wrong kind lists them all); DELETE
ends them. The record holds every trade, whatever fails on the way.
"""


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse simulate` to the application."""
    app.command("simulate", help=_HELP)(simulate)


def simulate(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    rate: Annotated[float, typer.Option(help="Trades per second over all venues, 1 to 20000.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic market.")] = 1,
    venues: Annotated[str | None, typer.Option(help="Comma-separated. Default: the settings' venues.")] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Comma-separated, BASE/QUOTE. Default: the settings' symbols.")
    ] = None,
    moves_per_hour: Annotated[
        float, typer.Option(help="Moves beyond 2 % within a minute: so many an hour over all assets, 0 to 60.")
    ] = 0.125,
    record: Annotated[
        Path, typer.Option(help="Folder of the true record; ids and prices go on from what is there. 40 bytes a trade.")
    ] = Path(".lakehouse/simulator"),
    replay: Annotated[
        list[Path] | None,
        typer.Option(help="Recorded frames to send in place of that venue's market. May be repeated."),
    ] = None,
    speed: Annotated[float, typer.Option(help="Pace of the replay: 1 is the original, 0 as fast as possible.")] = 1.0,
    fault_seed: Annotated[
        int | None, typer.Option(help="Faults by a schedule of this seed. Default, with --fault-rate: the market's.")
    ] = None,
    fault_rate: Annotated[
        float | None, typer.Option(help="Scheduled faults a minute, up to 600. Default, with --fault-seed: 6.")
    ] = None,
    limits: Annotated[
        float, typer.Option(help="Factor on the venues' REST budgets and connection limits; 0 lifts them.")
    ] = 1.0,
    delisted: Annotated[
        list[str] | None,
        typer.Option(help="VENUE:BASE/QUOTE, a symbol that this venue does not list. May be repeated."),
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write the base URL here once it listens.")] = None,
) -> None:
    """Run the simulated exchange; `_HELP` is the text of the command's help."""
    from lakehouse.settings import load_settings
    from lakehouse.simulator.limits import Limits
    from lakehouse.simulator.options import SimulatorOptions, read_delisted

    settings = load_settings(venues=venues, symbols=symbols)
    options = SimulatorOptions(
        record=record,
        port=port,
        rate=rate,
        seed=seed,
        venues=settings.venues,
        symbols=settings.symbols,
        moves_per_hour=moves_per_hour,
        replays=tuple(replay or ()),
        speed=speed,
        limits=Limits().times(limits),
        fault_seed=fault_seed,
        fault_rate=fault_rate or 0.0,
        delisted=read_delisted(delisted or ()),
    )
    _serve(options, ready_file)


def _serve(options: SimulatorOptions, ready_file: Path | None) -> None:
    """Run the exchange until SIGINT, SIGTERM or its own end."""
    from lakehouse.simulator.server import SimulatorServer

    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if ready_file:
        ready_file.unlink(missing_ok=True)  # a file of an earlier run names a dead address
    with SimulatorServer(options) as server:
        if ready_file:
            _write_whole(ready_file, server.url)
        market = f"seed {options.seed}, {options.rate:g} trades/s, record in {options.record}"
        typer.echo(f"simulated exchange at {server.url} ({market})")
        if options.faults_planned:
            typer.echo("faults: seed {}, {:g} a minute".format(*options.faults_planned))
        while not stopping.wait(0.2):
            server.wait(0.0)  # raises what ended the server, if it has
            if not server.is_running:
                break
        if ready_file:
            ready_file.unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
