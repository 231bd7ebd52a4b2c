"""The symbols that a feed wants from its venue, and the venue's answers. `subscribing` sends the requests."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class Subscriptions:
    """The canonical symbols that one feed wants, and the venue's answers about each, over all its connections.

    Thread-safe.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self.refused: dict[str, str] = {}  #: symbol that the venue does not list → its words; not asked for again
        self.unsubscribed: dict[str, str] = {}  #: wanted symbol reported as not subscribed → why; asked for again
        self.listed: frozenset[str] = frozenset()  #: symbols that the venue has acknowledged by name, so it lists them
        self.in_history: frozenset[str] = frozenset()  #: symbols that the venue's REST API knows
        self.apart: tuple[tuple[str, ...], ...] = ()  #: groups of symbols to be requested apart from the others
        self._lock = threading.Lock()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The symbols that the venue has not refused for good."""
        return tuple(symbol for symbol in self.symbols if symbol not in self.refused)

    def refuse(self, symbol: str, words: str) -> bool:
        """Take note that the venue does not list a symbol; `words` is its message. Return False if this was known."""
        with self._lock:
            if symbol in self.refused:
                return False
            self.refused = {**self.refused, symbol: words}
            self.unsubscribed = _without(self.unsubscribed, symbol)
            return True

    def miss(self, symbol: str, words: str) -> bool:
        """Take note that a symbol is not subscribed, for the reason `words`, and will be asked for again.

        Returns False if this was known already, or if the venue has refused the symbol for good.
        """
        with self._lock:
            if symbol in self.refused or symbol in self.unsubscribed:
                return False
            self.unsubscribed = {**self.unsubscribed, symbol: words}
            return True

    def take(self, symbol: str, is_listed: bool) -> None:
        """Take note that a symbol is subscribed; with `is_listed`, this proves that the venue lists it."""
        with self._lock:
            self.unsubscribed = _without(self.unsubscribed, symbol)
            if is_listed:
                self.listed |= {symbol}

    def found(self, symbol: str) -> None:
        """Take note that the venue's REST API knows a symbol, which proves that the venue lists it."""
        with self._lock:
            self.in_history |= {symbol}


def _without(words: dict[str, str], symbol: str) -> dict[str, str]:
    return {key: value for key, value in words.items() if key != symbol}
