"""`lakehouse replay`: what is open in quarantine, judged again after a fix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.replay.run import ReplayReport, RuleReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    rule: Annotated[
        str | None, typer.Option(help="Only messages that failed this rule. Default: all rules but `conflict`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and count, send nothing.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Settle so many messages at most.")] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lake. Default: the newest lake under .lakehouse.")
    ] = None,
) -> None:
    """Judge quarantined messages again with today's rules; what is good now goes to Kafka once more."""
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.replay.run import replay as run

    report = run(settings_as_started(home), rule, dry_run, limit)
    for line in lines(report):
        typer.echo(line)


def lines(report: ReplayReport) -> list[str]:
    """One line a rule, and one for all."""
    if not report.rules:
        return ["nothing is open in quarantine"]
    sent = "would be sent" if report.dry else "sent"
    would = "would be " if report.dry else ""
    total = f"{report.settled:,} messages {would}settled, {report.trades:,} trades {sent}"
    return [*(_line(rule, sent) for rule in report.rules.values()), total]


def _line(rule: RuleReport, sent: str) -> str:
    parts = [
        f"{rule.rule}: {rule.open:,} open",
        f"{rule.sent:,} {sent}",
        f"{rule.noise:,} noise",
        f"{rule.bad:,} still bad",
    ]
    if rule.unseen:
        parts.append(f"{rule.unseen:,} not looked at")
    return ", ".join(parts)
