"""Run a real Apache Kafka as a child process: one node (KRaft, broker and controller), on 127.0.0.1 only.

Guarantees: one broker for each home; its JVM never outlives this process (on Linux even a kill -9 of this process ends
it; elsewhere the next start does). The file `endpoint` exists only while the broker answers; after a kill -9 of this
process the next start removes it. Messages that Kafka acknowledged survive a kill -9 of the JVM; a power cut can lose
those that the operating system had not written yet, as there is no second replica.

Start, in this order: 1. lock the home, 2. remove a stale endpoint, 3. choose ports and write server.properties,
4. format the storage once and start the JVM, 5. wait for its own metadata, 6. write the endpoint.
"""

from __future__ import annotations

import time

from lakehouse.broker.home import BrokerHome, Cluster, write_atomically
from lakehouse.broker.node import START_SECONDS, STOP_SECONDS, KafkaNode
from lakehouse.errors import BrokerUnavailableError, LakehouseError
from lakehouse.runtime.start_stop import StartStop
from lakehouse.settings import Settings

NODE_ID = 1


class EmbeddedBroker(StartStop):
    """A single-node Kafka with its files in `settings.broker_home`. A context manager, or call `start` and `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = BrokerHome(settings.broker_home)
        self._node = KafkaNode(self._home, settings.broker_memory, self._ended)
        self._bootstrap: str | None = None

    @property
    def bootstrap(self) -> str:
        """The address for Kafka clients, `127.0.0.1:PORT`. Raises BrokerUnavailableError before `start`."""
        if self._bootstrap is None:
            raise BrokerUnavailableError(f"the broker of {self._home.folder} is not started", "start() first")
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """Process id of Kafka's JVM; None if it does not run."""
        return self._node.pid

    @property
    def alive(self) -> bool:
        """True if Kafka's JVM runs."""
        return self._node.alive

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start Kafka and wait until it answers, at most `timeout` seconds. If it fails, nothing is left running.

        Raises MissingDependencyError (no Java, no jars, busy port, home in use) or BrokerUnavailableError (it did not
        answer in time, with the last error in its log). Raises LakehouseError if it is started already.
        """
        if self._node.launched:
            raise LakehouseError(f"the broker of {self._home.folder} is started already")
        deadline = time.monotonic() + timeout
        self._node.own()  # 1.
        try:
            self._home.endpoint.unlink(missing_ok=True)  # 2.
            ports = self._home.choose_ports(self._settings.broker_port)  # 3.
            cluster = Cluster({NODE_ID: ports})
            self._home.write_properties(NODE_ID, cluster)
            self._node.launch(deadline)  # 4.
            self._node.wait_until_ready(cluster.bootstrap, deadline)  # 5.
            write_atomically(self._home.endpoint, cluster.bootstrap + "\n")  # 6.
            self._bootstrap = cluster.bootstrap
        except BaseException:
            self.stop(0.0)  # Nothing uses it yet, so nothing is lost.
            raise

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop Kafka: SIGTERM, after `timeout` seconds SIGKILL. May be called twice, and after the JVM died."""
        self._bootstrap = None
        if self._node.owned:
            # Before the stop, so that nobody is sent to a broker that is going.
            self._home.endpoint.unlink(missing_ok=True)
        self._node.stop(timeout)

    def last_words(self) -> str:
        """Return the last line about an error in Kafka's logs since this start, or the last line if there is none."""
        return self._node.last_words()

    def _ended(self) -> None:
        # Nobody shall be sent to a broker that died; a later owner cannot have written its own yet.
        self._home.endpoint.unlink(missing_ok=True)
