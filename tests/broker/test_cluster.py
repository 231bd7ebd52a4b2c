"""Three real brokers, two of them killed one after the other: what was acknowledged is there, once and in order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from lakehouse.broker.home import BrokerHome, Cluster, Ports
from lakehouse.broker.ports import holder
from lakehouse.broker.topics import Admin, ensure_topics
from lakehouse.errors import BrokerUnavailableError, LakehouseError, MissingDependencyError, SettingError
from lakehouse.exchanges.model import Trade
from lakehouse.ingest.metrics import SymbolCounters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.settings import Settings, load_settings
from tests.support.dagster_stack import wait_for
from tests.support.embedded_cluster import EmbeddedCluster
from tests.support.ingest_tools import messages

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "ADA/USDT")
#: Messages a second and key: enough that some are under way whenever a node dies.
RATE = 100
#: A dead node's leaderships move when its session ends, which takes Kafka 9 s, and half of that here (`SESSION`).
FAILOVER_SECONDS = 40.0
#: Kafka's settings for a node's session, in ms, as lines of server.properties; still long for a machine that is busy.
SESSION = "broker.session.timeout.ms=4500\nbroker.heartbeat.interval.ms=500\n"


class Acks(SymbolCounters):
    """Remembers each acknowledged id, in the order of the reports."""

    def __init__(self, venue: str, symbol: str) -> None:
        super().__init__(venue, symbol)
        self.ids: list[int] = []

    def acknowledged(self, trade_id: int, latency: int) -> None:  # noqa: ARG002 - as the sink calls it
        self.ids.append(trade_id)


class Sender:
    """Sends trades of every symbol through the project's sink until the end of the block, which waits for the acks."""

    def __init__(self, settings: Settings) -> None:
        self.acks = {symbol: Acks("kraken", symbol) for symbol in SYMBOLS}
        self.sent = 0
        self.unflushed: int | None = None
        self._sink = KafkaSink(settings.bootstrap(), *settings.topics, partitions=settings.topic_partitions)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def acked(self) -> int:
        """Messages acknowledged so far."""
        return sum(len(acks.ids) for acks in self.acks.values())

    def goes_on(self, count: int = 3 * RATE) -> None:
        """Wait until so many more are acknowledged."""
        target = self.acked + count
        wait_for("acknowledgements", lambda: self.acked >= target, FAILOVER_SECONDS)

    def check(self) -> None:
        self._sink.check()

    def _run(self) -> None:
        while not self._stop.wait(1 / RATE):
            self.sent += 1
            now = time.time_ns() // 1000
            for symbol in SYMBOLS:
                trade = Trade("kraken", symbol, symbol, self.sent, "1.5", "0.1", "buy", now, now, "live", "{}")
                self._sink.trade(trade, self.acks[symbol])
            self._sink.poll()

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        self.unflushed = self._sink.flush(time.monotonic() + (FAILOVER_SECONDS if error is None else 0.0))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """The one cluster of these tests, whose nodes are missed sooner than a user's."""
    write = BrokerHome.write_properties

    def write_short_sessions(home: BrokerHome, node_id: int, cluster: Cluster) -> None:
        write(home, node_id, cluster)
        with home.properties.open("a", encoding="utf-8") as file:
            file.write(SESSION)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BrokerHome, "write_properties", write_short_sessions)
        running = EmbeddedCluster(tmp_path_factory.mktemp("cluster"))
        try:
            running.start()
            yield running
        finally:
            running.stop(0.0)  # in order it stops in a test; here nobody needs what it holds


@pytest.fixture
def settings(cluster: EmbeddedCluster, tmp_path: Path, topics: dict[str, str]) -> Settings:
    """Settings on the cluster, with topics of the test's own."""
    made = load_settings(home=tmp_path / "home", bootstrap_servers=cluster.bootstrap, **topics)
    ensure_topics(made)
    return made


def leaders(settings: Settings) -> dict[int, int]:
    """Partition → node, of the trades."""
    metadata = Admin(settings.bootstrap()).metadata(10)
    assert metadata is not None
    return {number: one.leader for number, one in metadata.topics[settings.topic_trades].partitions.items()}


def in_sync(settings: Settings) -> set[int]:
    """How many replicas the partitions of the trades have in sync: {3} where all is well."""
    metadata = Admin(settings.bootstrap()).metadata(10)
    return (
        set() if metadata is None else {len(p.isrs) for p in metadata.topics[settings.topic_trades].partitions.values()}
    )


