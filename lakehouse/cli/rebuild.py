"""`lakehouse rebuild …`: compute a layer again from the layer before it, and replace the rows that are there."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.rebuild.silver import SilverReport


def register(app: typer.Typer) -> None:
    """Add the commands `lakehouse rebuild silver` and `lakehouse rebuild gold` to the application."""
    group = typer.Typer(no_args_is_help=True, help="Compute a layer anew, in place of what is there.")
    group.command("silver")(silver)
    group.command("gold")(gold)
    app.add_typer(group, name="rebuild")


def silver(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Rebuild Silver from Bronze, by today's parser and rules, as far as its stream has read; then Gold of these days.

    Stop the streams of Silver and Gold first. Each table is replaced in one commit, so readers see either the old or
    the new table. If nothing differs, nothing is written. A rebuild that was interrupted is finished by the next one.
    """
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.rebuild.silver import rebuild_silver

    report = rebuild_silver(settings_as_started(home), typer.echo)
    for line in silver_lines(report):
        typer.echo(line)


def gold(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC.")],
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, inclusive. Default: the first.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Rebuild Gold of some days from Silver, also beside a running stream. Rows that are right are not touched."""
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.rebuild.gold import rebuild_days

    rebuild = rebuild_days(settings_as_started(home), first.date(), (last or first).date(), say=typer.echo)
    for path, rows in rebuild.rows.items():
        typer.echo(
            f"{path}: {rows.rows:,} rows, of them {rows.inserted:,} new and {rows.updated:,} changed; "
            f"{rows.deleted:,} deleted"
        )
    if rebuild.silver_version is None:
        typer.echo("neither Silver nor Gold has rows of these days: nothing to do")


def silver_lines(report: SilverReport) -> list[str]:
    """Return the report of a rebuild in lines: rows by table and quarantined messages by rule, before → after."""
    lines = [
        f"{table.table_path}: {table.before:,} → {table.after:,} rows" + ("" if table.changed else ", the same")
        for table in report.tables
    ]
    for rule in sorted({*report.rules_before, *report.rules_after}):
        before, after = report.rules_before.get(rule, 0), report.rules_after.get(rule, 0)
        lines.append(f"quarantined as {rule}: {before:,} → {after:,} messages")
    if report.identical:
        return [
            *lines,
            f"Silver is what today's rules make of Bronze up to version {report.bronze_version}: nothing written",
        ]
    return [*lines, f"Silver and Gold are rebuilt from Bronze up to version {report.bronze_version}"]
