"""One socket of a feed and its thread: connect, subscribe, read, until it ends or is told to.

Guarantee: every frame that was read ends in Kafka as trades, as rejected, or as a feed event, or is protocol noise that
the venue's parser names as such. Gap: what the venue sends while no socket is open is not replayed; the ids show it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from operator import attrgetter

from lakehouse.exchanges.model import FeedEventKind, Heartbeat, Parsed, Refused, Rejected, Shutdown, Subscribed, Trade
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.connection import Connection, ConnectionLostError, HandshakeRefusedError, SocketStaleError
from lakehouse.ingest.flow import Flows
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError

_log = logging.getLogger(__name__)

#: Seconds after which what was neither acknowledged nor refused is subscribed again, once. Coinbase refuses a whole
#: message for one bad product, and cuts who has no subscription after 5 s.
RESUBSCRIBE_SECONDS = 2.0

_by_trade_id = attrgetter("trade_id")


class Subscriptions:
    """What a feed wants of its venue, and what the venue has refused for good. Shared by the feed's sockets."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self.refused: dict[str, str] = {}  #: symbol → the venue's words; not asked for again
        self.ever: frozenset[str] = frozenset()  #: acknowledged once

    @property
    def wanted(self) -> tuple[str, ...]:
        """The symbols that the venue has not refused."""
        return tuple(symbol for symbol in self.symbols if symbol not in self.refused)


