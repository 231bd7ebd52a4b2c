"""Fixtures for everybody: settings in a temporary home, and one embedded Kafka and one Spark for each test process.

`make test` runs two processes, which share the tests as they get free. Tests that start a lakehouse of processes of
their own bear the mark `lakehouse`: there are never two of them at once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.simulator.server import SimulatorServer

# No example is timed: a machine that does other work is slow, and no test is about speed.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

# A shell starts what it puts into the background with Ctrl-C ignored, and processes that tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SettingsFactory = Callable[..., Settings]

#: Where the machine's Java and jars are is the machine's business; every other setting is the test's.
KEPT = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL")


@pytest.fixture(autouse=True)
def _one_lakehouse_at_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a test that starts a lakehouse of its own wait until no other process of the run has one."""
    if request.node.get_closest_marker("lakehouse") is None:
        yield
        return
    # The folder above a process's own is common to the processes of a run; alone, its parent is common to all runs.
    with (tmp_path_factory.getbasetemp().parent / "lakehouse.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
    """The one Kafka of this test process, ready. Starts with the first test that asks for it."""
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


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    """A simulated exchange that makes 600 trades a second. Tests that need another one have a fixture of this name."""
    from lakehouse.simulator.options import SimulatorOptions
    from lakehouse.simulator.server import SimulatorServer

    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=600)) as server:
        yield server


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of this test process."""
    from lakehouse.runtime.spark_session import build_session

    session = build_session(load_settings(home=tmp_path_factory.mktemp("spark")))
    yield session
    session.stop()
