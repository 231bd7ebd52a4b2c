"""The counters of an ingest service, and its Prometheus endpoint on 127.0.0.1.

Counters are plain attributes of one object per (venue, symbol), each written by one thread at a time. They become
Prometheus metrics only when somebody scrapes, so a trade costs an addition, not a labelled lookup behind a lock.
"""

from __future__ import annotations

import errno
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lakehouse.errors import MissingDependencyError
from lakehouse.ingest.clock_skew import Clocks

#: Upper bounds, in seconds, of the histogram of latency from event time to Kafka's acknowledgement: from a producer's
#: linger on localhost to a repaired minute.
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_BOUNDS = tuple(round(bound * 1_000_000) for bound in LATENCY_BUCKETS)


@dataclass(slots=True)
class SymbolCounters:
    """Counts of one (venue, symbol) since the start of the service.

    The counts up to `repair_sent` are written under the lock of the symbol's `SymbolSequence` or by the repair's
    thread, the others under the producer's lock.
    """

    venue: str
    symbol: str
    produced: int = 0  #: trades of a socket handed to the producer, duplicates included
    duplicates: int = 0  #: trades whose id had been seen before; they are produced as well, the table deduplicates
    late: int = 0  #: trades that arrived after a higher id
    gaps: int = 0  #: gaps opened
    missing: int = 0  #: ids in those gaps
    repaired: int = 0  #: missing ids that were fetched over REST and acknowledged by Kafka
    unavailable: int = 0  #: missing ids that the venue lacks
    open_ids: int = 0  #: trade ids missing at this moment
    repair_sent: int = 0  #: trades of a repair handed to the producer; belongs to the repair's thread

    acked: int = 0  #: trades that Kafka has acknowledged, repaired ones included
    acked_mark: int | None = None  #: highest trade id that Kafka has acknowledged; None before the first
    ahead_of_clock: int = 0  #: acknowledged trades whose event time lies ahead of this machine's clock
    latency_sum: int = 0  #: sum of latencies in microseconds, negative ones counted as 0
    latency_counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))

    def acknowledged(self, trade_id: int, latency: int) -> None:
        """Count a socket's trade that Kafka acknowledged `latency` µs after its time; negative if clocks disagree."""
        self.acked += 1
        if self.acked_mark is None or trade_id > self.acked_mark:
            self.acked_mark = trade_id
        if latency < 0:
            self.ahead_of_clock += 1
            latency = 0
        self.latency_sum += latency
        self.latency_counts[bisect_left(_BOUNDS, latency)] += 1

    def repair_acknowledged(self, trade_id: int) -> None:
        """Count a repaired trade that Kafka acknowledged, without a latency, because its event time may be long ago."""
        self.acked += 1
        if self.acked_mark is None or trade_id > self.acked_mark:
            self.acked_mark = trade_id


@dataclass(slots=True)
class VenueCounters:
    """Counts of one venue since the start of the service, shared by its sockets and its repair.

    `lock` protects the counts that several sockets write.
    """

    venue: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    reconnects: int = 0
    rotations: int = 0
    rotations_failed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    requests: int = 0  #: to the REST API; this and the next two belong to the repair's thread
    refusals: int = 0  #: requests not answered, limited, or answered with an error
    budget_used: Callable[[], float] = lambda: 0.0  #: share of the venue's REST budget used in its window up to now
    unsubscribed: Callable[[], int] = lambda: 0  #: number of symbols not subscribed now, which are asked for again
    refused: Callable[[], int] = lambda: 0  #: number of symbols that the venue does not list

    def reconnected(self) -> None:
        with self.lock:
            self.reconnects += 1

    def rotated(self, is_done: bool) -> None:
        """Count a rotation (the replacement of a socket by a new one) as done, or as failed if not `is_done`."""
        with self.lock:
            self.rotations += is_done
            self.rotations_failed += not is_done

    def reject(self, reason: str) -> None:
        with self.lock:
            self.rejected[reason] += 1


class Counters:
    """All counters of one ingest service, by venue and by (venue, symbol), and its clocks. Thread-safe."""

    def __init__(self) -> None:
        self.venues: dict[str, VenueCounters] = {}
        self.symbols: dict[tuple[str, str], SymbolCounters] = {}
        self.clocks = Clocks()
        self.unacknowledged: Callable[[], int] = lambda: 0  #: messages without Kafka's reply; the service sets it
        self._lock = threading.Lock()

    def venue(self, venue: str) -> VenueCounters:
        """Return the counters of a venue, made on first use."""
        with self._lock:
            return self.venues.setdefault(venue, VenueCounters(venue))

    def symbol(self, venue: str, symbol: str) -> SymbolCounters:
        """Return the counters of a (venue, symbol), made on first use. Keep the result: each call takes a lock."""
        with self._lock:
            return self.symbols.setdefault((venue, symbol), SymbolCounters(venue, symbol))

    def of_venue(self, venue: str) -> list[SymbolCounters]:
        """Return the counters of all symbols of a venue."""
        with self._lock:
            return [counters for (owner, _), counters in self.symbols.items() if owner == venue]

    def snapshot(self) -> tuple[list[VenueCounters], list[SymbolCounters]]:
        """Return (all venues' counters, all symbols' counters), as lists to which later counters are not added."""
        with self._lock:
            return list(self.venues.values()), list(self.symbols.values())


