"""An outage of all sockets, and how long its repair takes: figures for docs/reliability.md.

    python -m tests.support.ingest_outage --seconds 60 --rate 500

A real broker, a simulated exchange with the venues' request limits, one ingest service. Ends with an error where a
trade is missing at the end, or a limit was touched.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.ingest.metrics import LATENCY_BUCKETS
from lakehouse.ingest.service import IngestService
from lakehouse.settings import Settings, load_settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import events_of, running, same, until_whole
from tests.support.ingest_tools import until

#: Seconds before and after the outage in which trades simply flow.
FLOW_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=500.0, help="trades per second over all venues")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home")
        with EmbeddedBroker(settings) as broker:
            settings = settings.model_copy(update={"bootstrap_servers": broker.bootstrap})
            ensure_topics(settings)
            simulated = SimulatorOptions(record=Path(folder) / "record", rate=options.rate)
            with SimulatorServer(simulated) as simulator, running(settings, simulator) as service:
                play(settings, simulator, service, options.seconds)


def play(settings: Settings, simulator: SimulatorServer, service: IngestService, seconds: float) -> None:
    """The outage and its repair, printed."""
    assert service.wait_subscribed(10) == {}
    time.sleep(FLOW_SECONDS)
    simulator.fault("outage", seconds=seconds)
    until(lambda: not any(one.connected for one in service.stats().venues))
    until(lambda: all(one.connected for one in service.stats().venues), seconds + 40)
    began = time.monotonic()
    repaired: dict[str, float] = {}
    before = latencies(service)
    while len(repaired) < len(service.stats().venues):
        for one in service.stats().venues:
            if one.venue not in repaired and one.missing and not one.open_ids:
                repaired[one.venue] = time.monotonic() - began
        time.sleep(0.05)
        assert time.monotonic() - began < 600, service.stats()
    live = [after - earlier for after, earlier in zip(latencies(service), before, strict=True)]
    time.sleep(FLOW_SECONDS)
    simulator.pause()
    until_whole(settings, simulator, service, 60)
    same(settings, simulator)
    rest = simulator.status()["rest"]
    print(f"outage of {seconds:g} s at {simulator.options.rate:g} trades/s; Kafka equals the record")
    for one in service.stats().venues:
        print(
            f"{one.venue}: {one.missing:,} trades missed in {one.gaps} gaps, {one.repaired:,} repaired "
            f"{repaired[one.venue]:.1f} s after the reconnect with {one.requests} requests, "
            f"{rest[one.venue]['peak_share']:.0%} of the budget at most, {rest[one.venue]['limited']} refused"
        )
        assert not rest[one.venue]["limited"]
    bounds = [*(f"{bound * 1000:g} ms" for bound in LATENCY_BUCKETS), "more"]
    shown = ", ".join(f"≤ {bound}: {count}" for bound, count in zip(bounds, live, strict=True) if count)
    print(f"live trades meanwhile, event to acknowledgement: {shown}")
    print(
        f"events: {len(events_of(settings, 'gap_opened'))} opened, {len(events_of(settings, 'gap_repaired'))} repaired"
    )


def latencies(service: IngestService) -> list[int]:
    """Live trades by latency, all symbols."""
    flows = service._counters.snapshot()[1]
    return [sum(counts) for counts in zip(*(flow.latency_counts for flow in flows), strict=True)]


if __name__ == "__main__":
    main()
