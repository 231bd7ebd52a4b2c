"""`lakehouse topics` and `lakehouse tail`: look into Kafka."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.errors import SettingError

if TYPE_CHECKING:
    from lakehouse.settings import Settings

_HOME = "Folder of the lakehouse. Default: the one that runs here, else the newest."
_BOOTSTRAP = "Kafka bootstrap servers, host:port[,host:port]. Default: those of the lakehouse."


def register(app: typer.Typer) -> None:
    """Add the commands `lakehouse topics` and `lakehouse tail` to the application."""
    app.command("topics")(topics)
    app.command("tail")(tail)


def topics(
    home: Annotated[Path | None, typer.Option(help=_HOME)] = None,
    bootstrap: Annotated[str | None, typer.Option(help=_BOOTSTRAP)] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=1024, help="First give the topic of trades so many. Kafka removes none.")
    ] = None,
) -> None:
    """Show each partition of the lakehouse's topics: its first and next offset, and how many messages it has."""
    from rich.console import Console
    from rich.table import Table

    from lakehouse.broker.topics import add_partitions, end_offsets, first_offsets

    settings = _settings(home, bootstrap)
    if partitions is not None:
        add_partitions(settings, partitions)
    firsts = first_offsets(settings.bootstrap(), settings.topics)
    ends = end_offsets(settings.bootstrap(), settings.topics)
    view = Table(show_edge=False, header_style="bold")
    for name in ("topic", "partition", "first offset", "next offset", "messages"):
        view.add_column(name, justify="left" if name == "topic" else "right")
    for topic in settings.topics:
        for partition, end in sorted(ends.get(topic, {}).items()):
            first = firsts[topic].get(partition, end)
            view.add_row(topic, str(partition), str(first), str(end), f"{end - first:,}")
    Console().print(view)


def tail(
    topic: Annotated[str, typer.Argument(help="A topic, or a part of its name: trades, rejected, feed_events.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=100_000, help="How many messages.")] = 10,
    home: Annotated[Path | None, typer.Option(help=_HOME)] = None,
    bootstrap: Annotated[str | None, typer.Option(help=_BOOTSTRAP)] = None,
) -> None:
    """Print the newest messages of a topic, the oldest first, as one JSON object per line: place, time, key, value."""
    from lakehouse.broker.newest import newest_messages
    from lakehouse.client.text import json_lines

    settings = _settings(home, bootstrap)
    name = _topic(settings, topic)
    sys.stdout.write(json_lines(newest_messages(settings.bootstrap(), name, count)))


def _settings(home: Path | None, bootstrap: str | None) -> Settings:
    from lakehouse.cli.homes import home_or_default, started_settings
    from lakehouse.settings import load_settings

    if bootstrap is not None:
        return load_settings(home=home, bootstrap_servers=bootstrap)
    return started_settings(load_settings(home=home_or_default(home)))


def _topic(settings: Settings, name: str) -> str:
    if name in settings.topics:
        return name
    short = {topic.rsplit(".", 1)[-1]: topic for topic in settings.topics}
    if name in short:
        return short[name]
    raise SettingError(f"no topic {name!r}", f"one of {', '.join((*settings.topics, *short))}")
