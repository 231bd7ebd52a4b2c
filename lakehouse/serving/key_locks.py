"""Locks by key, for what several threads may ask for at once and one should read."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class KeyLocks:
    """A lock for each key that some thread holds or waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, threading.Lock] = {}

    @contextmanager
    def hold(self, key: Hashable) -> Iterator[None]:
        """Hold the lock of a key while the block runs; wait for the thread that holds it."""
        with self._lock:
            mine = self._held.setdefault(key, threading.Lock())
        try:
            with mine:
                yield
        finally:
            with self._lock:
                self._held.pop(key, None)