class _Exporter(Collector):
    """Reads `Counters` at scrape time."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        venues, symbols = self._counters.snapshot()
        per_symbol: Sequence[tuple[str, str, str]] = (
            ("events_produced", "Trades handed to the Kafka producer.", "produced"),
            ("events_acknowledged", "Trades acknowledged by Kafka.", "acked"),
            ("events_ahead_of_clock", "Acknowledged trades with an event time after our clock.", "ahead_of_clock"),
            ("duplicate_events", "Trades received again.", "duplicates"),
            ("late_events", "Trades received after a higher id.", "late"),
            ("gaps_opened", "Gaps in the trade ids.", "gaps"),
            ("missing_events", "Trade ids in the gaps when they opened.", "missing"),
            ("repaired_events", "Missing trade ids that were fetched over REST and acknowledged by Kafka.", "repaired"),
            ("unavailable_events", "Missing trade ids that the venue no longer has.", "unavailable"),
        )
        for name, text, attribute in per_symbol:
            family = CounterMetricFamily(name, text, labels=("venue", "symbol"))
            for one in symbols:
                family.add_metric((one.venue, one.symbol), getattr(one, attribute))
            yield family
        open_ids = GaugeMetricFamily("open_gap_events", "Trade ids missing now.", labels=("venue", "symbol"))
        for one in symbols:
            open_ids.add_metric((one.venue, one.symbol), one.open_ids)
        yield open_ids
        yield self._latency(symbols)
        yield from self._per_venue(venues)
        offset = GaugeMetricFamily(
            "clock_offset_seconds",
            "Event time to receipt by this machine's clock, the median of live trades; negative if the clock is slow.",
            labels=("venue",),
        )
        for name, one_offset in self._counters.clocks.offsets().items():
            offset.add_metric((name,), one_offset.seconds)
        yield offset
        yield GaugeMetricFamily(
            "unacknowledged", "Messages produced and not yet acknowledged.", value=self._counters.unacknowledged()
        )

    def _latency(self, symbols: Sequence[SymbolCounters]) -> Metric:
        latency = HistogramMetricFamily(
            "event_production_latency_seconds",
            "Event time to Kafka's acknowledgement; negative ones are in the first bucket.",
            labels=("venue", "symbol"),
        )
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        for one in symbols:
            # The histogram's count is its last bucket, so the copy keeps both consistent while callbacks go on.
            buckets = list(zip(bounds, accumulate(list(one.latency_counts)), strict=True))
            latency.add_metric((one.venue, one.symbol), buckets, one.latency_sum / 1_000_000)
        return latency

    def _per_venue(self, venues: Sequence[VenueCounters]) -> Iterator[Metric]:
        per_venue: Sequence[tuple[str, str, str]] = (
            ("reconnects", "Connections made because one had ended.", "reconnects"),
            ("rotations", "Sockets that took over from another without a break.", "rotations"),
            ("rotations_failed", "Sockets that were to take over and could not.", "rotations_failed"),
            ("rest_requests", "Requests to the venue's REST API.", "requests"),
            ("rest_refusals", "REST requests that were not answered, limited or answered with an error.", "refusals"),
        )
        for name, text, attribute in per_venue:
            family = CounterMetricFamily(name, text, labels=("venue",))
            for venue in venues:
                family.add_metric((venue.venue,), getattr(venue, attribute))
            yield family
        used = GaugeMetricFamily(
            "rest_budget_used_ratio", "Share of the venue's request budget in its window up to now.", labels=("venue",)
        )
        for venue in venues:
            used.add_metric((venue.venue,), venue.budget_used())
        yield used
        for name, text, attribute in (
            ("symbols_unsubscribed", "Symbols that the venue does not let us have now.", "unsubscribed"),
            ("symbols_refused", "Symbols that the venue does not have.", "refused"),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("venue",))
            for venue in venues:
                gauge.add_metric((venue.venue,), getattr(venue, attribute)())
            yield gauge
        rejected = CounterMetricFamily(
            "rejected_frames", "Frames, or parts, that could not be read.", labels=("venue", "reason")
        )
        for venue in venues:
            with venue.lock:
                reasons = list(venue.rejected.items())
            for reason, count in reasons:
                rejected.add_metric((venue.venue, reason), count)
        yield rejected


class MetricsServer:
    """The Prometheus endpoint of one ingest service, on `port` of 127.0.0.1 (0: any free port).

    It has a registry of its own, so that one process can run several services.
    """

    def __init__(self, counters: Counters, port: int) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Exporter(counters))
        self._wanted = port
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen on 127.0.0.1. Raises MissingDependencyError if the port is taken or not permitted."""
        try:
            self._server, self._thread = start_http_server(self._wanted, "127.0.0.1", self._registry)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise MissingDependencyError(
                f"metrics port {self._wanted} of 127.0.0.1 cannot be used ({error.strerror})",
                "a free one",
                "set LAKEHOUSE_METRICS_PORT or --metrics-port, or 0 to take any free port",
            ) from None

    @property
    def port(self) -> int:
        """The port on which the endpoint listens; 0 before `start` and after `stop`."""
        return 0 if self._server is None else int(self._server.server_port)

    def stop(self) -> None:
        """Stop listening. Does nothing if it never started."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(5)
            self._server.server_close()
            self._server = self._thread = None
