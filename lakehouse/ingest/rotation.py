"""Rotations: requests to replace a venue's socket, and the decision on when the new socket may take over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

#: Most seconds for a successor to be connected and subscribed.
SUCCESSOR_SECONDS = 20.0
#: Seconds for a subscribed successor to bring a new trade of every symbol; a symbol that then neither socket has
#: brought counts as quiet.
OVERLAP_SECONDS = 5.0


class Rotation:
    """A request to replace a feed's socket, and its outcome: `done` is set when it is over.

    `problem` says why it failed; empty if it succeeded.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self.problem = ""

    def finish(self, problem: str) -> None:
        """Set the outcome (empty: success) and wake the threads that wait for `done`."""
        self.problem = problem
        self.done.set()


class Rotations:
    """The requests to replace a feed's socket (rotations) that have not begun yet. Thread-safe."""

    def __init__(self) -> None:
        self._asked: list[Rotation] = []
        self._end = ""
        self._lock = threading.Lock()

    def ask(self) -> Rotation:
        """Add a request to replace the feed's socket and return it. After `end`, return a request that has failed."""
        rotation = Rotation()
        with self._lock:
            if self._end:
                rotation.finish(self._end)
            else:
                self._asked.append(rotation)
        return rotation

    def take(self) -> list[Rotation]:
        """Remove and return all waiting requests; the caller replaces the socket, then calls `finish` on each."""
        with self._lock:
            asked, self._asked = self._asked, []
        return asked

    def refuse(self, problem: str) -> None:
        """Finish all waiting requests for a new socket as failed, because of `problem`."""
        for rotation in self.take():
            rotation.finish(problem)

    def end(self, problem: str) -> None:
        """Finish all waiting requests for a new socket, and all later ones, as failed because of `problem`."""
        with self._lock:
            self._end = problem
        self.refuse(problem)

    def __bool__(self) -> bool:
        """True if any request for a new socket waits."""
        return bool(self._asked)


class Socket(Protocol):
    """The part of a socket (`VenueSocket`) that a `Trial` reads."""

    @property
    def settled(self) -> bool:
        """True if every symbol was acknowledged on this socket, or a request for it was refused or not answered."""

    @property
    def ended(self) -> bool:
        """True if the socket has closed and its thread ended."""

    @property
    def error(self) -> str:
        """Why the socket ended, or the venue's last error message; empty if there was no error."""

    @property
    def subscribed(self) -> frozenset[str]:
        """The symbols whose subscription the venue has acknowledged on this socket."""

    @property
    def waiting(self) -> frozenset[str]:
        """The symbols that are wanted on this socket and not acknowledged."""

    @property
    def delivered(self) -> dict[str, int]:
        """Symbol → id of the newest trade that this socket brought."""


class Trial:
    """Judges a successor that runs beside the socket that it will replace. No I/O; callers pass the time.

    The successor passes once it has brought, for every symbol, a trade newer than its subscription: from then on the
    old socket gets no trade that the new one does not get. If neither socket has brought a newer trade of a symbol, the
    symbol counts as quiet. `mark` gives a symbol's highest known trade id, None if there is none.
    """

    def __init__(self, old: Socket, new: Socket, mark: Callable[[str], int | None]) -> None:
        self._old, self._new, self._mark = old, new, mark
        self._began: float | None = None
        self._settled: float | None = None
        self._marks: dict[str, int] = {}

    def verdict(self, now: float) -> str | None:
        """Return why the successor may not take over; empty if it may, None if undecided. `now`: monotonic seconds."""
        old, new = self._old, self._new
        self._began = now if self._began is None else self._began
        if new.ended:
            return new.error or "the successor ended"
        if old.ended:
            return ""
        if self._settled is None:
            # A symbol that the venue refuses on both sockets speaks against neither.
            if not new.settled or not old.subscribed.isdisjoint(new.waiting):
                late = now >= self._began + SUCCESSOR_SECONDS
                return f"the successor was not subscribed within {SUCCESSOR_SECONDS:g} s" if late else None
            self._settled = now
            self._marks = {symbol: mark for symbol in new.subscribed if (mark := self._mark(symbol)) is not None}
        waiting = [symbol for symbol in new.subscribed if not self._has_passed(new, symbol)]
        if not waiting:
            return ""
        if now < self._settled + OVERLAP_SECONDS:
            return None
        silent = [symbol for symbol in waiting if self._has_passed(old, symbol)]
        return f"the successor brought no trade of {', '.join(sorted(silent))}" if silent else ""

    def _has_passed(self, socket: Socket, symbol: str) -> bool:
        return socket.delivered.get(symbol, -1) > self._marks.get(symbol, -1)