class Line:
    """One socket. Attributes without underscore may be read by any thread."""

    def __init__(
        self,
        venue: Venue,
        base: str | None,
        subscriptions: Subscriptions,
        flows: Flows,
        sink: KafkaSink,
        counters: VenueCounters,
        wake: Callable[[], None],
    ) -> None:
        self.connection_id = f"{venue.name}-{uuid.uuid4().hex[:12]}"
        self.connected = False
        self.subscribed: frozenset[str] = frozenset()  #: acknowledged on this connection
        self.since: dict[str, float] = {}  #: symbol → monotonic second of its acknowledgement
        self.delivered: dict[str, int] = {}  #: symbol → id of the newest trade that this socket brought
        self.last_frame: float | None = None  #: monotonic seconds
        self.is_leaving = False  #: the venue has announced that it will close the connection
        self.error = ""  #: why it ended, if that was an error
        self.refused: HandshakeRefusedError | None = None  #: the venue's answer to the handshake, if it was a refusal
        self.failure: BaseException | None = None  #: what ended the thread, if neither the venue nor we wanted it
        self.lived = 0.0  #: seconds from the first attempt to the end
        self._venue = venue
        self._base = base
        self._subscriptions = subscriptions
        self._flows = flows
        self._sink = sink
        self._counters = counters
        self._wake = wake
        self._waiting: set[str] = set()
        self._has_asked = False
        self._reason = "stopped"
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{venue.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ask the thread to close its socket and end. Returns at once; `join` waits."""
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end. False where it has not ended in time."""
        return self._ended.wait(max(0.0, seconds))

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def settled(self) -> bool:
        """Whether the venue has answered for every symbol, be it with a refusal."""
        return self._has_asked and not self._waiting

    def _run(self) -> None:
        opened = time.monotonic()
        try:
            self._connect_and_read()
        except QueueBlockedError:
            pass  # stopping, with a broker that is away; the sink counts what it could not take
        except BaseException as error:
            self.failure = error
            _log.exception("socket of %s ended", self._venue.name)
        finally:
            self.connected = False
            self.lived = time.monotonic() - opened
            self._ended.set()
            self._wake()

    def _connect_and_read(self) -> None:
        connection = Connection(
            self._venue.websocket_url(self._base, self._subscriptions.wanted),
            self._venue.silence_seconds,
            self._venue.ping,
            self._venue.ping_seconds,
        )
        try:
            connection.open()
            self.connected = True
            self._event("connected", detail=connection.url.split("?", 1)[0])
            self._subscribe(connection)
            self._read(connection)
            reason = self._reason if self._stop.is_set() else "every symbol was refused"
        except SocketStaleError as error:
            reason = self.error = str(error)
            self._event("stale", detail=reason)
        except ConnectionLostError as error:
            reason = self.error = str(error)
            self.refused = error if isinstance(error, HandshakeRefusedError) else None
            if self._stop.is_set() and not self.connected:
                return
        finally:
            self.connected = False
            self.subscribed = frozenset()
            self.since = {}
            connection.close()
        self._event("disconnected", detail=reason)

    def _subscribe(self, connection: Connection) -> None:
        self._waiting = set(self._subscriptions.wanted)
        self._flows.reconnected(self._subscriptions.wanted)
        if not self._send_subscriptions(connection):
            self._acknowledged(())  # the address itself names the streams
        self._has_asked = True

    def _send_subscriptions(self, connection: Connection) -> int:
        messages = self._venue.subscribe(sorted(self._waiting))
        for number, message in enumerate(messages):
            if number:
                self._stop.wait(self._venue.subscribe_pause_seconds)
            connection.send(message)
        return len(messages)

    def _read(self, connection: Connection) -> None:
        subscribe_again: float | None = time.monotonic() + RESUBSCRIBE_SECONDS
        parse, clock, take = self._venue.parse, time.time_ns, self._flows.trade
        delivered, connection_id = self.delivered, self.connection_id
        for frame in connection.frames(self._stop):
            if frame is not None:
                items = parse(frame, clock() // 1000)
                if len(items) == 1 and type(trade := items[0]) is Trade:
                    delivered[trade.symbol] = trade.trade_id
                    take(trade, connection_id)
                elif items:
                    self._take(items)
                continue
            self.last_frame = connection.heard
            self._flows.settle()
            if not self._waiting:
                if not self._subscriptions.wanted:
                    return
            elif subscribe_again is not None and time.monotonic() >= subscribe_again:
                subscribe_again = None
                self._send_subscriptions(connection)

    def _take(self, items: list[Parsed]) -> None:
        trades = [item for item in items if type(item) is Trade]
        # A venue may send a batch newest first, which is neither a gap nor late.
        trades.sort(key=_by_trade_id)
        for trade in trades:
            self.delivered[trade.symbol] = trade.trade_id
            self._flows.trade(trade, self.connection_id)
        for item in items:
            if isinstance(item, Rejected):
                self._counters.reject(item.reason)
                self._sink.rejected(item)
            elif isinstance(item, Heartbeat):
                if item.symbol is not None and item.last_trade_id is not None:
                    self._flows.heartbeat(item.symbol, item.last_trade_id, self.connection_id)
            elif isinstance(item, Subscribed):
                self._acknowledged(item.symbols)
            elif isinstance(item, Refused):
                self._refusal(item)
            elif isinstance(item, Shutdown):
                # Read on: the venue leaves time to bring another socket up first.
                self.is_leaving = True
                self._wake()

    def _acknowledged(self, symbols: Sequence[str]) -> None:
        """An acknowledgement; one that names no symbol is for all that were asked for."""
        fresh = self._waiting.intersection(symbols) if symbols else set(self._waiting)
        self._waiting -= fresh
        self._subscriptions.ever |= fresh
        self.since = self.since | dict.fromkeys(fresh, time.monotonic())
        self.subscribed |= fresh
        for symbol in sorted(fresh):
            self._event("subscribed", symbol)
        self._wake()

    def _refusal(self, refused: Refused) -> None:
        if refused.symbol is None or refused.symbol not in self._subscriptions.symbols:
            self.error = refused.message
            self._event("venue_error", refused.symbol, refused.message)
            return
        self._waiting.discard(refused.symbol)
        self._event("subscription_refused", refused.symbol, refused.message)
        # One that was taken before is asked for again at the next connection: a halt, not an unknown name.
        if refused.symbol not in self._subscriptions.ever:
            self._subscriptions.refused = {**self._subscriptions.refused, refused.symbol: refused.message}
        self._wake()

    def _event(self, kind: FeedEventKind, symbol: str | None = None, detail: str = "") -> None:
        self._flows.event(kind, self.connection_id, symbol, detail=detail)
