"""Keep a socket open for symbols of one venue, and replace it by another (rotation) without losing a trade.

Guarantee: a skipped trade id leads to a `gap_opened` event and an order to the repair, across all sockets of the feed.
In a rotation the old socket is closed only when its successor is subscribed and has delivered what the old one
delivers; if the successor fails, the old one stays. Limit: if the old socket delivers nothing itself, its successor
cannot be judged; it takes over after some seconds (`rotation`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.away import Away
from lakehouse.ingest.backfill_queue import BackfillOrder
from lakehouse.ingest.backoff import delays
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.ingest.resume import Resume
from lakehouse.ingest.rotation import Rotation, Rotations, Trial
from lakehouse.ingest.sequencer import Sequencer
from lakehouse.ingest.subscriptions import Subscriptions
from lakehouse.ingest.venue_socket import VenueSocket
from lakehouse.ingest.watched import WatchedFeed
from lakehouse.lake.feed_state import STOPPED

_log = logging.getLogger(__name__)

#: A socket is replaced up to this many seconds before the end of its lifetime, drawn for each, so that not all change
#: at once.
LIFETIME_JITTER_SECONDS = 1800.0
#: Seconds of the first and of the longest pause before another rotation after a successor has failed.
RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
#: Seconds of the first and of the longest pause between two rotations because of a silent subscription: if the venue's
#: channel itself is silent, rotating does not help. Twice the longest without one, and the pauses are short again.
SILENT_SECONDS = 10.0
LONGEST_SILENT_SECONDS = 300.0
#: Seconds to wait for a socket to end after it was told to.
END_SECONDS = 5.0


class Feed:
    """A thread that receives the trades of some symbols of one venue over one socket, two during a rotation.

    `base`: root address of a simulator, None: live. `order` is called with each gap to repair. Any thread may read the
    public attributes.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        base: str | None,
        sink: KafkaSink,
        counters: Counters,
        order: Callable[[BackfillOrder], None],
        rng: random.Random | None = None,
    ) -> None:
        self.venue = venue.for_symbols(symbols)
        self.failure: BaseException | None = None  #: the error that ended the thread; None if it runs or was stopped
        self.last_error = ""  #: why the last connection ended, or could not be made
        self.sequencer = Sequencer(venue.name, sink, counters, order)
        self.subscriptions = Subscriptions(symbols)
        self._base = base
        self._sink = sink
        self._counters = counters
        self._venue_counters = counters.venue(venue.name)
        self._rng = rng or random.Random()
        self._sockets: tuple[VenueSocket, ...] = ()
        self._connections = 0
        self._away = Away(venue.name, self._rng)
        self._rotations = Rotations()
        self._rotate_at: float | None = None
        self._retries: Iterator[float] | None = None
        self._retry_at = 0.0
        self._silent = ""
        self._silences: Iterator[float] | None = None
        self._silent_at = 0.0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"keeper-{venue.name}", daemon=True)
        self.watched = WatchedFeed(
            venue.name, self.subscriptions, self.sequencer, lambda: self._sockets, self._found_silent, self._wake.set
        )
        for symbol in symbols:
            self.sequencer.of(symbol)

    # Life of the thread.

    def resume(self, marks: Mapping[tuple[str, str], Resume]) -> None:
        """Continue from the states `marks` that an earlier process left; order its open gaps. Call before `start`."""
        for symbol in self.subscriptions.symbols:
            resume = marks.get((self.venue.name, symbol))
            if resume is not None:
                self.sequencer.resume(symbol, resume, f"{self.venue.name}-start")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell the sockets and the thread to end. Returns at once; `join` waits."""
        self._stop.set()
        for socket in self._sockets:
            socket.stop(STOPPED)
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the thread to end. Return False if it has not."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def rotate(self) -> Rotation:
        """Ask the thread to replace its socket without a break. Returns at once; the Rotation tells the outcome."""
        rotation = self._rotations.ask()
        self._wake.set()
        return rotation

    def _run(self) -> None:
        try:
            self._keep_connected()
        except BaseException as error:
            self.failure = error
            _log.exception("feed of %s ended", self.venue.name)
        finally:
            self._rotations.end("the feed has ended")

    def _keep_connected(self) -> None:
        while not self._stop.is_set() and self.wanted:
            self._silent = ""  # a new connection is what it asked for
            socket = self._keep(self._open())
            self._sockets = ()
            if socket.failure is not None:
                raise socket.failure
            if self.wanted:
                self._stay_away(socket)

    def _stay_away(self, socket: VenueSocket) -> None:
        """Wait until the venue may be asked again; refuse rotations that are asked for meanwhile."""
        self._away.begin(socket.lived, socket.refused)
        self.last_error = self._away.words or self.last_error
        while not self._stop.is_set() and self._away.left:
            self._rotations.refuse("there is no connection to change")
            self._wake.wait(self._away.left)
            self._wake.clear()

    def _open(self) -> VenueSocket:
        socket = VenueSocket(
            self.venue,
            self._base,
            self.subscriptions,
            self.sequencer,
            self._sink,
            self._venue_counters,
            self._wake.set,
            self._rng,
        )
        if self._connections and not self._sockets:
            self._venue_counters.reconnected()
        self._connections += 1
        self._sockets = (*self._sockets, socket)
        lifetime = self.venue.lifetime_seconds
        if lifetime is not None:
            self._rotate_at = time.monotonic() + lifetime - self._rng.uniform(0.0, LIFETIME_JITTER_SECONDS)
        socket.start()
        if self._stop.is_set():  # `stop` may have gone through the sockets just before
            socket.stop(STOPPED)
        return socket

    def _keep(self, socket: VenueSocket) -> VenueSocket:
        """Wait until the socket, or the last of its successors, has ended. Returns the last one."""
        while not socket.join(0.0):
            why = self._reason_to_rotate(socket)
            if why:
                socket = self._rotate(socket, why)
                continue
            self._wake.wait(1.0)
            self._wake.clear()
        self.last_error = socket.error or self.last_error
        return socket

    # Changing sockets.

    def _reason_to_rotate(self, socket: VenueSocket) -> str:
        now = time.monotonic()
        if self._stop.is_set() or not socket.connected:
            return ""
        if self._away.left:  # a successor was refused
            self._rotations.refuse(self.last_error)
            return ""
        if self._rotations:
            return "asked for"
        if self._silent and now >= self._silent_at:
            if self._silences is None or now > self._silent_at + 2 * LONGEST_SILENT_SECONDS:
                self._silences = delays(self._rng, SILENT_SECONDS, LONGEST_SILENT_SECONDS)
            self._silent_at = now + next(self._silences)
            return f"{self._silent} is subscribed and silent"
        if now < self._retry_at:
            return ""
        if socket.is_leaving:
            return "the venue announced that it will close the connection"
        return "its time is up" if self._rotate_at is not None and now >= self._rotate_at else ""

    def _rotate(self, old: VenueSocket, why: str) -> VenueSocket:
        """Bring up a successor beside the socket. Returns the one that is to be kept."""
        planned = self._rotate_at
        asked = self._rotations.take()
        self._silent = ""
        self.sequencer.overlapping = True
        new = self._open()
        try:
            problem = self._judge(old, new)
            loser, winner = (new, old) if problem else (old, new)
            loser.stop(f"rotated: {why}" if not problem else f"no successor: {problem}")
            loser.join(END_SECONDS)
        finally:
            self.sequencer.overlapping = False
            self.sequencer.settle(is_over=True)
        self._sockets = (winner,)
        if not self._stop.is_set():
            self._venue_counters.rotated(not problem)
        if problem:
            if new.refused:
                self._away.begin(0.0, new.refused)
            self.last_error = self._away.words if new.refused else problem
            self._rotate_at = planned
            self._retries = self._retries or delays(self._rng, RETRY_SECONDS, LONGEST_RETRY_SECONDS)
            self._retry_at = time.monotonic() + next(self._retries)
        else:
            self._retries = None
        for rotation in asked:
            rotation.finish(problem)
        return winner

    def _judge(self, old: VenueSocket, new: VenueSocket) -> str:
        """Wait until the successor may take over. Returns why it may not; empty if it may."""
        trial = Trial(old, new, self.watched.mark)
        while not self._stop.is_set():
            problem = trial.verdict(time.monotonic())
            self.sequencer.settle()
            # The old socket may be behind the new one: it stays until it has brought what lies between them.
            if problem or (problem is not None and (old.ended or not self.sequencer.is_holding)):
                return problem
            self._wake.wait(0.05)
            self._wake.clear()
        return "stopped"

    def _found_silent(self, symbol: str) -> None:
        self._silent = symbol
        self._wake.set()

    # Called by others, from any thread.

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols that this feed was made for, refused ones included."""
        return self.subscriptions.symbols

    @property
    def wanted(self) -> tuple[str, ...]:
        """The symbols that the venue has not refused for good."""
        return self.subscriptions.wanted

    @property
    def refused(self) -> dict[str, str]:
        """The symbols that the venue has refused for good → the venue's words."""
        return self.subscriptions.refused

    @property
    def connected(self) -> bool:
        return any(socket.connected for socket in self._sockets)

    @property
    def subscribed(self) -> frozenset[str]:
        """The symbols whose subscription the venue has acknowledged on a connection that is open now."""
        return frozenset().union(*(socket.subscribed for socket in self._sockets)).intersection(self.wanted)

    @property
    def settled(self) -> bool:
        """True if the venue has acknowledged every wanted symbol on an open connection, and shown that it lists it.

        Symbols refused for good do not count. Only a trade or the REST API shows that Binance lists a name.
        """
        subscribed = self.subscribed
        return all(symbol in subscribed and self.watched.exists(symbol) for symbol in self.wanted)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def last_frame(self) -> float | None:
        """When the last frame of any kind came, in monotonic seconds; None if the open sockets have brought none."""
        return max((socket.last_frame for socket in self._sockets if socket.last_frame is not None), default=None)
