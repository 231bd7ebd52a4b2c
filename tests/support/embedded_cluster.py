"""A real three-node Apache Kafka on this machine: KRaft, each node broker and controller, on 127.0.0.1 only.

Guarantees: every topic has three replicas, and a message is acknowledged (`acks=all`) once two of them have it. So one
node may die, also by SIGKILL, and nothing acknowledged is lost and producing goes on; with two dead nothing is
acknowledged until one is back. No JVM outlives us, as with the single broker, and each node owns its folder.
Limit: the replicas share one disk and one operating system: this is for trying what a cluster does, not for safety.

Start, in this order: 1. own every node's folder, 2. choose all ports and write every server.properties, 3. format and
start every JVM (a quorum needs two of them), 4. wait until each knows itself as a live broker of this cluster.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from lakehouse.broker.home import BrokerHome, Cluster, Ports
from lakehouse.broker.node import START_SECONDS, STOP_SECONDS, KafkaNode
from lakehouse.broker.ports import LOCALHOST, require_free
from lakehouse.errors import BrokerUnavailableError, LakehouseError, SettingError
from lakehouse.runtime.start_stop import StartStop

#: Heap of one node. Idle it uses 60 MB; three of them are not to need more than a laptop has.
NODE_MEMORY = "256m"
NODES = 3


class EmbeddedCluster(StartStop):
    """Kafka nodes 1 to `nodes` below `folder`. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, folder: Path, nodes: int = NODES, memory: str = NODE_MEMORY) -> None:
        """Opens nothing. Raises SettingError for fewer than one node."""
        if nodes < 1:
            raise SettingError(f"a cluster of {nodes} nodes", "1 or more; 3 to outlive the death of one")
        self.folder = folder.absolute()
        self._nodes = {
            number: KafkaNode(BrokerHome(self.folder / f"node-{number}"), memory) for number in range(1, nodes + 1)
        }
        self._cluster: Cluster | None = None

    @property
    def bootstrap(self) -> str:
        """Every node's address, comma-separated, dead ones too. Raises BrokerUnavailableError before `start`."""
        return self._started().bootstrap

    @property
    def pids(self) -> Mapping[int, int]:
        """Node id → process id of its JVM, of the nodes that live."""
        return {number: node.pid for number, node in self._nodes.items() if node.pid is not None}

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start all nodes and wait for each; leaves nothing running if one does not come up.

        Raises MissingDependencyError or BrokerUnavailableError, each one line.
        """
        if self._cluster is not None:
            raise LakehouseError(f"the cluster of {self.folder} is started already")
        deadline = time.monotonic() + timeout
        try:
            for node in self._nodes.values():  # 1.
                node.own()
            self._cluster = Cluster(self._choose_ports())  # 2.
            identity = self._nodes[1].home.cluster_id()
            for number, node in self._nodes.items():
                node.home.join(identity)
                node.home.write_properties(number, self._cluster)
            for node in self._nodes.values():  # 3.
                node.launch(deadline)
            for number in self._nodes:  # 4.
                self._wait_for(number, deadline)
        except BaseException:
            self.stop(0.0)
            raise

    def kill(self, number: int) -> None:
        """SIGKILL to one node's JVM, and wait for its end."""
        self._node(number).kill()

    def start_node(self, number: int, timeout: float = START_SECONDS) -> None:
        """Start a node that was stopped or killed, on its old folder and ports, and wait until the cluster has it.

        Raises MissingDependencyError if somebody has taken a port of it, LakehouseError if it lives.
        """
        node, ports = self._node(number), self._started().nodes[number]
        if node.alive:
            raise LakehouseError(f"node {number} of {self.folder} is running already")
        deadline = time.monotonic() + timeout
        node.stop(0.0)  # gives the folder of a dead one back
        for port in ports:
            require_free(port, f"node {number} of {self.folder}", "end that process")
        node.own()
        try:
            node.launch(deadline)
            self._wait_for(number, deadline)
        except BaseException:
            node.stop(0.0)
            raise

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop all within `timeout` seconds, then SIGKILL. May be called twice."""
        deadline = time.monotonic() + timeout
        if timeout > 0:
            for node in self._nodes.values():
                node.request_stop()
        for node in self._nodes.values():
            # At the very least a moment: the last node finds no quorum to take leave of, and waits for one.
            node.stop(max(deadline - time.monotonic(), 0.0))
        self._cluster = None

    def last_words(self, number: int) -> str:
        """A node's last error of this start, else its last line; for messages."""
        return self._node(number).last_words()

    def _choose_ports(self) -> dict[int, Ports]:
        chosen: dict[int, Ports] = {}
        for number, node in self._nodes.items():
            taken = frozenset(port for ports in chosen.values() for port in ports)
            chosen[number] = node.home.choose_ports(None, taken)
        return chosen

    def _wait_for(self, number: int, deadline: float) -> None:
        address = f"{LOCALHOST}:{self._started().nodes[number].broker}"
        self._nodes[number].wait_until_ready(address, deadline, number)

    def _started(self) -> Cluster:
        if self._cluster is None:
            raise BrokerUnavailableError(f"the cluster of {self.folder} is not started", "start() first")
        return self._cluster

    def _node(self, number: int) -> KafkaNode:
        try:
            return self._nodes[number]
        except KeyError:
            raise SettingError(f"node {number}", f"one of {', '.join(map(str, self._nodes))}") from None
