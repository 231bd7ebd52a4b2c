"""The Prometheus endpoint, over real HTTP."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lakehouse.errors import MissingDependencyError
from lakehouse.ingest.metrics import Counters, MetricsServer


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_counted_is_what_is_scraped() -> None:
    counters = Counters()
    counters.unacknowledged = lambda: 7
    flow = counters.symbol("kraken", "BTC/USDT")
    flow.produced, flow.gaps, flow.missing = 4, 1, 12
    for latency in (-2_000_000, 10_000, 30_000, 3_600_000_000):
        flow.acknowledged(5, latency)
    counters.venue("kraken").reconnected()
    counters.venue("kraken").reject("not_json")
    counters.venue("kraken").unsubscribed, counters.venue("kraken").refused = lambda: 2, lambda: 1
    server = MetricsServer(counters, 0)
    server.start()
    try:
        samples = scrape(server.port)
    finally:
        server.stop()
    labels = (("symbol", "BTC/USDT"), ("venue", "kraken"))
    assert samples["events_produced_total", labels] == 4
    assert samples["events_acknowledged_total", labels] == 4
    assert samples["events_ahead_of_clock_total", labels] == 1
    assert samples["gaps_opened_total", labels] == 1
    assert samples["missing_events_total", labels] == 12
    assert samples["reconnects_total", (("venue", "kraken"),)] == 1
    assert samples["rejected_frames_total", (("reason", "not_json"), ("venue", "kraken"))] == 1
    assert samples["symbols_unsubscribed", (("venue", "kraken"),)] == 2
    assert samples["symbols_refused", (("venue", "kraken"),)] == 1
    assert samples["unacknowledged", ()] == 7
    name = "event_production_latency_seconds"
    buckets = {dict(key[1])["le"]: value for key, value in samples.items() if key[0] == f"{name}_bucket"}
    assert buckets["0.01"] == 2  # the negative one is clamped, an upper bound belongs to its bucket
    assert buckets["0.025"] == 2
    assert buckets["0.05"] == 3
    assert buckets["60.0"] == 3
    assert buckets["+Inf"] == samples[f"{name}_count", labels] == 4
    assert samples[f"{name}_sum", labels] == pytest.approx(3600.04)


def test_many_services_in_one_process_and_a_busy_port_is_one_line() -> None:
    first, second = MetricsServer(Counters(), 0), MetricsServer(Counters(), 0)
    first.start()
    second.start()
    try:
        assert first.port != second.port
        busy = MetricsServer(Counters(), first.port)
        with pytest.raises(MissingDependencyError, match=f"metrics port {first.port}"):
            busy.start()
        busy.stop()
    finally:
        first.stop()
        second.stop()
    first.stop()
