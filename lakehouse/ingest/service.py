"""Run an ingest: each venue's sockets and repair, which write to Kafka, the metrics, and an orderly end.

service = IngestService(settings)
service.start()
while …: service.check()
unflushed = service.stop(timeout=10)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from lakehouse.broker.topics import ensure_topics, wait_until_ready
from lakehouse.errors import LakehouseError, RetriableError, SettingError
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest import resume
from lakehouse.ingest.feed import Feed
from lakehouse.ingest.gap_repair import GapRepair
from lakehouse.ingest.metrics import Counters, MetricsServer
from lakehouse.ingest.producer import KafkaSink
from lakehouse.ingest.rate_limit import LIVE_SHARE
from lakehouse.ingest.rotation import Rotation
from lakehouse.ingest.rotation_requests import RotationRequests
from lakehouse.ingest.stats import IngestStats, VenueStats, refusals_text
from lakehouse.settings import Settings, canonical_symbols

#: Most seconds for the broker to answer at the start.
BROKER_SECONDS = 10.0
#: Seconds of one wait for delivery reports; by so much the polling thread may end late.
POLL_SECONDS = 0.1
#: Seconds of the time for a stop that are kept for Kafka's acknowledgements, even if sockets are slow to close.
FLUSH_RESERVE_SECONDS = 2.0


class IngestService:
    """One ingest of trades into Kafka, started and stopped once.

    `venues`, `symbols` and `topic` (of trades) replace those of the settings; `urls` maps a venue to the root address
    of a simulator.
    """

    def __init__(
        self,
        settings: Settings,
        venues: Sequence[str] | None = None,
        symbols: Sequence[str] | None = None,
        urls: Mapping[str, str] | None = None,
        topic: str | None = None,
    ) -> None:
        """Check venues and symbols; open nothing yet. Raises SettingError for an unknown venue or a bad symbol."""
        self._settings = settings.model_copy(update={"topic_trades": topic}) if topic else settings
        self._symbols = canonical_symbols(symbols) if symbols else settings.symbols
        # Binance's names run two assets together: only what is subscribed tells them apart.
        self._venues = [find_venue(name, self._symbols) for name in dict.fromkeys(venues or settings.venues)]
        if not self._venues or not self._symbols:
            raise SettingError("nothing to ingest", "at least one venue and one symbol")
        self._urls = dict(urls or {})
        self._counters = Counters()
        self._counters.clocks.is_simulated = settings.simulator_url is not None
        self._metrics = MetricsServer(self._counters, settings.metrics_port)
        self._feeds: list[Feed] = []
        self._repairers: list[GapRepair] = []
        self._requests: RotationRequests | None = None
        self._sink: KafkaSink | None = None
        self._polling = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-poller", daemon=True)

    def start(self) -> None:
        """Check the broker and its topics, read where an earlier ingest ended, then connect to the venues.

        Returns before the venues have answered. Raises BrokerUnavailableError, SettingError (too many symbols),
        MissingDependencyError (busy metrics port); nothing is left running then.
        """
        settings = self._settings
        bootstrap = settings.bootstrap()
        # 1. A broker that answers and has the topics: otherwise no socket is opened at all.
        wait_until_ready(bootstrap, BROKER_SECONDS)
        partitions = ensure_topics(settings)[settings.topic_trades]
        resumed = resume.read(settings, [(venue.name, symbol) for venue in self._venues for symbol in self._symbols])
        # 2. Everything that may refuse to start.
        sink = KafkaSink(bootstrap, *settings.topics, partitions=partitions)
        for venue in self._venues:
            self._add(venue, sink)
        self._metrics.start()
        # 3. Threads: delivery reports first, then sockets, which may have something to repair at once.
        self._sink = sink
        self._counters.unacknowledged = lambda: sink.unacknowledged
        self._polling.set()
        self._poller.start()
        for feed in self._feeds:
            feed.resume(resumed)
            feed.start()
        for repairer in self._repairers:
            repairer.start()
        self._requests = RotationRequests(settings, self.rotate, [venue.name for venue in self._venues])
        self._requests.start()

    def _add(self, venue: Venue, sink: KafkaSink) -> None:
        base = self._urls.get(venue.name, self._settings.simulator_url)
        repairer = GapRepair(venue, base, sink, self._counters, LIVE_SHARE)
        feeds = [
            Feed(venue, symbols, base, sink, self._counters, repairer.order)
            for symbols in per_socket(venue, self._symbols)
        ]
        for feed in feeds:
            repairer.watch(feed.watched)
        counters = self._counters.venue(venue.name)
        counters.unsubscribed = lambda: sum(len(feed.subscriptions.unsubscribed) for feed in feeds)
        counters.refused = lambda: sum(len(feed.refused) for feed in feeds)
        self._repairers.append(repairer)
        self._feeds += feeds

    def _poll(self) -> None:
        sink = self._sink
        while sink is not None and self._polling.is_set():
            sink.poll(POLL_SECONDS)

    @property
    def settled(self) -> bool:
        """True if every venue has acknowledged, or refused for good, every symbol on its present connection.

        Binance acknowledges any name, so a venue must also have shown that it lists the symbol (`Feed.settled`).
        """
        return all(feed.settled for feed in self._feeds)

    def wait_subscribed(self, timeout: float) -> dict[tuple[str, str], str]:
        """Wait up to `timeout` seconds until every symbol is `settled`: acknowledged and listed, or refused for good.

        Returns (venue, symbol) → the venue's words, for the symbols refused so far. A venue that cannot be reached is
        not an error: its feed goes on trying. Raises like `check`, but not if every symbol was refused.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not self.settled:
            if not any(feed.alive for feed in self._feeds):
                break
            time.sleep(0.02)
        self._check_threads()
        return {(feed.venue.name, symbol): words for feed in self._feeds for symbol, words in feed.refused.items()}

    def check(self) -> None:
        """Raise an error from which the ingest cannot recover by itself; return if there is none. Call it regularly.

        TerminalError if the producer cannot send any more; the error of a feed or repair whose thread ended, or a
        RetriableError about it; SettingError if the venues refused every symbol.
        """
        self._check_threads()
        if self._feeds and not any(feed.wanted for feed in self._feeds):
            feed = self._feeds[0]
            raise SettingError(
                f"every symbol was refused: {refusals_text(self.wait_subscribed(0.0))}",
                f"symbols that {feed.venue.name} lists",
            )

    def rotate(self) -> list[Rotation]:
        """Ask every feed to replace its socket by a new one, without a break.

        Returns at once one Rotation for each feed; its `done` event and `problem` tell the outcome.
        """
        return [feed.rotate() for feed in self._feeds]

    @property
    def _parts(self) -> tuple[Feed | GapRepair, ...]:
        return (*self._feeds, *self._repairers)

    def _check_threads(self) -> None:
        if self._sink is not None:
            self._sink.check()
        for part in self._parts:
            if isinstance(part.failure, LakehouseError):
                raise part.failure
            if part.failure is not None:
                kind = "feed" if isinstance(part, Feed) else "repair"
                raise RetriableError(f"the {kind} of {part.venue.name} ended: {part.failure!r}") from part.failure

    def stop(self, timeout: float = 15.0) -> int:
        """End in order, within `timeout` seconds; return the number of messages that Kafka has not acknowledged.

        1. Sockets close, after handing over the frames that they have read. Repairs report the ids that they have
        repaired; other ids stay open, for the next start or the job. 2. Wait for Kafka's acknowledgements. 3. End the
        metrics.
        """
        deadline = time.monotonic() + timeout
        # 1. Sockets first: nothing new may come while the queue empties.
        if self._requests is not None:
            self._requests.stop()
        for part in self._parts:
            part.stop()
        if self._sink is not None:
            self._sink.stop_waiting()
        for part in self._parts:
            part.join(deadline - FLUSH_RESERVE_SECONDS - time.monotonic())
        # 2. One deadline covers the joins and this.
        unflushed = self._sink.flush(deadline) if self._sink is not None else 0
        self._polling.clear()
        if self._poller.ident is not None:
            self._poller.join(POLL_SECONDS * 10)
        # 3. Last, so that the end can be watched.
        self._metrics.stop()
        return unflushed

    def stats(self) -> IngestStats:
        """Return the counts and states of this moment, by venue. Any thread may call it, at any time."""
        return IngestStats(
            venues=tuple(self._venue_stats(venue) for venue in self._venues),
            unacknowledged=max(0, self._sink.unacknowledged) if self._sink is not None else 0,
            metrics_port=self._metrics.port,
            kafka_trouble=self._sink.trouble if self._sink is not None else "",
        )

    def acked_marks(self) -> dict[tuple[str, str], int]:
        """Return (venue, symbol) → highest trade id that Kafka has acknowledged; symbols without one are left out."""
        _, symbols = self._counters.snapshot()
        return {(one.venue, one.symbol): one.acked_mark for one in symbols if one.acked_mark is not None}

    def _venue_stats(self, venue: Venue) -> VenueStats:
        feeds = [feed for feed in self._feeds if feed.venue.name == venue.name]
        symbols = self._counters.of_venue(venue.name)
        counters = self._counters.venue(venue.name)
        heard = [feed.last_frame for feed in feeds if feed.last_frame is not None]
        with counters.lock:
            rejected = counters.rejected.total()
        return VenueStats(
            venue=venue.name,
            connected=bool(feeds) and all(feed.connected for feed in feeds),
            subscribed=tuple(sorted(symbol for feed in feeds for symbol in feed.subscribed)),
            refused={symbol: words for feed in feeds for symbol, words in feed.refused.items()},
            unsubscribed={symbol: words for feed in feeds for symbol, words in feed.subscriptions.unsubscribed.items()},
            produced=sum(symbol.produced + symbol.repair_sent for symbol in symbols),
            acked=sum(symbol.acked for symbol in symbols),
            duplicates=sum(symbol.duplicates for symbol in symbols),
            rejected=rejected,
            gaps=sum(symbol.gaps for symbol in symbols),
            missing=sum(symbol.missing for symbol in symbols),
            repaired=sum(symbol.repaired for symbol in symbols),
            unavailable=sum(symbol.unavailable for symbol in symbols),
            open_ids=sum(symbol.open_ids for symbol in symbols),
            requests=counters.requests,
            budget_used=counters.budget_used(),
            rotations=counters.rotations,
            reconnects=counters.reconnects,
            last_message_age=max(0.0, time.monotonic() - max(heard)) if heard else None,
            last_error=next((feed.last_error for feed in feeds if feed.last_error), ""),
        )


def per_socket(venue: Venue, symbols: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the parts of `symbols`, one for each socket, halved until each keeps the venue's limits of a connection.

    Usually there is one part. Raises SettingError if a single symbol exceeds a limit.
    """
    try:
        venue.subscribe(symbols)
        venue.websocket_url(None, symbols)
    except SettingError:
        if len(symbols) == 1:
            raise
        middle = len(symbols) // 2
        yield from per_socket(venue, symbols[:middle])
        yield from per_socket(venue, symbols[middle:])
    else:
        yield symbols
