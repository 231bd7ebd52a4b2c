"""Fixtures for everybody: settings in a temporary home, the one embedded Kafka and the one Spark of the test run.

`make test` runs two processes. What asks for Kafka or Spark, and what starts a lakehouse of processes of its own, is in
one of them, so there is one broker and one session, and never two lakehouses at once; the rest is beside it, a module
at a time.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SettingsFactory = Callable[..., Settings]

#: A test with one of these fixtures or marks belongs to the process that has the broker and the session.
HEAVY = {"broker", "spark", "kafka", "browser"}

#: Where the machine's Java and jars are is the machine's business; every other setting is the test's.
KEPT = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asked = {*getattr(item, "fixturenames", ()), *(mark.name for mark in item.iter_markers())}
        item.add_marker(pytest.mark.xdist_group("heavy" if asked & HEAVY else item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LAKEHOUSE_") and name not in KEPT:
            monkeypatch.delenv(name)


@pytest.fixture
def settings_factory(tmp_path: Path) -> SettingsFactory:
    """Settings whose home is the test's temporary folder; keyword arguments override."""

    def make(**overrides: Any) -> Settings:
        return load_settings(**({"home": tmp_path / "home"} | overrides))

    return make


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The one Kafka of the test run, ready. Starts with the first test that asks for it."""
    embedded = EmbeddedBroker(load_settings(home=tmp_path_factory.mktemp("broker")))
    with embedded:
        yield embedded


@pytest.fixture
def topics() -> dict[str, str]:
    """Topic names that no other test uses, as keyword arguments of Settings."""
    run = uuid.uuid4().hex[:8]
    return {
        "topic_trades": f"trades-{run}",
        "topic_rejected": f"rejected-{run}",
        "topic_feed_events": f"events-{run}",
    }


@pytest.fixture
def kafka_settings(broker: EmbeddedBroker, topics: dict[str, str], settings_factory: SettingsFactory) -> Settings:
    """Settings on the shared broker, with topics of this test's own, created."""
    settings = settings_factory(bootstrap_servers=broker.bootstrap, **topics)
    ensure_topics(settings)
    return settings


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of the test run."""
    from lakehouse.streams.session import build_session, end_session

    yield build_session(load_settings(home=tmp_path_factory.mktemp("spark")))
    end_session(60)