def test_acknowledged_means_kept_whichever_node_dies(cluster: EmbeddedCluster, settings: Settings) -> None:
    wait_for("all replicas in sync", lambda: in_sync(settings) == {3}, 30)
    assert len(cluster.pids) == 3
    with Sender(settings) as sender:
        sender.goes_on()

        # 1. The leader of a partition dies; the others take over.
        first = leaders(settings)[0]
        cluster.kill(first)
        sender.goes_on()
        wait_for("another leader", lambda: first not in leaders(settings).values(), FAILOVER_SECONDS)
        sender.goes_on()

        # 2. It comes back on its old folder and gets what it missed.
        cluster.start_node(first)
        wait_for("all replicas in sync", lambda: in_sync(settings) == {3}, FAILOVER_SECONDS)

        # 3. Another leader dies, then a second node: one replica of three is not enough, nothing is acknowledged.
        second = next(node for node in leaders(settings).values() if node != first)
        cluster.kill(second)
        sender.goes_on()
        wait_for("another leader", lambda: second not in leaders(settings).values(), FAILOVER_SECONDS)
        cluster.kill(first)
        time.sleep(1.0)  # reports of what was acknowledged before are on their way
        acked, sent = sender.acked, sender.sent
        # No longer: without a quorum the last node cannot take the others out of the replicas in sync, ever.
        time.sleep(3.0)
        assert sender.acked == acked
        assert sender.sent > sent, "the sender must have gone on trying"
        sender.check()

        # 4. One of them returns, and all goes on.
        cluster.start_node(second)
        sender.goes_on(sender.sent * len(SYMBOLS) - acked)

    cluster.start_node(first)
    sender.check()
    assert sender.unflushed == 0
    everything = list(range(1, sender.sent + 1))
    found: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for key, value in messages(settings.bootstrap(), settings.topic_trades):
        found[key].append(value["trade_id"])
    for symbol in SYMBOLS:
        assert sender.acks[symbol].ids == everything
        assert [one for one, times in Counter(found[symbol]).items() if times > 1] == []
        assert found[symbol] == everything


def test_topics_are_made_with_three_replicas_of_which_two_must_have_a_message(
    cluster: EmbeddedCluster, settings: Settings
) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

    client = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def replicas(topics: tuple[str, ...]) -> set[int]:
        """Count the copies of each partition; nothing until the asked broker knows all the topics."""
        known = client.list_topics(timeout=10).topics
        return (
            {len(one.replicas) for topic in topics for one in known[topic].partitions.values()}
            if known.keys() >= set(topics)
            else set()
        )

    assert wait_for("the topics", lambda: replicas(settings.topics), 30) == {3}
    for topic in settings.topics:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        assert client.describe_configs([resource])[resource].result(10)["min.insync.replicas"].value == "2"
    names = ("topic_trades", "topic_rejected", "topic_feed_events")
    alone = settings.model_copy(update={name: f"{getattr(settings, name)}-alone" for name in names})
    ensure_topics(alone, replication=1)
    assert wait_for("the topics", lambda: replicas(alone.topics), 30) == {1}


def test_a_whole_cluster_stops_and_starts_on_its_folder(cluster: EmbeddedCluster, settings: Settings) -> None:
    with Sender(settings) as sender:
        sender.goes_on()
    before, bootstrap = cluster.pids, cluster.bootstrap
    with pytest.raises(LakehouseError, match="is started already"):
        cluster.start()
    with pytest.raises(LakehouseError, match=r"node 2 of .* is running already"):
        cluster.start_node(2)
    with pytest.raises(SettingError, match=r"^node 4; expected one of 1, 2, 3"):
        cluster.kill(4)
    with pytest.raises(MissingDependencyError, match=r"^a broker already runs in .*node-1"):
        EmbeddedCluster(cluster.folder).start()

    cluster.stop(5.0)  # the last node finds no quorum to take leave of, and waits for one until then
    cluster.stop()  # Once more does no harm.
    assert not any(psutil.pid_exists(pid) for pid in before.values())
    with pytest.raises(BrokerUnavailableError, match="is not started"):
        _ = cluster.bootstrap
    cluster.start()

    assert cluster.bootstrap == bootstrap
    assert set(cluster.pids.values()).isdisjoint(before.values())
    for address in cluster.bootstrap.split(","):
        assert holder(int(address.split(":")[1])) is not None
    found = [
        value["trade_id"] for key, value in messages(cluster.bootstrap, settings.topic_trades) if key == SYMBOLS[0]
    ]
    assert found == sender.acks[SYMBOLS[0]].ids


@pytest.mark.parametrize(("nodes", "replication", "min_insync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)])
def test_replicas_by_the_number_of_nodes(nodes: int, replication: int, min_insync: int) -> None:
    cluster = Cluster({number: Ports(15_000 + number, 16_000 + number) for number in range(1, nodes + 1)})
    assert (cluster.replication, cluster.min_insync) == (replication, min_insync)
    assert cluster.bootstrap.startswith("127.0.0.1:15001")
    assert cluster.voters.startswith("1@127.0.0.1:16001")


def test_a_cluster_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a cluster of 0 nodes"):
        EmbeddedCluster(tmp_path, nodes=0)
