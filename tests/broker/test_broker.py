"""The embedded Kafka, for real: topics, offsets, and what a person is told when it cannot start or does not answer."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.ports import FREE_PORTS, free_port, holder, is_free, require_free
from lakehouse.broker.topics import (
    TOPIC_CONFIG,
    add_partitions,
    cluster_id,
    end_offsets,
    ensure_topics,
    wait_until_ready,
)
from lakehouse.errors import BrokerUnavailableError, MissingDependencyError, SettingError
from lakehouse.settings import Settings
from tests.conftest import SettingsFactory

pytestmark = pytest.mark.kafka


def produce(bootstrap: str, topic: str, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=partition)
    assert producer.flush(20) == 0


def consume(bootstrap: str, topic: str, count: int, partition: int = 0) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(values) < count and time.monotonic() < deadline:
        for message in consumer.consume(count, timeout=0.5):
            value = message.value()
            assert message.error() is None
            assert value is not None
            values.append(value)
    consumer.close()
    return values


def test_messages_and_end_offsets(broker: EmbeddedBroker, kafka_settings: Settings) -> None:
    topic = kafka_settings.topic_trades
    produce(broker.bootstrap, topic, 1000, partition=2)
    assert consume(broker.bootstrap, topic, 1000, partition=2) == [str(n).encode() for n in range(1000)]
    assert end_offsets(broker.bootstrap, [topic, kafka_settings.topic_rejected, "no-such-topic"]) == {
        topic: {0: 0, 1: 0, 2: 1000, 3: 0, 4: 0, 5: 0},
        kafka_settings.topic_rejected: {0: 0},
        "no-such-topic": {},
    }


def test_topics_are_made_once_and_kept(
    kafka_settings: Settings, settings_factory: SettingsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    names = dict(zip(("topic_trades", "topic_rejected", "topic_feed_events"), kafka_settings.topics, strict=True))
    wider, narrower = (
        settings_factory(bootstrap_servers=kafka_settings.bootstrap(), topic_partitions=count, **names)
        for count in (9, 4)
    )
    kept = dict.fromkeys(names.values(), 1) | {kafka_settings.topic_trades: 6}
    with caplog.at_level(logging.WARNING):
        assert ensure_topics(narrower) == kept
        assert "stays as it is" not in caplog.text  # more than set are no matter
        assert ensure_topics(wider) == kept
    assert "has 6 partitions, set are 9; it stays as it is (`topics --partitions 9` adds some)" in caplog.text


def test_partitions_are_added_on_request_only(kafka_settings: Settings) -> None:
    bootstrap, topic = kafka_settings.bootstrap(), kafka_settings.topic_trades
    produce(bootstrap, topic, 10, partition=5)
    add_partitions(kafka_settings, 6)
    with pytest.raises(SettingError, match=r"5 partitions for .*; expected 6 or more: Kafka removes none"):
        add_partitions(kafka_settings, 5)
    add_partitions(kafka_settings, 8)
    produce(bootstrap, topic, 3, partition=7)
    expected = {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 10, 6: 0, 7: 3}
    assert end_offsets(bootstrap, [topic]) == {topic: expected}
    assert ensure_topics(kafka_settings)[topic] == 8
    nowhere = kafka_settings.model_copy(update={"topic_trades": "no-such-topic"})
    with pytest.raises(SettingError, match="no topic no-such-topic"):
        add_partitions(nowhere, 8)


def test_topics_keep_trades_for_a_week(broker: EmbeddedBroker, kafka_settings: Settings) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

    resource = ConfigResource(ConfigResource.Type.TOPIC, kafka_settings.topic_trades)
    client = AdminClient({"bootstrap.servers": broker.bootstrap})
    found = client.describe_configs([resource])[resource].result(10)
    assert {name: found[name].value for name in TOPIC_CONFIG} == TOPIC_CONFIG
    assert TOPIC_CONFIG["retention.ms"] == "604800000"


def test_two_processes_may_make_the_topics_at_once(
    broker: EmbeddedBroker, settings_factory: SettingsFactory, topics: dict[str, str]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    settings = settings_factory(bootstrap_servers=broker.bootstrap, **topics)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: ensure_topics(settings), range(4)))
    assert results == [{topics["topic_trades"]: 6, topics["topic_rejected"]: 1, topics["topic_feed_events"]: 1}] * 4


def test_a_misspelt_topic_does_not_appear(broker: EmbeddedBroker) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 1500})
    errors: list[str] = []
    producer.produce("crypto.tradse", b"x", on_delivery=lambda error, _: errors.append(str(error)))
    producer.flush(5)
    assert len(errors) == 1
    assert end_offsets(broker.bootstrap, ["crypto.tradse"]) == {"crypto.tradse": {}}


def test_it_listens_on_localhost_only(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    listening = [
        c.laddr.ip for c in psutil.Process(broker.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_broker_that_is_down_is_one_line_and_stderr_stays_clean(
    settings_factory: SettingsFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    begin = time.monotonic()
    expected = rf"^no Kafka broker answered at {address} within 1 s \(.*refused.*; start one with `lakehouse broker`"
    with pytest.raises(BrokerUnavailableError, match=expected) as caught:
        wait_until_ready(address, 1.0)
    with pytest.raises(BrokerUnavailableError):
        ensure_topics(settings_factory(bootstrap_servers=address), timeout=0.5)
    with pytest.raises(BrokerUnavailableError):
        end_offsets(address, ["x"], timeout=0.5)
    assert cluster_id(address, 0.5) is None
    assert time.monotonic() - begin < 6
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_busy_port_is_one_line(settings_factory: SettingsFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        embedded = EmbeddedBroker(settings_factory(broker_port=port))
        begin = time.monotonic()
        with pytest.raises(MissingDependencyError, match=rf"^port {port} of 127\.0\.0\.1 is in use.*; expected a free"):
            embedded.start()
        assert time.monotonic() - begin < 3
    assert embedded.pid is None


def test_a_second_broker_on_one_home_is_one_line(broker: EmbeddedBroker, settings_factory: SettingsFactory) -> None:
    home = broker._settings.home
    with pytest.raises(MissingDependencyError, match=r"^a broker already runs in .* \(started by pid \d+\)"):
        EmbeddedBroker(settings_factory(home=home)).start()
    assert (home / "broker" / "endpoint").read_text().strip() == broker.bootstrap, "the first one's, untouched"
    wait_until_ready(broker.bootstrap, 5)


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path, settings_factory: SettingsFactory) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MissingDependencyError, match=r"^cannot write .*file/broker"):
        EmbeddedBroker(settings_factory(home=tmp_path / "file")).start()


def test_doctor_tells_a_broker_that_answers_from_one_that_does_not(broker: EmbeddedBroker, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lakehouse", "doctor", "--home", str(tmp_path)]
    for address, code, text in (
        (broker.bootstrap, 0, f"answers at {broker.bootstrap}"),
        (f"127.0.0.1:{free_port()}", 1, "within 5 s"),
    ):
        environment = {"LAKEHOUSE_BOOTSTRAP_SERVERS": address, "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        kafka = next(line for line in done.stdout.splitlines() if "Kafka" in line)
        assert text in kafka
        assert (done.returncode, done.stderr) == (code, "")


def test_ports() -> None:
    port = free_port()
    assert port in FREE_PORTS
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert f"pid {psutil.Process().pid}" in (holder(port) or "")
        with pytest.raises(MissingDependencyError, match=rf"port {port} .* expected a free port for tests; go away"):
            require_free(port, "tests", "go away")
    assert is_free(port)
