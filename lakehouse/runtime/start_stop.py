"""The context manager of whatever has a `start` and a `stop`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class StartStop(ABC):
    """Base of what is started at the beginning of a `with` block and stopped at its end, whatever ended the block."""

    @abstractmethod
    def start(self) -> object:
        """Start. Leaves nothing running if it raises: `stop` is not called then."""

    @abstractmethod
    def stop(self) -> object:
        """Stop."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
