"""`lakehouse replay`: judge open messages in quarantine again after a fix, or dismiss them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.replay.run import ReplayReport, RuleReport
    from lakehouse.replay.settle import Dismissal


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse replay` to the application."""
    app.command("replay")(replay)


def replay(
    rule: Annotated[
        str | None, typer.Option(help="Only messages that failed this rule. Default: all rules but `conflict`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and count, send nothing.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Settle so many messages at most.")] = None,
    dismiss: Annotated[
        bool,
        typer.Option(
            "--dismiss",
            help="Settle the open messages of --rule as they are: you have looked, and nothing is to be done. "
            "They stay in quarantine and are no longer open.",
        ),
    ] = False,
    venue: Annotated[str | None, typer.Option(help="With --dismiss: only messages of this venue.")] = None,
    reason: Annotated[str | None, typer.Option(help="With --dismiss: why, kept in ops/replays.")] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Judge quarantined messages again with today's rules; what is good now goes to Kafka once more."""
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.errors import SettingError

    if dismiss:
        from lakehouse.replay.settle import dismiss as settle

        if rule is None:
            raise SettingError("--dismiss without a rule", "--rule RULE; `lakehouse status` shows what is open")
        if limit is not None:
            raise SettingError("--limit with --dismiss", "--venue, or neither: --dismiss takes all that is open")
        typer.echo(dismissal_line(settle(settings_as_started(home), rule, venue, reason, dry_run)))
        return
    if venue is not None or reason is not None:
        raise SettingError(f"{'--venue' if venue is not None else '--reason'} without --dismiss", "both or neither")
    from lakehouse.replay.run import replay as run

    for line in lines(run(settings_as_started(home), rule, dry_run, limit)):
        typer.echo(line)


def dismissal_line(done: Dismissal) -> str:
    """Return one line for people: how many messages of a rule were dismissed, or that none is open."""
    of = done.rule if done.venue is None else f"{done.rule} of {done.venue}"
    if not done.messages:
        return f"{of}: nothing is open in quarantine"
    return f"{of}: {done.messages:,} {'would be ' if done.dry else ''}dismissed"


def lines(report: ReplayReport) -> list[str]:
    """Return the report of a replay in lines: one for each rule, why its first message stays if one does, the total."""
    if not report.rules:
        return ["nothing is open in quarantine"]
    sent = "would be sent" if report.dry else "sent"
    would = "would be " if report.dry else ""
    total = f"{report.settled:,} messages {would}settled, {report.trades:,} trades {sent}"
    return [*(line for rule in report.rules.values() for line in _lines(rule, sent)), total]


def _lines(rule: RuleReport, sent: str) -> list[str]:
    parts = [
        f"{rule.rule}: {rule.open:,} open",
        f"{rule.sent:,} {sent}",
        f"{rule.noise:,} noise",
        f"{rule.bad:,} still bad",
    ]
    if rule.alone:
        parts.append(
            f"{rule.alone:,} of them not by a slow clock: the other trades of that minute are not in the future "
            "(--dismiss settles them; LAKEHOUSE_FUTURE_TOLERANCE_SECONDS takes them with their wrong time)"
        )
    if rule.unseen:
        parts.append(f"{rule.unseen:,} not looked at")
    return [", ".join(parts), *([f"  the first that stays: {rule.detail}"] if rule.detail else [])]
