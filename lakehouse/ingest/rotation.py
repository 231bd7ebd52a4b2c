"""Decide when one socket may take over from another. Pure: it is told the time, and reads what the two have brought."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

#: Seconds for a successor to be connected and subscribed.
SUCCESSOR_SECONDS = 20.0
#: Seconds that a subscribed successor has to bring a new trade of every symbol; then quiet symbols count as quiet.
OVERLAP_SECONDS = 5.0


class Rotation:
    """A change of sockets that was asked for. `done` is set when it is over; `problem` is empty if it succeeded."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.problem = ""

    def finish(self, problem: str) -> None:
        """Set the result and wake those who wait."""
        self.problem = problem
        self.done.set()


class Rotations:
    """The rotations that were asked for and not answered yet. Thread-safe."""

    def __init__(self) -> None:
        self._asked: list[Rotation] = []
        self._end = ""
        self._lock = threading.Lock()

    def ask(self) -> Rotation:
        """Add a rotation and return it."""
        rotation = Rotation()
        with self._lock:
            if self._end:
                rotation.finish(self._end)
            else:
                self._asked.append(rotation)
        return rotation

    def take(self) -> list[Rotation]:
        """Return all of them, for the caller to answer."""
        with self._lock:
            asked, self._asked = self._asked, []
        return asked

    def refuse(self, problem: str) -> None:
        """Tell those who asked that there will be none."""
        for rotation in self.take():
            rotation.finish(problem)

    def end(self, problem: str) -> None:
        """Refuse these, and all that are asked for from now on."""
        with self._lock:
            self._end = problem
        self.refuse(problem)

    def __bool__(self) -> bool:
        """True if there are any."""
        return bool(self._asked)


class Socket(Protocol):
    """The attributes of a socket that a trial reads."""

    @property
    def settled(self) -> bool:
        """True if the venue has answered for every symbol."""

    @property
    def ended(self) -> bool:
        """True if it is gone."""

    @property
    def error(self) -> str:
        """Reason of its end; empty if there was no error."""

    @property
    def subscribed(self) -> frozenset[str]:
        """Symbols acknowledged on it."""

    @property
    def waiting(self) -> frozenset[str]:
        """Symbols asked for on it and not acknowledged."""

    @property
    def delivered(self) -> dict[str, int]:
        """Symbol → id of the newest trade that it brought."""


class Trial:
    """A successor beside the socket that it is to replace.

    It has passed when it has brought a trade of every symbol that is newer than its subscription: from then on nothing
    can happen that only the old one is told of. A symbol of which the old one too has brought nothing newer is quiet.
    """

    def __init__(self, old: Socket, new: Socket, mark: Callable[[str], int | None]) -> None:
        self._old, self._new, self._mark = old, new, mark
        self._began: float | None = None
        self._settled: float | None = None
        self._marks: dict[str, int] = {}

    def verdict(self, now: float) -> str | None:
        """Return why the successor may not take over; empty if it may, None if that is not decided yet."""
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
