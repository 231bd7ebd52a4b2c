"""Base of the walks of venues whose REST history is asked for by trade id."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lakehouse.exchanges.history import PAGE_TRADES, Page, Reply, Request, Row, Walk


class IdWalk(Walk, ABC):
    """Base of the walks that ask for trades by id. Subclasses also ask for the newest trade, and read its reply."""

    def __init__(self, symbol: str, native: str, first_id: int, last_id: int, page: int = PAGE_TRADES) -> None:
        super().__init__(first_id, last_id)
        self._symbol = symbol
        self._native = native
        self._page = page

    @abstractmethod
    def request(self) -> Request | None:
        """See `History.request`."""

    @abstractmethod
    def take(self, reply: Reply) -> Page:
        """See `History.take`."""

    @staticmethod
    @abstractmethod
    def newest(native: str) -> Request:
        """Return the request for the newest trade of a symbol, by its native name."""

    @staticmethod
    @abstractmethod
    def read(reply: Reply, symbol: str | None, native: str) -> list[Row]:
        """Return the rows of a reply. Raises like `History.take`.

        `symbol` is the canonical one, for the rows and the error; None if the caller does not know it.
        """
