"""`lakehouse demo`, `up`, `reset` and `env`: run a whole lakehouse with one command, and manage its folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.homes import ROOT
from lakehouse.errors import LeaseHeldError, SettingError
from lakehouse.market.venues import VENUES

if TYPE_CHECKING:
    from lakehouse.local_stack.stack import Plan

KINDS = ("demo", "live")

Venues = Annotated[str | None, typer.Option(help=f"Comma-separated: {', '.join(VENUES)}. Default: all.")]
Symbols = Annotated[str | None, typer.Option("--symbols", "--pairs", help="Comma-separated, BASE/QUOTE.")]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.01, help="Stop after so many minutes, drained and checked. Default: run until Ctrl-C."),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of Dagster's UI. Default: 3000.")]
Trigger = Annotated[str | None, typer.Option(help="Interval of Bronze's batches, such as '2 seconds'.")]


def register(app: typer.Typer) -> None:
    """Add the commands `demo`, `up`, `reset` and `env` to the application."""
    app.command()(demo)
    app.command()(up)
    app.command()(reset)
    app.command()(env)


def demo(
    rate: Annotated[float, typer.Option(help="Trades per second over all venues, 1 to 20000.")] = 100.0,
    venues: Venues = None,
    symbols: Symbols = None,
    moves_per_hour: Annotated[
        float, typer.Option(help="Moves beyond 2 % within a minute: so many an hour over all assets, 0 to 60.")
    ] = 0.125,
    replay: Annotated[
        list[Path] | None,
        typer.Option(help="Recorded frames instead of a made-up market; names venue and symbols. May be repeated."),
    ] = None,
    speed: Annotated[float, typer.Option(help="Pace of a replay: 1 is the original, 0 as fast as possible.")] = 1.0,
    delisted: Annotated[
        list[str] | None,
        typer.Option(help="VENUE:BASE/QUOTE, a symbol of --symbols that this venue does not list. May be repeated."),
    ] = None,
    minutes: Minutes = None,
    port: Port = None,
    home: Annotated[Path | None, typer.Option(help="Data folder. Default: .lakehouse/demo.")] = None,
    trigger: Trigger = None,
) -> None:
    """Run the whole lakehouse on a SIMULATED market: exchange, Kafka, streams, Dagster. Ctrl-C ends everything."""
    from lakehouse.broker.ports import free_port
    from lakehouse.local_stack.child_commands import SimulatedMarket
    from lakehouse.local_stack.stack import Plan
    from lakehouse.settings import load_settings
    from lakehouse.simulator.options import SimulatorOptions, read_delisted

    chosen: dict[str, Any] = {"venues": venues, "symbols": symbols}
    if replay:
        if venues or symbols:
            raise SettingError("--replay with --venues or --symbols", "either", "the file names its venue and symbols")
        chosen = _of_recordings(replay)
    market = SimulatedMarket(free_port(), rate, tuple(replay or ()), speed, tuple(delisted or ()), moves_per_hour)
    settings = load_settings(
        home=home or _home("demo"), dagster_port=port, trigger=trigger, simulator_url=market.url, **chosen
    )
    # Raises now, before anything starts, what the simulator would refuse.
    SimulatorOptions(
        record=settings.home,
        rate=rate,
        venues=settings.venues,
        symbols=settings.symbols,
        moves_per_hour=moves_per_hour,
        speed=speed,
        delisted=read_delisted(market.delisted),
    )
    _run(Plan("demo", settings, market, minutes))


def up(
    venues: Venues = None,
    symbols: Symbols = None,
    minutes: Minutes = None,
    port: Port = None,
    home: Annotated[Path | None, typer.Option(help="Data folder. Default: .lakehouse/live.")] = None,
    trigger: Trigger = None,
) -> None:
    """Run the whole lakehouse on the LIVE venues. Ctrl-C ends everything."""
    from lakehouse.local_stack.stack import Plan
    from lakehouse.settings import load_settings

    settings = load_settings(
        home=home or _home("live"), venues=venues, symbols=symbols, dagster_port=port, trigger=trigger
    )
    if settings.simulator_url is not None:
        raise SettingError(
            f"LAKEHOUSE_SIMULATOR_URL is {settings.simulator_url}", "no simulator for live data", "unset it"
        )
    _run(Plan("live", settings, None, minutes))


def reset(
    kind: Annotated[str, typer.Argument(help="demo or live.")] = "demo",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Annotated[Path | None, typer.Option(help="Data folder. Default: .lakehouse/demo or .lakehouse/live.")] = None,
) -> None:
    """Delete everything that a lakehouse wrote into its folder. Refuses while one runs there."""
    from lakehouse.local_stack import home_folder
    from lakehouse.local_stack.processes import marked_processes

    if kind not in KINDS:
        raise SettingError(f"{kind!r}", f"one of {', '.join(KINDS)}")
    target = home or ROOT / kind
    if not (target / home_folder.KIND_FILE).is_file():
        typer.echo(f"nothing to delete: no lakehouse has run in {target}")
        return
    with home_folder.home_lock(target):
        found = home_folder.kind_of(target)
        if found != kind:
            raise SettingError(f"{target} holds {found} data", f"{kind} data", f"say `lakehouse reset {found}`")
        running = marked_processes(target)
        if running:
            raise LeaseHeldError(
                f"{len(running)} processes of {target} still run (first: {running[0].pid})", "none", "stop them first"
            )
        megabytes = home_folder.size(target) / 1e6
        if not yes:
            typer.confirm(f"Delete {megabytes:,.1f} MB of {kind} data in {target}?", abort=True)
        home_folder.empty(target)
    typer.echo(f"deleted {megabytes:,.1f} MB of {kind} data in {target}")


def env(
    home: Annotated[
        Path | None, typer.Option(help="Data folder. Default: that of the lakehouse that runs here, else the newest.")
    ] = None,
) -> None:
    """Print the variables of a lakehouse that was started, for another terminal: eval "$(lakehouse env)"."""
    from lakehouse.cli.homes import home_or_default, is_running
    from lakehouse.local_stack.home_folder import load_environment

    chosen = home_or_default(home) or _home("demo")
    variables = load_environment(chosen)
    typer.echo(f"lakehouse: {chosen}, which {'runs' if is_running(chosen) else 'does not run'}", err=True)
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _home(kind: str) -> Path:
    """LAKEHOUSE_HOME if it is set, else the folder of that kind here."""
    return Path(os.environ.get("LAKEHOUSE_HOME") or ROOT / kind)


def _of_recordings(files: list[Path]) -> dict[str, Any]:
    """Read the venues and symbols that recorded files hold."""
    from lakehouse.simulator.recorded_symbols import replay_symbols

    recorded = [replay_symbols(file) for file in files]
    symbols = dict.fromkeys(symbol for _, names in recorded for symbol in names)
    return {"venues": tuple(dict.fromkeys(venue for venue, _ in recorded)), "symbols": tuple(symbols)}


def _run(plan: Plan) -> None:
    from rich.console import Console

    from lakehouse.local_stack.stack import run

    console = Console()
    if not console.is_terminal:
        console.width = 140  # wide enough for the tables in a log file
    code = run(plan, console)
    if code:
        raise typer.Exit(code)
