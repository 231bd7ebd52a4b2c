"""One socket of a feed and its thread: connect, subscribe, and read frames until the connection ends or is stopped.

Guarantee: every trade that was read goes to Kafka, and each text that the venue's parser cannot read, as a rejected
message. Outcomes of subscriptions become feed events; heartbeats, and frames that the parser ignores on purpose, are
not sent. Limit: trades made while no socket is open do not come later; their ids show the gap.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from operator import attrgetter

from lakehouse.exchanges.model import (
    Heartbeat,
    Parsed,
    Refused,
    Rejected,
    Shutdown,
    Subscribed,
    Trade,
)
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.connection import Connection, ConnectionLostError, HandshakeRefusedError, SocketStaleError
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError
from lakehouse.ingest.sequencer import Sequencer
from lakehouse.ingest.subscribing import Subscriber
from lakehouse.ingest.subscriptions import Subscriptions
from lakehouse.lake.feed_state import STOPPED
from lakehouse.tables import FeedEventKind

_log = logging.getLogger(__name__)

_by_trade_id = attrgetter("trade_id")


class VenueSocket:
    """One connection of a feed to its venue, and the thread that reads it into the `Sequencer`. Used once.

    `base` is the root address of a simulator, None for the live venue; `wake` is called if the feed has to look at this
    socket. Any thread may read the public attributes.
    """

    def __init__(
        self,
        venue: Venue,
        base: str | None,
        subscriptions: Subscriptions,
        sequencer: Sequencer,
        sink: KafkaSink,
        counters: VenueCounters,
        wake: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self.connection_id = f"{venue.name}-{uuid.uuid4().hex[:12]}"
        self.connected = False
        self.delivered: dict[str, int] = {}  #: symbol → id of the newest trade that this socket brought
        self.last_frame: float | None = None  #: when the last frame came, in monotonic seconds
        self.is_leaving = False  #: the venue has announced that it will close the connection
        self.error = ""  #: why the socket ended, or the venue's last error message; empty if there was none
        self.refused: HandshakeRefusedError | None = None  #: the venue's answer to the handshake, if it was a refusal
        self.failure: BaseException | None = None  #: the unexpected error that ended the thread, if one did
        self.lived = 0.0  #: seconds from the start of the thread to its end; 0 before that
        self._venue = venue
        self._base = base
        self._subscriptions = subscriptions
        self._sequencer = sequencer
        self._sink = sink
        self._counters = counters
        self._wake = wake
        self._rng = rng
        self._subscriber: Subscriber | None = None  #: while there is a connection
        self._reason = STOPPED
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{venue.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Tell the thread to close its socket and end. Returns at once; `join` waits.

        `reason` goes into the event `disconnected`; the reasons of later calls are ignored.
        """
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the socket to end. Return False if it has not."""
        return self._ended.wait(max(0.0, seconds))

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def since(self) -> dict[str, float]:
        """Symbol → when the venue acknowledged it, or first sent its trades, on this connection; monotonic seconds."""
        subscriber = self._subscriber
        return {} if subscriber is None else subscriber.since

    @property
    def subscribed(self) -> frozenset[str]:
        """The symbols whose subscription the venue has acknowledged on this connection."""
        return frozenset(self.since)

    @property
    def waiting(self) -> frozenset[str]:
        """The symbols that are wanted on this connection and not acknowledged; empty without a connection."""
        subscriber = self._subscriber
        return frozenset() if subscriber is None else subscriber.waiting

    @property
    def settled(self) -> bool:
        """True if every symbol was acknowledged on this connection, or a request for it was refused or not answered."""
        subscriber = self._subscriber
        return subscriber is not None and subscriber.settled

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
            subscriber = self._subscriber = self._begin()
            self._read(connection, subscriber)
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
            ended, self._subscriber = self._subscriber, None
            connection.close()
        if ended is not None:
            self._tell_missed(ended, is_over=True)
        elif self._sequencer.overlapping:  # the venue refused a second socket, and is connected by the first
            self._event("venue_error", detail=f"no second socket: {reason}")
            return
        self._event("disconnected", detail=reason)

    def _begin(self) -> Subscriber:
        wanted = sorted(self._subscriptions.wanted)
        self._sequencer.reconnected(self._subscriptions.wanted)
        most = -(-len(wanted) // max(1, len(self._venue.subscribe(wanted))))  # as many as fit into one message
        return Subscriber(
            self._subscriptions, time.monotonic(), self._rng, max(1, most), self._venue.subscribe_pause_seconds
        )

    def _ask(self, connection: Connection, subscriber: Subscriber) -> None:
        now = time.monotonic()
        self._taken(subscriber.brought(self.delivered, now))
        ask = subscriber.step(now)
        if ask is not None:
            for message in self._venue.subscribe(ask.symbols, ask.number):
                connection.send(message)
        self._tell_missed(subscriber)

    def _read(self, connection: Connection, subscriber: Subscriber) -> None:
        self._ask(connection, subscriber)
        parse, clock, take = self._venue.parse, time.time_ns, self._sequencer.trade
        delivered, connection_id = self.delivered, self.connection_id
        for frame in connection.frames(self._stop):
            if frame is not None:
                items = parse(frame, clock() // 1000)
                if len(items) == 1 and type(trade := items[0]) is Trade:
                    delivered[trade.symbol] = trade.trade_id
                    take(trade, connection_id)
                elif items:
                    self._take(items, subscriber)
                continue
            self.last_frame = connection.heard
            self._sequencer.settle()
            if subscriber.waiting:
                self._ask(connection, subscriber)
            if not self._subscriptions.wanted:
                return

    def _take(self, items: list[Parsed], subscriber: Subscriber) -> None:
        trades = [item for item in items if type(item) is Trade]
        # A venue may send a batch newest first, which is neither a gap nor late.
        trades.sort(key=_by_trade_id)
        for trade in trades:
            self.delivered[trade.symbol] = trade.trade_id
            self._sequencer.trade(trade, self.connection_id)
        for item in items:
            if isinstance(item, Rejected):
                self._counters.reject(item.reason)
                self._sink.rejected(item)
            elif isinstance(item, Heartbeat):
                if item.symbol is not None and item.last_trade_id is not None:
                    self._sequencer.heartbeat(item.symbol, item.last_trade_id, self.connection_id)
            elif isinstance(item, Subscribed):
                self._taken(subscriber.acknowledged(item, time.monotonic()))
            elif isinstance(item, Refused):
                self._refusal(item, subscriber)
            elif isinstance(item, Shutdown):
                # Read on: the venue leaves time to bring another socket up first.
                self.is_leaving = True
                self._wake()

    def _taken(self, symbols: Sequence[str]) -> None:
        """Tell that these symbols are subscribed now."""
        for symbol in symbols:
            self._event("subscribed", symbol)
        if symbols:
            self._wake()

    def _refusal(self, refused: Refused, subscriber: Subscriber) -> None:
        is_answer, symbol = subscriber.refused(refused, time.monotonic())
        if not is_answer:
            self._event("venue_error", refused.symbol, refused.message)
        if refused.symbol is None:
            self.error = refused.message
        if symbol is not None:
            _log.warning("%s refused %s: %s", self._venue.name, symbol, refused.message)
            self._event("subscription_refused", symbol, refused.message)
        self._wake()

    def _tell_missed(self, subscriber: Subscriber, is_over: bool = False) -> None:
        """Name the symbols that are not subscribed, when that begins. Not while another socket may have them."""
        if self._sequencer.overlapping or (is_over and self._stop.is_set()):
            return
        for symbol, why in subscriber.untold(time.monotonic(), is_over):
            _log.warning("%s %s is not subscribed and is asked for again: %s", self._venue.name, symbol, why)
            self._event("unsubscribed", symbol, why)

    def _event(self, kind: FeedEventKind, symbol: str | None = None, detail: str = "") -> None:
        self._sequencer.event(kind, self.connection_id, symbol, detail=detail)
