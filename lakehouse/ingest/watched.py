"""The interface between a feed and the silence probe, which watches its quiet symbols (`silence_probe.Watched`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lakehouse.ingest.sequencer import Sequencer
from lakehouse.ingest.subscriptions import Subscriptions
from lakehouse.ingest.venue_socket import VenueSocket

_log = logging.getLogger(__name__)


class WatchedFeed:
    """One feed, as the silence probe uses it: gives the state of its symbols and passes on the probe's findings.

    Called by the repair's thread. `sockets` returns the sockets that are open now. `on_silent` is called with a symbol
    whose subscription brings nothing, `on_refusal` without arguments if the venue does not list a symbol.
    """

    def __init__(
        self,
        venue: str,
        subscriptions: Subscriptions,
        sequencer: Sequencer,
        sockets: Callable[[], Sequence[VenueSocket]],
        on_silent: Callable[[str], None],
        on_refusal: Callable[[], None],
    ) -> None:
        self._venue = venue
        self._subscriptions = subscriptions
        self._sequencer = sequencer
        self._sockets = sockets
        self._on_silent = on_silent
        self._on_refusal = on_refusal
        self._connection_id = f"{venue}-look"

    @property
    def wanted(self) -> tuple[str, ...]:
        return self._subscriptions.wanted

    def exists(self, symbol: str) -> bool:
        """Return True if the venue has shown that it lists the symbol.

        Binance acknowledges any name, so its acknowledgement shows nothing.
        """
        shared = self._subscriptions
        return symbol in shared.listed or symbol in shared.in_history or self.received(symbol) > 0

    def received(self, symbol: str) -> int:
        return self._sequencer.of(symbol).counters.produced

    def subscribed_since(self, symbol: str) -> float | None:
        return max(
            (since for socket in self._sockets() if (since := socket.since.get(symbol)) is not None), default=None
        )

    def mark(self, symbol: str) -> int | None:
        return self._sequencer.of(symbol).ids.mark

    def look(self, symbol: str, newest_id: int | None) -> bool:
        self._subscriptions.found(symbol)
        return newest_id is not None and self._sequencer.look(symbol, newest_id, self._connection_id)

    def silent(self, symbol: str) -> None:
        sockets = self._sockets()
        connection_id = sockets[0].connection_id if sockets else self._connection_id
        detail = "subscribed and silent: the REST history moves on, and nothing comes"
        self._sequencer.event("stale", connection_id, symbol, detail=detail)
        self._on_silent(symbol)

    def unlisted(self, symbol: str, words: str) -> None:
        if symbol in self._subscriptions.listed or self.received(symbol):
            # The socket knows better. REST cannot repair a symbol that it does not know, so that is told.
            _log.warning("REST of %s does not know %s, which is subscribed: %s", self._venue, symbol, words)
            self._sequencer.event("venue_error", self._connection_id, symbol, detail=f"REST: {words}")
        elif self._subscriptions.refuse(symbol, words):
            _log.warning("%s refused %s: %s", self._venue, symbol, words)
            self._sequencer.event("subscription_refused", self._connection_id, symbol, detail=words)
            self._on_refusal()
