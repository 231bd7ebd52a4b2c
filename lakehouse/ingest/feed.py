"""One socket of a venue and its thread: connect, subscribe, read, connect again, until it is told to stop.

Guarantee: every frame that was read ends in Kafka as trades, as rejected, or as a feed event, or is protocol noise that
the venue's parser names as such; a skipped trade id leaves a `gap_opened` event. Gap: what the venue sends while no
socket is open is not replayed; the ids show it with the next trade.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Sequence
from operator import attrgetter

from lakehouse.exchanges.model import (
    FeedEvent,
    FeedEventKind,
    Heartbeat,
    Parsed,
    Refused,
    Rejected,
    Shutdown,
    Subscribed,
    Trade,
)
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.backoff import HEALTHY_SECONDS, delays
from lakehouse.ingest.connection import Connection, ConnectionLostError, SocketStaleError
from lakehouse.ingest.continuity import Continuity, Gap, Kind
from lakehouse.ingest.metrics import Counters, SymbolCounters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError

_log = logging.getLogger(__name__)

#: Seconds after which what was neither acknowledged nor refused is subscribed again, once. Coinbase refuses a whole
#: message for one bad product, and cuts who has no subscription after 5 s.
RESUBSCRIBE_SECONDS = 2.0

_by_trade_id = attrgetter("trade_id")


class Feed:
    """The thread of one socket. Attributes without underscore may be read by any thread."""

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        base: str | None,
        sink: KafkaSink,
        counters: Counters,
        rng: random.Random | None = None,
    ) -> None:
        self.venue = venue.for_symbols(symbols)
        self.symbols = tuple(symbols)
        self.connected = False
        self.subscribed: frozenset[str] = frozenset()  #: acknowledged on the present connection
        self.refused: dict[str, str] = {}  #: symbol → the venue's words; not asked for again
        self.failure: BaseException | None = None  #: what ended the thread, if it was not told to
        self.last_error = ""  #: why the last connection ended
        self.last_frame: float | None = None  #: monotonic seconds
        self._base = base
        self._sink = sink
        self._counters = counters
        self._venue_counters = counters.venue(venue.name)
        self._rng = rng or random.Random()
        self._flows: dict[str, tuple[Continuity, SymbolCounters]] = {}
        self._ever_subscribed: set[str] = set()
        self._waiting: set[str] = set()
        self._connection_id = ""
        self._connections = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{venue.name}", daemon=True)
        for symbol in self.symbols:
            self._flow(symbol)

    # Life of the thread.

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to close its socket and end. Returns at once; `join` waits."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread. False where it has not ended in time."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The symbols that the venue has not refused."""
        return tuple(symbol for symbol in self.symbols if symbol not in self.refused)

    @property
    def settled(self) -> bool:
        """Whether the venue has answered for every symbol."""
        return self.subscribed.issuperset(self.wanted)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._keep_connected()
        except QueueBlockedError:
            pass  # stopping, with a broker that is away; the sink counts what it could not take
        except BaseException as error:
            self.failure = error
            _log.exception("feed of %s ended", self.venue.name)
        finally:
            self.connected = False

    def _keep_connected(self) -> None:
        waits = delays(self._rng)
        while not self._stop.is_set() and self.wanted:
            opened = time.monotonic()
            retry_after = self._connect_and_read()
            if time.monotonic() - opened >= HEALTHY_SECONDS:
                waits = delays(self._rng)
            if self.wanted:
                self._stop.wait(max(next(waits), retry_after or 0.0))

    def _connect_and_read(self) -> float | None:
        """One connection from its opening to its end. Returns the seconds that the venue asked us to stay away."""
        self._connection_id = f"{self.venue.name}-{uuid.uuid4().hex[:12]}"
        connection = Connection(
            self.venue.websocket_url(self._base, self.wanted),
            self.venue.silence_seconds,
            self.venue.ping,
            self.venue.ping_seconds,
        )
        if self._connections:
            self._venue_counters.reconnected()
        self._connections += 1
        try:
            connection.open()
            self.connected = True
            self._event("connected", detail=connection.url.split("?", 1)[0])
            self._subscribe(connection)
            self._read(connection)
            reason = "stopped" if self._stop.is_set() else "every symbol was refused"
        except SocketStaleError as error:
            reason = self.last_error = str(error)
            self._event("stale", detail=reason)
        except ConnectionLostError as error:
            reason = self.last_error = str(error)
            if not self._stop.is_set() or self.connected:
                self._event("disconnected", detail=reason)
            return error.retry_after
        finally:
            self.connected = False
            self.subscribed = frozenset()
            connection.close()
        self._event("disconnected", detail=reason)
        return None

    # One connection.

    def _subscribe(self, connection: Connection) -> None:
        self._waiting = set(self.wanted)
        for continuity, _ in self._flows.values():
            continuity.reconnected()
        if not self._send_subscriptions(connection):
            self._acknowledged(())  # the address itself names the streams

    def _send_subscriptions(self, connection: Connection) -> int:
        messages = self.venue.subscribe(sorted(self._waiting))
        for number, message in enumerate(messages):
            if number:
                self._stop.wait(self.venue.subscribe_pause_seconds)
            connection.send(message)
        return len(messages)

    def _read(self, connection: Connection) -> None:
        subscribe_again: float | None = time.monotonic() + RESUBSCRIBE_SECONDS
        parse, clock = self.venue.parse, time.time_ns
        for frame in connection.frames(self._stop):
            if frame is not None:
                items = parse(frame, clock() // 1000)
                if len(items) == 1 and type(items[0]) is Trade:
                    self._trade(items[0])
                elif items:
                    self._take(items)
                continue
            self.last_frame = connection.heard
            if not self._waiting:
                if not self.wanted:
                    return
            elif subscribe_again is not None and time.monotonic() >= subscribe_again:
                subscribe_again = None
                self._send_subscriptions(connection)

    def _take(self, items: list[Parsed]) -> None:
        trades = [item for item in items if type(item) is Trade]
        # A venue may send a batch newest first, which is neither a gap nor late.
        trades.sort(key=_by_trade_id)
        for trade in trades:
            self._trade(trade)
        for item in items:
            if isinstance(item, Rejected):
                self._venue_counters.reject(item.reason)
                self._sink.rejected(item)
            elif isinstance(item, Heartbeat):
                self._heartbeat(item)
            elif isinstance(item, Subscribed):
                self._acknowledged(item.symbols)
            elif isinstance(item, Refused):
                self._refusal(item)
            elif isinstance(item, Shutdown):
                raise ConnectionLostError("the venue announced that it will close the connection")

    def _trade(self, trade: Trade) -> None:
        continuity, counters = self._flow(trade.symbol)
        found = continuity.observe(trade.trade_id)
        if found.kind is not Kind.NEXT:
            if found.kind is Kind.DUPLICATE:
                counters.duplicates += 1
            elif found.kind is Kind.LATE:
                counters.late += 1
            if found.gap is not None:
                self._gap(trade.symbol, counters, found.gap, f"seen with trade {trade.trade_id}")
        counters.last_trade = time.monotonic()
        # Duplicates go on as well: the table deduplicates by id, and it must see where the same id has other content.
        self._sink.trade(trade, counters)

    def _heartbeat(self, heartbeat: Heartbeat) -> None:
        if heartbeat.symbol is None or heartbeat.last_trade_id is None:
            return
        continuity, counters = self._flow(heartbeat.symbol)
        gap = continuity.heartbeat(heartbeat.last_trade_id)
        if gap is not None:
            self._gap(heartbeat.symbol, counters, gap, "named by two heartbeats and not received")

    def _gap(self, symbol: str, counters: SymbolCounters, gap: Gap, detail: str) -> None:
        # The place where a repair is asked for.
        counters.gaps += 1
        counters.missing += len(gap)
        self._event("gap_opened", symbol, gap, detail)

    def _acknowledged(self, symbols: Sequence[str]) -> None:
        """An acknowledgement; one that names no symbol is for all that were asked for."""
        fresh = self._waiting.intersection(symbols) if symbols else set(self._waiting)
        self._waiting -= fresh
        self._ever_subscribed |= fresh
        self.subscribed |= fresh
        for symbol in sorted(fresh):
            self._event("subscribed", symbol)

    def _refusal(self, refused: Refused) -> None:
        if refused.symbol is None or refused.symbol not in self.symbols:
            self.last_error = refused.message
            self._event("venue_error", refused.symbol, detail=refused.message)
            return
        self._waiting.discard(refused.symbol)
        self._event("subscription_refused", refused.symbol, detail=refused.message)
        # One that was taken before is asked for again at the next connection: a halt, not an unknown name.
        if refused.symbol not in self._ever_subscribed:
            self.refused = {**self.refused, refused.symbol: refused.message}

    # Helpers.

    def _flow(self, symbol: str) -> tuple[Continuity, SymbolCounters]:
        flow = self._flows.get(symbol)
        if flow is None:
            flow = self._flows[symbol] = (Continuity(), self._counters.symbol(self.venue.name, symbol))
        return flow

    def _event(self, kind: FeedEventKind, symbol: str | None = None, gap: Gap | None = None, detail: str = "") -> None:
        first, last = (gap.first_id, gap.last_id) if gap else (None, None)
        now = time.time_ns() // 1000
        self._sink.event(FeedEvent(self.venue.name, kind, now, self._connection_id, symbol, first, last, detail))
