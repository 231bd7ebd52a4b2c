"""Lay a snapshot out as rich tables, for one print or a live display."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lakehouse.audit.printer import age, grid
from lakehouse.lake.batch_log import Verdict
from lakehouse.quality.model import Check, CheckResult, count_of
from lakehouse.status.snapshot import SERIES_MINUTES, Snapshot, TableStatus

_NOTHING = "–"
#: Digits of prices and volumes, so that a bar fits into 80 columns; the table has every decimal.
_SIGNIFICANT_DIGITS = 7
#: Most rules of quarantine that are named.
_RULES = 3


def render(snapshot: Snapshot) -> RenderableType:
    """Lay out a snapshot for a terminal: headline, tables, open gaps and quarantine, newest bars, newest verdicts."""
    parts: list[RenderableType] = [_headline(snapshot), _tables(snapshot), _open(snapshot)]
    parts.append(_bars(snapshot) if snapshot.bars else Text("No bars yet.", style="dim"))
    left_out = snapshot.series - len(snapshot.bars)
    if left_out > 0 and snapshot.bars:
        why = f"without a bar in the {SERIES_MINUTES} minutes before the newest, or not shown"
        parts.append(Text(f"{left_out:,} more series {why}: `gold/bars_1m` has all\n", style="yellow"))
    parts.append(_verdicts(snapshot) if snapshot.verdicts else Text("No check has been run yet.", style="dim"))
    return Group(*parts)


def render_results(results: list[tuple[Check, CheckResult]], title: str = "Checks") -> RenderableType:
    """Lay out the verdicts of checks that were just evaluated as one table: mark, table, check, sentence."""
    table = _verdict_table(title)
    for check, result in results:
        table.add_row(_mark(result.passed), check.table_path, check.name, Text(result.detail))
    return table


def _headline(snapshot: Snapshot) -> Text:
    text = Text.assemble((snapshot.home, "bold"))
    if snapshot.simulated:
        text.append("  simulated exchange", style="yellow")
    if snapshot.trades_per_second is not None:
        text.append(f"  {snapshot.trades_per_second:,.0f} trades/s", style="green")
    text.append(f"\nKafka: {snapshot.broker}", style="dim")
    text.append(f"\nAPI: {snapshot.api or 'not running; `lakehouse serve` starts it'}", style="dim")
    for work in snapshot.works:
        text.append(f"\n{work.name}: {work.state}", style="bold red" if work.by_hand else "dim")
    if snapshot.unset_sinks:
        text.append(f"\nNo sink where {' and '.join(snapshot.unset_sinks)} is not set", style="dim")
    for venue in snapshot.not_connected:
        since = _age(venue.since, snapshot)
        text.append(f"\n{venue.venue}: NOT CONNECTED for {since}, tried again: {venue.words}", style="yellow")
    for one in snapshot.not_subscribed:
        what = "refused for good" if one.is_final else "NOT SUBSCRIBED, asked again"
        since = f"{_age(one.since, snapshot)} ago"
        text.append(f"\n{one.venue} {one.symbol}: {what} ({since}): {one.words}", style="yellow")
    if not snapshot.works:
        text.append(
            "\nNo Dagster answers for this lakehouse: nothing keeps ingest and the streams running.", style="yellow"
        )
    return text


def _tables(snapshot: Snapshot) -> Table:
    table = grid("Tables", ("table",), ("rows", "version", "last commit", "behind"))
    for status in snapshot.tables:
        table.add_row(status.path, *_cells(status, snapshot))
    return table


def _open(snapshot: Snapshot) -> Text:
    """Sum up open gaps, unavailable trades and open messages in quarantine, with the most frequent rules by name."""
    gaps = "no open gap"
    if snapshot.gaps:
        gaps = f"{count_of(snapshot.gaps, 'open gap')} of {count_of(snapshot.missing, 'trade')}"
    if snapshot.unavailable:
        tries = ", ".join(
            f"{ids:,} after {count_of(number, 'answer')}" for number, ids in sorted(snapshot.unavailable.items())
        )
        gaps += f"; the venues lack {count_of(sum(snapshot.unavailable.values()), 'trade')} ({tries})"
    named = [f"{rule} {count:,}" for rule, count in list(snapshot.quarantine.items())[:_RULES]]
    if len(snapshot.quarantine) > _RULES:
        named.append("…")
    waiting = f"{sum(snapshot.quarantine.values()):,} open in quarantine" + (f" ({', '.join(named)})" if named else "")
    return Text(f"{gaps}; {waiting}\n", style="yellow" if snapshot.gaps or named else "dim")


def _age(then: datetime, snapshot: Snapshot) -> str:
    return age((snapshot.taken_at - then).total_seconds())


def _cells(status: TableStatus, snapshot: Snapshot) -> tuple[str, str, str, str]:
    if status.version is None or status.rows is None:
        return ("not yet", _NOTHING, _NOTHING, _NOTHING)
    return (
        f"{status.rows:,}",
        str(status.version),
        f"{_age(status.committed_at, snapshot)} ago" if status.committed_at else _NOTHING,
        _NOTHING if status.lag is None else count_of(status.lag, "message"),
    )


def _bars(snapshot: Snapshot) -> Table:
    date = f"{snapshot.bars[0].bar_start:%Y-%m-%d}"
    table = grid(
        f"Newest one-minute bar of each series, {date} UTC",
        ("venue", "symbol", "start"),
        ("high", "low", "close", "volume", "trades"),
    )
    for bar in snapshot.bars:
        figures = (bar.high, bar.low, bar.close, bar.volume)
        table.add_row(bar.venue, bar.symbol, f"{bar.bar_start:%H:%M}", *map(_short, figures), f"{bar.trades:,}")
    return table


def _short(value: Decimal) -> str:
    """Write a decimal with its first digits, without the trailing zeros of its column's scale."""
    text = f"{round(value, max(0, _SIGNIFICANT_DIGITS - 1 - value.adjusted())):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _verdicts(snapshot: Snapshot) -> Table:
    table = _verdict_table("Checks, last verdict")
    for verdict in snapshot.verdicts:
        when = f"{_age(verdict.evaluated_at, snapshot)} ago"
        sentence = Text(f"{_sentence(verdict)} ").append(f"({when})", style="dim")
        table.add_row(_mark(verdict.passed), verdict.table_path, verdict.check_name, sentence)
    return table


def _verdict_table(title: str) -> Table:
    table = grid(title, ("", "table", "check"))
    table.add_column("what it found")
    return table


def _mark(passed: bool) -> Text:
    return Text("ok", style="green") if passed else Text("FAILED", style="bold red")


def _sentence(verdict: Verdict) -> str:
    """Read the sentence in a verdict's JSON; the text itself if it has none."""
    try:
        return str(json.loads(verdict.detail)["sentence"])
    except (ValueError, KeyError, TypeError):
        return verdict.detail
