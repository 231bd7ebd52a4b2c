"""A feed as the looks at its quiet symbols see it (`looks.Watched`). Called by the repair's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lakehouse.ingest.sequencer import Flows
from lakehouse.ingest.subscriptions import Subscriptions
from lakehouse.ingest.venue_socket import Line

_log = logging.getLogger(__name__)


class WatchedFeed:
    """`lines` gives the sockets that are open now; `on_silent` and `on_refusal` tell the feed."""

    def __init__(
        self,
        venue: str,
        subscriptions: Subscriptions,
        flows: Flows,
        lines: Callable[[], Sequence[Line]],
        on_silent: Callable[[str], None],
        on_refusal: Callable[[], None],
    ) -> None:
        self._venue = venue
        self._subscriptions = subscriptions
        self._flows = flows
        self._lines = lines
        self._on_silent = on_silent
        self._on_refusal = on_refusal
        self._connection_id = f"{venue}-look"

    @property
    def wanted(self) -> tuple[str, ...]:
        return self._subscriptions.wanted

    def exists(self, symbol: str) -> bool:
        """Whether the venue has shown that it has it. Binance acknowledges any name, which shows nothing."""
        shared = self._subscriptions
        return symbol in shared.listed or symbol in shared.in_history or self.received(symbol) > 0

    def received(self, symbol: str) -> int:
        return self._flows.of(symbol).counters.produced

    def subscribed_since(self, symbol: str) -> float | None:
        return max((since for line in self._lines() if (since := line.since.get(symbol)) is not None), default=None)

    def mark(self, symbol: str) -> int | None:
        return self._flows.of(symbol).continuity.mark

    def look(self, symbol: str, newest_id: int | None) -> bool:
        self._subscriptions.found(symbol)
        return newest_id is not None and self._flows.look(symbol, newest_id, self._connection_id)

    def silent(self, symbol: str) -> None:
        lines = self._lines()
        connection_id = lines[0].connection_id if lines else self._connection_id
        detail = "subscribed and silent: the REST history moves on, and nothing comes"
        self._flows.event("stale", connection_id, symbol, detail=detail)
        self._on_silent(symbol)

    def unlisted(self, symbol: str, words: str) -> None:
        if symbol in self._subscriptions.listed or self.received(symbol):
            # The socket knows better. REST cannot repair a symbol that it does not know, so that is told.
            _log.warning("REST of %s does not know %s, which is subscribed: %s", self._venue, symbol, words)
            self._flows.event("venue_error", self._connection_id, symbol, detail=f"REST: {words}")
        elif self._subscriptions.refuse(symbol, words):
            _log.warning("%s refused %s: %s", self._venue, symbol, words)
            self._flows.event("subscription_refused", self._connection_id, symbol, detail=words)
            self._on_refusal()
