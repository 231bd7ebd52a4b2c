"""`lakehouse doctor`: say what this machine has and lacks, and what to do. Downloads and starts nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings, load_settings

Verdict = Literal["ok", "note", "missing"]
#: Verdict → its colour in the table.
STYLES: dict[Verdict, str] = {"ok": "green", "note": "yellow", "missing": "bold red"}

#: Bytes of a gigabyte.
GIGABYTE = 1e9
#: Free bytes for the home. With less than the first, Kafka and Spark soon fail; with less than the second, a day of
#: trades may not fit.
DISK_NEEDED, DISK_ADVISED = 1 * GIGABYTE, 5 * GIGABYTE
#: Available bytes of memory. The broker takes 0.3 GB, the Spark driver 1.5 GB, Dagster's processes 1 GB.
MEMORY_NEEDED, MEMORY_ADVISED = 2 * GIGABYTE, 4 * GIGABYTE
#: Seconds that a broker has to answer.
BROKER_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked at, the verdict, what was found, what to do.

    The verdict `missing` makes the exit code 1; `note` does not.
    """

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse doctor` to the application."""
    app.command("doctor")(doctor)


def doctor(
    home: Annotated[
        Path | None, typer.Option(help="Data folder to look at. Default: the one that runs here, else the newest.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port for Dagster's UI.")] = None,
) -> None:
    """Say what this machine has and lacks. Exit code 1 if something required is missing."""
    from lakehouse.cli.homes import home_or_default, started_settings

    settings = started_settings(load_settings(home=home_or_default(home)))
    if port is not None:
        settings = settings.model_copy(update={"dagster_port": port})
    findings = list(examine(settings))
    _print(findings)
    if any(finding.verdict == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at Python, Java, jars, folder, disk, memory, ports and Kafka, and yield a finding for each.

    The findings come in the order in which a person would repair them.
    """
    yield _python()
    yield _java()
    yield from _jars()
    yield _home(settings)
    yield _disk(settings)
    yield _memory()
    yield from _ports(settings)
    yield _broker(settings)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(verdict, finding.what, Text(finding.found), Text(finding.remedy))
    # Into a pipe each finding stays one line.
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        return Finding("Python", "ok", found)
    return Finding("Python", "missing", f"{found}; expected 3.11 to 3.14", "make the virtual environment with 3.13")


def _java() -> Finding:
    from lakehouse.runtime.java import find_java, probe

    try:
        java = probe(find_java(for_spark=True, download=False))
    except LakehouseError as error:
        return Finding("Java", "missing", f"{error.found}; expected {error.expected}", error.remedy)
    return Finding("Java", "ok", f"{java.version} at {java.home}" if java else "?")


def _jars() -> Iterator[Finding]:
    from lakehouse.runtime import jars

    for name in ("spark", "broker"):
        jar_set: jars.JarSet = "spark" if name == "spark" else "broker"
        if jars.is_ready(jar_set):
            yield Finding(f"jars: {name}", "ok", str(jars.jars_folder() / name))
        elif jars.is_given():
            remedy = f"python -m lakehouse.runtime.jars --to {jars.jars_folder()}, or unset LAKEHOUSE_JARS"
            yield Finding(f"jars: {name}", "missing", f"not all in LAKEHOUSE_JARS={jars.jars_folder()}", remedy)
        else:
            yield Finding(
                f"jars: {name}",
                "note",
                "not fetched yet",
                "first use fetches them, or python -m lakehouse.runtime.jars",
            )


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _home(settings: Settings) -> Finding:
    folder = _existing(settings.home)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("home", "missing", f"cannot write {folder} ({error.strerror})", "choose another --home")
    made = "" if folder == settings.home.absolute() else ", will be made"
    return Finding("home", "ok", f"{settings.home.absolute()}, writable{made}")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.home)).free
    return _amount("disk free", free, DISK_NEEDED, DISK_ADVISED, "free some or choose a --home on another disk")


def _memory() -> Finding:
    import psutil

    available = psutil.virtual_memory().available
    return _amount("memory available", available, MEMORY_NEEDED, MEMORY_ADVISED, "end other programs")


def _amount(what: str, found: float, needed: float, advised: float, remedy: str) -> Finding:
    text = f"{found / GIGABYTE:.1f} GB"
    if found >= advised:
        return Finding(what, "ok", text)
    verdict: Verdict = "note" if found >= needed else "missing"
    wanted = advised if verdict == "note" else needed
    return Finding(what, verdict, f"{text}; {wanted / GIGABYTE:.0f} GB or more serve better", remedy)


def _ports(settings: Settings) -> Iterator[Finding]:
    from lakehouse.broker.ports import holder, is_free

    wanted = {"Dagster": (settings.dagster_port, "LAKEHOUSE_DAGSTER_PORT")}
    if settings.broker_port is not None and settings.bootstrap_servers is None:
        wanted["broker"] = (settings.broker_port, "LAKEHOUSE_BROKER_PORT")
    for name, (port, variable) in wanted.items():
        what = f"port {port} ({name})"
        if is_free(port):
            yield Finding(what, "ok", "free")
        else:
            by = holder(port)
            found = f"in use{f' by {by}' if by else ''}"
            yield Finding(what, "note", found, f"fine if that is this lakehouse; else end it or set {variable}")


def _broker(settings: Settings) -> Finding:
    from lakehouse.broker.topics import cluster_id

    if settings.bootstrap_servers is None and not (settings.broker_home / "endpoint").exists():
        return Finding("Kafka", "ok", "embedded, not running; starts with the lakehouse")
    bootstrap = settings.bootstrap()
    if cluster_id(bootstrap, BROKER_SECONDS) is not None:
        return Finding("Kafka", "ok", f"answers at {bootstrap}")
    if settings.bootstrap_servers is None:
        return Finding("Kafka", "note", f"embedded, killed (was at {bootstrap})", "the next start repairs it")
    return Finding(
        "Kafka",
        "missing",
        f"no answer at {bootstrap} within {BROKER_SECONDS:g} s",
        "start it or correct LAKEHOUSE_BOOTSTRAP_SERVERS",
    )
