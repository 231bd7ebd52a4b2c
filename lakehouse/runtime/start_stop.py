"""The context manager of classes that have a `start` and a `stop`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class StartStop(ABC):
    """Base of classes that are started at the beginning of a `with` block and stopped at its end, also by an error."""

    @abstractmethod
    def start(self) -> object:
        """Start, and leave nothing running if this raises: `stop` is not called then."""

    @abstractmethod
    def stop(self) -> object:
        """Stop."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
