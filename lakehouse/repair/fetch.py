"""Fetch the trades of gaps that ingest has left open in the ledger, because it died, was down, or gave up.

Unavailable ids, which a venue lacked before, are asked for last: some venues publish skipped rows minutes later.

Guarantee: the ids reported as repaired are in Kafka, acknowledged. The rest may be asked for again at any time; a trade
that was there already is a duplicate, which Silver counts and drops.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.broker.topics import ensure_topics, wait_until_ready
from lakehouse.continuity.gaps import LedgerGap
from lakehouse.errors import RetriableError
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.ingest.backfill_queue import BackfillOrder
from lakehouse.ingest.gap_repair import GapRepair
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.ingest.rate_limit import JOB_SHARE
from lakehouse.settings import Settings

#: Most seconds for the broker to answer.
BROKER_SECONDS = 10.0
#: Seconds of one wait for delivery reports.
POLL_SECONDS = 0.1
#: Most seconds, at the end, for threads to end and Kafka to acknowledge.
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class FetchReport:
    """The result of fetching gaps, as numbers of trade ids, except `requests` (to the REST APIs).

    `gaps` counts all ids of the gaps; each is `repaired`, `unavailable` (lacking at the venue) or `left`.
    """

    gaps: int
    repaired: int
    unavailable: int
    left: int
    requests: int


class _Wanted:
    """The ids of one symbol's gaps, as the target of a repair."""

    def __init__(self) -> None:
        self.missing = IdRanges()
        self.repaired = 0
        self.gone = 0

    def still_missing(self, first: int, last: int) -> list[IdRange]:
        return self.missing.within(first, last)

    def delivered(self, first: int, last: int) -> None:
        self.repaired += self.missing.remove(first, last)

    def unavailable(self, first: int, last: int) -> None:
        self.gone += self.missing.remove(first, last)


def fetch_gaps(
    settings: Settings, gaps: Sequence[LedgerGap], stop: threading.Event | None = None, timeout: float = 300.0
) -> FetchReport:
    """Fetch the trades of these gaps over REST and send them to Kafka's topic of trades, the outcome to feed events.

    Ends when all are done, when `stop` is set, or after `timeout` seconds. Uses a quarter of the venues' request
    budgets, so that it may run beside an ingest. Raises BrokerUnavailableError if no broker answers, SettingError for
    an unknown venue, RetriableError if a repairing thread failed, TerminalError if Kafka refused a message for good.
    """
    deadline = time.monotonic() + timeout
    stop = stop or threading.Event()
    by_venue: dict[str, list[LedgerGap]] = defaultdict(list)
    for gap in gaps:
        by_venue[gap.venue].append(gap)
    venues = {name: find_venue(name) for name in by_venue}
    if not gaps:
        return FetchReport(0, 0, 0, 0, 0)
    wait_until_ready(settings.bootstrap(), BROKER_SECONDS)
    partitions = ensure_topics(settings)[settings.topic_trades]
    sink = KafkaSink(settings.bootstrap(), *settings.topics, partitions=partitions, client_id="repair")
    counters = Counters()
    wanted: dict[tuple[str, str], _Wanted] = defaultdict(_Wanted)
    repairers = []
    for name, of in by_venue.items():
        repairer = GapRepair(venues[name], settings.simulator_url, sink, counters, JOB_SHARE)
        for gap in of:
            target = wanted[name, gap.symbol]
            target.missing.add(gap.first_id, gap.last_id)
            times = gap.ts_before, gap.ts_after
            repairer.order(BackfillOrder(gap.symbol, target, gap.first_id, gap.last_id, *times, again=gap.tries > 0))
        repairers.append(repairer)
    asked = sum(one.missing.count() for one in wanted.values())
    for repairer in repairers:
        repairer.start()
    try:
        _wait(repairers, sink, stop, deadline)
    finally:
        _end(repairers, sink)
    sink.check()
    repaired, gone = (sum(getattr(one, name) for one in wanted.values()) for name in ("repaired", "gone"))
    requests = sum(counters.venue(name).requests for name in by_venue)
    return FetchReport(asked, repaired, gone, asked - repaired - gone, requests)


def _wait(repairers: list[GapRepair], sink: KafkaSink, stop: threading.Event, deadline: float) -> None:
    while not stop.is_set() and time.monotonic() < deadline and not all(one.is_idle for one in repairers):
        sink.poll(POLL_SECONDS)
        sink.check()
        for repairer in repairers:
            if repairer.failure is not None:
                raise RetriableError(
                    f"the repair of {repairer.venue.name} ended: {repairer.failure!r}"
                ) from repairer.failure


def _end(repairers: list[GapRepair], sink: KafkaSink) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for repairer in repairers:
        repairer.stop()
    sink.stop_waiting()
    while time.monotonic() < deadline and not all(repairer.join(0.0) for repairer in repairers):
        sink.poll(POLL_SECONDS)
    sink.flush(max(deadline, time.monotonic() + 1.0))
