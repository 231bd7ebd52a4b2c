"""A broker of the test's own that is killed in every way: messages stay, nothing is left over, the port stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.home import BrokerHome
from lakehouse.broker.stored import stored_end_offsets
from lakehouse.broker.topics import end_offsets, ensure_topics
from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake.table_io import ensure_tables
from lakehouse.status.snapshot import collect
from tests.broker.test_broker import consume, produce
from tests.conftest import SettingsFactory

pytestmark = pytest.mark.kafka


def ended(pid: int, seconds: float) -> bool:
    """True if the process is gone, or a zombie that nobody will reap, within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def command_line_broker(home: Path) -> tuple[subprocess.Popen[str], str]:
    """`lakehouse broker` in a process, ready; and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lakehouse", "broker", "--home", str(home)],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Kafka is ready at 127.0.0.1:"), process.communicate(timeout=10)
    return process, line.split()[-1]


def test_killed_in_every_way(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    endpoint = settings.broker_home / "endpoint"

    # 1. The command line; messages are acknowledged; then kill -9 of the command, so that nothing can tidy up.
    process, first = command_line_broker(settings.home)
    with process:
        produce(first, settings.topic_trades, 500)
        jvm = next(child.pid for child in psutil.Process(process.pid).children() if child.name() == "java")
        process.kill()
    assert ended(jvm, 3), "the JVM must not outlive the process that started it"
    assert endpoint.read_text().strip() == first, "stale, as nobody could remove it"

    # 2. The next start on that home: same port, same messages.
    embedded = EmbeddedBroker(settings)
    embedded.start()
    try:
        assert embedded.bootstrap == first
        assert consume(first, settings.topic_trades, 500) == [str(number).encode() for number in range(500)]
        assert ensure_topics(settings)[settings.topic_trades] == 6

        # 3. kill -9 of the JVM: the endpoint goes, messages stay.
        produce(first, settings.topic_trades, 250)
        assert embedded.pid is not None
        os.kill(embedded.pid, signal.SIGKILL)
        assert _until(lambda: not endpoint.exists())
        assert not embedded.alive
        with pytest.raises(BrokerUnavailableError):
            settings.bootstrap()
    finally:
        embedded.stop()
    embedded.stop()  # Once more does no harm.
    assert not endpoint.exists()

    # 4. The command again, with all messages; SIGTERM ends it in order.
    process, again = command_line_broker(settings.home)
    with process:
        assert again == first
        assert end_offsets(first, [settings.topic_trades])[settings.topic_trades][0] == 750
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert not endpoint.exists()

    # 5. Its content is still known, also to `lakehouse status`.
    assert stored_end_offsets(settings.broker_home, [settings.topic_trades])[settings.topic_trades][0] == 750
    ensure_tables(settings)
    snapshot = collect(settings)
    assert snapshot.table("bronze/messages").lag == snapshot.table("silver/trades").lag == 750
    assert "its newest messages are known from its files" in snapshot.broker


def _until(condition: object, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return True
        time.sleep(0.02)
    return False


def test_a_start_that_fails_says_why_in_kafkas_words_and_leaves_nothing(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    home = BrokerHome(settings.broker_home)
    home.data.mkdir(parents=True)
    # Data of another cluster: Kafka itself refuses it.
    (home.folder / "formatted").touch()
    (home.data / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n")
    embedded = EmbeddedBroker(settings)
    with pytest.raises(
        BrokerUnavailableError, match=r"^Kafka ended while starting: .*node id.*; see .*logs$"
    ) as caught:
        embedded.start()
    assert "\n" not in str(caught.value)
    assert embedded.pid is None
    assert not home.endpoint.exists()
    os.close(home.acquire())  # It is free again.
