"""`lakehouse repair`: repair the gaps of the ledger once, without Dagster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.errors import RetriableError, SettingError

if TYPE_CHECKING:
    from lakehouse.repair.run import RepairReport


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse repair` to the application."""
    app.command("repair")(repair)


def repair(
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Only gaps open for so many seconds. Default: 120; the young are ingest's."),
    ] = None,
    unavailable: Annotated[
        bool,
        typer.Option(
            "--unavailable",
            help="Ask again for all trade ids that the venues have shown not to have. Default: those that are due, "
            "minutes and an hour after they were missed.",
        ),
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Fetch the trades of open gaps over the venues' REST history, and ask again for what the venues lacked.

    Exit code 0 if no gap is left open, else 75. Without Dagster nothing else asks again.
    """
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.continuity.gaps import MOST_AGAIN, gaps_to_repair, open_gaps, unavailable_gaps
    from lakehouse.repair.run import ids_still_open, repair_gaps

    settings = settings_as_started(home)
    if home is None:
        typer.echo(f"lakehouse: {settings.home}", err=True)
    if settings.is_simulated and settings.simulator_url is None:
        raise SettingError(
            f"the trades in {settings.home} are simulated, and no simulator is known",
            "LAKEHOUSE_SIMULATOR_URL, so that no live venue is asked for them",
            'say eval "$(lakehouse env)"',
        )
    after = settings.repair_after_seconds if older_than is None else older_than
    gaps = gaps_to_repair(settings, after, unavailable)
    young = [gap for gap in open_gaps(settings) if gap not in gaps]
    others = max(0, len(unavailable_gaps(settings)) - MOST_AGAIN) if unavailable else 0
    report = repair_gaps(settings, gaps)
    for line in lines(report):
        typer.echo(line)
    if others:
        typer.echo(f"{others:,} more unavailable ranges were not asked for: say `lakehouse repair --unavailable` again")
    if not report.done:
        left = max(report.left, report.still_open or 0)
        raise RetriableError(f"{left:,} trade ids are still missing", "none", "try again later")
    younger = ids_still_open(young, open_gaps(settings)) if young else 0
    if younger:
        raise RetriableError(
            f"{younger:,} trade ids are missing for less than {after:g} s", "none", "a running ingest repairs them"
        )


def lines(report: RepairReport) -> list[str]:
    """Return the report in lines for people: the gaps, what became of their ids, how many the ledger holds open."""
    if not report.gaps:
        return ["no open gap to repair"]
    again = f", {report.again:,} of them unavailable before" if report.again else ""
    done = (
        f"{report.gaps:,} gaps of {report.ids:,} trade ids{again}: {report.repaired:,} repaired, "
        f"{report.unavailable:,} unavailable upstream, {report.left:,} left; {report.requests:,} requests"
    )
    if report.still_open is None:
        return [done, "no Silver stream runs: the next one closes them in silver/continuity"]
    return [done, f"silver/continuity holds {report.still_open:,} of them open"]
