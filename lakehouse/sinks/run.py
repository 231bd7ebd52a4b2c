"""Keep a sink up to date until it is told to stop, through outages of its store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from lakehouse.errors import RetriableError

#: Seconds between two looks at Gold, and the longest wait after the store did not answer.
LOOK_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0


class Sink(Protocol):
    """A store that follows Gold."""

    def look(self) -> dict[str, int]:
        """Bring the store to Gold's newest version; table or size → rows read. Raises RetriableError in an outage."""


def follow(sink: Sink, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Look every LOOK_SECONDS until `stop` is set; `say` gets a line for each change and each outage.

    After an outage the wait doubles up to LONGEST_WAIT_SECONDS. Raises TerminalError if the store refuses.
    """
    wait, is_down = LOOK_SECONDS, False
    while True:
        try:
            done = sink.look()
        except RetriableError as error:
            if not is_down:
                say(f"{error}; trying again until it does")
            is_down, wait = True, min(2 * wait, LONGEST_WAIT_SECONDS)
        else:
            if is_down:
                say("answers again")
            is_down, wait = False, LOOK_SECONDS
            if done:
                say(", ".join(f"{name}: {rows:,} rows read" for name, rows in done.items()))
        if stop.wait(wait):
            return
