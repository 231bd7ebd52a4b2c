"""Write runs as tables for people (terminal, Markdown) and as JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Row, Run, Spread, rows

HEADERS = (
    "Peer",
    "Trades/s, median (min–max)",
    "Ours / peer, median (min–max)",
    "CPU µs a trade",
    "Peak RSS, GB",
    "Silver, rows off",
    "Bars, trades off",
)


def cells(row: Row, all_messages: int) -> tuple[str, ...]:
    """One line of the table; it says if a peer got only a part of the topic."""
    name = row.peer if row.messages == all_messages else f"{row.peer} (first {row.messages:,})"
    if row.rate is None:
        return (name, f"failed: {row.error}", "", "", f"{row.peak_rss / 1e9:.2f}", "", "")
    return (
        name + (f" (failed once: {row.error})" if row.error else ""),
        spread_text(row.rate, ",.0f"),
        spread_text(row.ratio, ".2f"),
        "" if row.cpu_microseconds is None else f"{row.cpu_microseconds.median:,.1f}",
        f"{row.peak_rss / 1e9:.2f}",
        row.silver,
        row.bars,
    )


def spread_text(spread: Spread | None, form: str) -> str:
    """`median (least–greatest)`, each formatted by `form`; one value stands alone."""
    if spread is None:
        return ""
    if spread.runs == 1:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.least:{form}}–{spread.greatest:{form}})"


def show(lines: Sequence[Sequence[str]], headers: Sequence[str], title: str) -> None:
    """Print a table on the terminal, as wide as needed."""
    table = Table(*headers, title=title, title_justify="left")
    for line in lines:
        table.add_row(*line)
    Console(width=200).print(table)


def comparison(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The cells of all peers."""
    most = max(run.messages for run in runs)
    return [cells(row, most) for row in rows(runs)]


def markdown(lines: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table."""
    head = [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers)]
    return "\n".join(head + [f"| {' | '.join(line)} |" for line in lines])


def write_runs(folder: Path, about: dict[str, Any], runs: Sequence[Run]) -> None:
    """Write results.json (with `about`: machine, versions, arguments) and results.csv, one line per run."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [asdict(run) | {"trades_per_second": run.rate} for run in runs]
    write_records(folder, about, records)


def write_records(folder: Path, about: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
    """Do the same for records of any form; the first record defines the columns."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"about": about, "runs": records}, indent=1), encoding="utf-8")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def replace_block(document: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- name -->` and `<!-- /name -->`. Raises ValueError if there are no such marks."""
    old = document.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if old.count(begin) != 1 or old.count(end) != 1:
        raise ValueError(f"{document.name} has no block {begin} … {end}")
    head, rest = old.split(begin)
    tail = rest.split(end)[1]
    document.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}", encoding="utf-8")
