"""Show a running lakehouse: a live screen on a terminal, else a plain line every ten seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from lakehouse.local_stack.memory import Memory
from lakehouse.settings import Settings
from lakehouse.status.snapshot import Snapshot
from lakehouse.status.view import render

#: Seconds between two plain lines if standard output is no terminal.
PLAIN_SECONDS = 10.0
#: Redraws of the screen per second; the figures change every two seconds.
REFRESH = 2
#: Bytes of a gigabyte.
GIGABYTE = 1e9


@dataclass
class View:
    """Content of the display, written by `stack.run` and its threads.

    `started` is a monotonic time in seconds, `states` maps each part to its state in a word, `snapshot` is None before
    the first look at the lake, and `first_bar_seconds` is the time from the start to the first bars, None until then.
    """

    settings: Settings
    started: float = field(default_factory=time.monotonic)
    states: dict[str, str] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    snapshot: Snapshot | None = None
    first_bar_seconds: float | None = None
    activity: str = "starting"

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.settings.dagster_port}"

    @property
    def api(self) -> str:
        return self.settings.api_url

    @property
    def simulated(self) -> bool:
        return self.settings.simulator_url is not None


class Display:
    """The live screen on a terminal, else plain lines instead; both show one View."""

    def __init__(self, console: Console, view: View) -> None:
        self._console = console
        self._view = view
        self._live = Live(console=console, get_renderable=self._screen, refresh_per_second=REFRESH, transient=True)
        self._next_line = 0.0

    @contextlib.contextmanager
    def on_screen(self) -> Iterator[None]:
        """Show the live screen while the block runs, if the console is a terminal; else only run the block."""
        try:
            if self._console.is_terminal:
                self._live.start()
            yield
        finally:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print one line that stays, above the live screen."""
        self._console.print(Text(f"[{elapsed(self._view)}] {line}"), soft_wrap=True)

    def tick(self) -> None:
        """Print a plain line if there is no screen and the last one is PLAIN_SECONDS old."""
        now = time.monotonic()
        if not self._console.is_terminal and now >= self._next_line:
            self._next_line = now + PLAIN_SECONDS
            self.say(plain_line(self._view))

    def _screen(self) -> RenderableType:
        view = self._view
        parts: list[RenderableType] = [headline(view), _parts_line(view)]
        parts.append(render(view.snapshot) if view.snapshot is not None else Text("No table yet.", style="dim"))
        parts.append(Text("Ctrl-C stops everything; a second one at once.", style="dim"))
        return Group(*parts)


def elapsed(view: View) -> str:
    """Return the time since the start of the lakehouse as minutes and seconds: `1:05`, `75:00`."""
    minutes, seconds = divmod(int(time.monotonic() - view.started), 60)
    return f"{minutes}:{seconds:02d}"


def headline(view: View) -> Text:
    """Return the first line of the screen: simulated or live, the venues if live, the UI's and the API's addresses."""
    text = Text()
    if view.simulated:
        text.append(" SIMULATED MARKET ", style="black on yellow")
        text.append(" an exchange on this machine, not real trades   ", style="yellow")
    else:
        text.append(" LIVE ", style="black on green")
        text.append(f" {', '.join(view.settings.venues)}   ")
    text.append("Dagster UI ").append(view.ui, style="bold underline")
    text.append("   API ").append(view.api, style="bold underline")
    return text


def plain_line(view: View) -> str:
    """Sum up the view in one line without colours: trades/s, rows, lags, newest bar, troubles, memory."""
    label = "SIMULATED" if view.simulated else "LIVE"
    parts = [f"{label} {view.activity}"]
    snapshot = view.snapshot
    if snapshot is not None:
        if snapshot.trades_per_second is not None:
            parts.append(f"{snapshot.trades_per_second:,.0f} trades/s")
        rows = [f"{table.path} {table.rows:,}" for table in snapshot.tables if table.rows]
        parts.append("rows: " + (", ".join(rows) or "none yet"))
        behind = [f"{table.path} {table.lag:,}" for table in snapshot.tables if table.lag is not None]
        if behind:
            parts.append("behind: " + ", ".join(behind))
        if snapshot.bars:
            bar = snapshot.bars[0]
            parts.append(f"latest bar: {bar.venue} {bar.symbol} {bar.bar_start:%H:%M} close {bar.close.normalize():f}")
        parts += [f"{one.venue} NOT CONNECTED" for one in snapshot.not_connected]
        parts += [f"{one.venue} {one.symbol} NOT SUBSCRIBED" for one in snapshot.not_subscribed if not one.is_final]
        parts += [f"{work.name} {work.state}" for work in snapshot.works if work.by_hand]
    not_up = [f"{name} {state}" for name, state in view.states.items() if state != "up"]
    if not_up:
        parts.append(", ".join(not_up))
    parts.append(f"memory {view.memory.rss / GIGABYTE:.2f} GB")
    return "; ".join(parts)


def _parts_line(view: View) -> Text:
    text = Text(f"{elapsed(view)}  {view.activity}   ")
    for name, state in view.states.items():
        text.append(f"{name} ", style="dim").append(f"{state}  ", style="green" if state == "up" else "yellow")
    if view.first_bar_seconds is not None:
        text.append(f" first bars after {view.first_bar_seconds:.0f} s ", style="dim")
    memory = view.memory
    text.append(f" memory {memory.rss / GIGABYTE:.2f} GB in {memory.processes} processes", style="dim")
    return text
