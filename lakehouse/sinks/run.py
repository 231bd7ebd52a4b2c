"""Keep a sink up to date until it is told to stop, through outages of its store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from lakehouse.errors import RetriableError

#: Seconds between two looks at Gold, and the longest wait after the store did not answer.
LOOK_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0


class Held(NamedTuple):
    """Version of a table that a store holds, by its own record, and Delta's id of that table."""

    table_id: str
    version: int


class Sink(Protocol):
    """A store that follows Gold. A context manager. Every method raises RetriableError in an outage of the store."""

    #: Seconds between two looks.
    every: float

    def look(self) -> dict[str, int]:
        """Bring the store to Gold's newest version.

        Returns size of bars → rows read or changed, for the sizes that changed. Raises TerminalError if the store
        refuses.
        """

    def held(self) -> Mapping[str, Held]:
        """Return what the store holds, by size of bars; a size of which it holds nothing is left out."""

    def rows(self) -> int:
        """Return the number of bars in the store."""

    def trouble(self) -> str:
        """Return what the sink lacks although its store answers, such as Kafka; empty if nothing."""

    def lacks(self, seconds: float) -> str:
        """Wait at most `seconds` until what the sink reads beside Gold has been read; return why not, or empty text."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, *_: object) -> None: ...


class Follower:
    """Looks at Gold for one sink. `say` gets a line when an outage of the store begins, changes its cause, or ends."""

    def __init__(self, sink: Sink, say: Callable[[str], None]) -> None:
        self._sink = sink
        self._say = say
        #: Why the store does not answer; empty if it does.
        self.outage = ""
        self._cause = ""
        #: Seconds to wait until the next look: in an outage they double, up to LONGEST_WAIT_SECONDS.
        self.wait = sink.every

    def look(self) -> dict[str, int]:
        """Call the sink's `look` and return its result, empty in an outage; set `outage` and `wait` by it.

        Raises TerminalError if the store refuses.
        """
        try:
            done = self._sink.look()
        except RetriableError as error:
            cause = error.found.partition(" (")[0]  # without the driver's words, which differ from try to try
            if cause != self._cause:
                self._say(f"{error}; trying again until it does")
            self._cause = cause
            self.outage, self.wait = str(error), min(max(2 * self.wait, LOOK_SECONDS), LONGEST_WAIT_SECONDS)
            return {}
        if self.outage:
            self._say("answers again")
        self.outage, self._cause, self.wait = "", "", self._sink.every
        return done


def follow(sink: Sink, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Look at Gold repeatedly until `stop` is set; `say` gets a line for each change and each outage.

    Raises TerminalError if the store refuses.
    """
    follower = Follower(sink, say)
    while True:
        done = follower.look()
        if done:
            say(", ".join(f"{size}: {rows:,} rows" for size, rows in done.items()))
        if stop.wait(follower.wait):
            return
