"""The folder (home) of an embedded Kafka node: its lock, its ports, and Kafka's configuration file.

lock         held (flock) by the owner and by its JVM, so it is free exactly when both are gone
endpoint     "127.0.0.1:PORT" while a single broker is ready
ports.json   ports of the last start, kept so that clients find a restarted broker again
cluster-id   Kafka's id of this cluster
data         Kafka's own files
logs         server.log (Kafka), console.log (the JVM)
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from lakehouse.broker.ports import LOCALHOST, free_port, is_free, require_free
from lakehouse.errors import MissingDependencyError

#: After an owner was killed, its JVM has so many seconds to be ended by the kernel; then it counts as an orphan.
ORPHAN_GRACE_SECONDS = 3.0
#: How long Kafka keeps messages: 7 days, in ms. A trade must not expire before Bronze has read it. Bronze is seconds
#: behind while it runs, so this is for the time in which it does not: a long weekend with a stopped stream, and some
#: days to notice. Longer would cost disk and buy nothing: messages that Bronze has read stay in Bronze.
RETENTION_MS = 7 * 24 * 3600 * 1000

#: Kafka's settings for a single node. After a kill a node is let in again only when its session of before has ended;
#: Kafka's 9 s exist so that leaders do not move for nothing, and a single node has nobody to move them to. Measured
#: from kill to answer: 7 s instead of 13.
ALONE = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}


class Ports(NamedTuple):
    """The two TCP ports of a Kafka node on 127.0.0.1: `broker` for clients, `controller` for KRaft."""

    broker: int
    controller: int


@dataclass(frozen=True)
class Cluster:
    """The nodes of one Kafka cluster on this machine, node id → ports. Each is broker and controller."""

    nodes: Mapping[int, Ports]

    @property
    def replication(self) -> int:
        """Number of replicas of a topic: one on each node, three at most."""
        return min(len(self.nodes), 3)

    @property
    def min_insync(self) -> int:
        """Number of replicas that must have a message before Kafka acknowledges it: two of three, else one."""
        return max(1, self.replication - 1)

    @property
    def bootstrap(self) -> str:
        """The address for Kafka clients: every node's `127.0.0.1:PORT`, separated by commas."""
        return ",".join(f"{LOCALHOST}:{ports.broker}" for ports in self.nodes.values())

    @property
    def voters(self) -> str:
        """The value of Kafka's `controller.quorum.voters`: `ID@127.0.0.1:PORT` of every node, separated by commas."""
        return ",".join(f"{node}@{LOCALHOST}:{ports.controller}" for node, ports in self.nodes.items())


class BrokerHome:
    """The files of one embedded Kafka node below `folder`; the module's docstring lists them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = folder / "endpoint"
        self.data = folder / "data"
        self.logs = folder / "logs"
        self.properties = folder / "server.properties"
        self._lock = folder / "lock"
        self._cluster_id = folder / "cluster-id"

    def acquire(self) -> int:
        """Take the lock of this home; return its file descriptor, to be passed to the JVM and closed at the end.

        Ends the orphaned JVM of an owner that was killed. Raises MissingDependencyError if a running broker holds the
        lock or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise MissingDependencyError(
                f"cannot write {self.folder} ({error.strerror})", "a folder of yours", "choose another --home"
            ) from None
        deadline = time.monotonic() + ORPHAN_GRACE_SECONDS
        ended = False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.note_owner(descriptor, None)
                return descriptor
            owner, jvm = self._owner()
            if owner is None or psutil.pid_exists(owner):
                break
            if time.monotonic() > deadline:
                # The owner is gone and its JVM is not: a system without PR_SET_PDEATHSIG. It serves nobody.
                if ended:
                    break
                self._end_orphan(jvm)
                ended, deadline = True, deadline + ORPHAN_GRACE_SECONDS
            time.sleep(0.05)
        os.close(descriptor)
        raise MissingDependencyError(
            f"a broker already runs in {self.folder} (started by pid {owner or 'unknown'})",
            "one broker a home",
            "use that one, or stop it, or choose another --home",
        )

    def note_owner(self, descriptor: int, jvm: int | None) -> None:
        """Write the process ids of this owner and its JVM (None: none yet) into the lock file, for other processes."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "jvm": jvm}).encode(), 0)

    def _owner(self) -> tuple[int | None, int | None]:
        try:
            note = json.loads(self._lock.read_text(encoding="utf-8"))
            return note["pid"], note["jvm"]
        except (OSError, ValueError, KeyError):
            return None, None  # The owner is just writing it.

    def _end_orphan(self, jvm: int | None) -> None:
        with contextlib.suppress(psutil.Error):
            orphan = psutil.Process(jvm) if jvm is not None else None
            if orphan is not None and str(self.properties) in orphan.cmdline():  # Pids are reused: only if it is ours.
                orphan.kill()
                orphan.wait(ORPHAN_GRACE_SECONDS)

    def choose_ports(self, wanted: int | None, exclude: frozenset[int] = frozenset()) -> Ports:
        """Choose the node's two ports and write them to ports.json, so that the next start takes the same.

        The port for clients is `wanted`. If that is None: the port of the last start if free, else another free port;
        never one of `exclude`. Raises MissingDependencyError if the wanted port is taken, or no free one was found.
        """
        note = self.folder / "ports.json"
        try:
            last = Ports(**json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            last = None

        def usable(port: int, taken: frozenset[int]) -> bool:
            return port not in taken and is_free(port)

        if wanted is not None:
            require_free(
                wanted, "the embedded broker", "end that process or choose another port (LAKEHOUSE_BROKER_PORT)"
            )
            broker = wanted
        else:
            broker = last.broker if last and usable(last.broker, exclude) else free_port(exclude)
        taken = exclude | {broker}
        ports = Ports(broker, last.controller if last and usable(last.controller, taken) else free_port(taken))
        write_atomically(note, json.dumps(ports._asdict()))
        return ports

    def join(self, cluster_id: str) -> None:
        """Make this node part of the cluster with this id: write it to the file cluster-id, unless that exists."""
        if not self._cluster_id.exists():
            write_atomically(self._cluster_id, cluster_id)

    def cluster_id(self) -> str:
        """Return this node's Kafka cluster id: 16 random bytes in URL-safe base64, made and kept at the first call."""
        if not self._cluster_id.exists():
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            self.join(identity.replace("-", "A"))  # The storage tool takes a leading "-" for an option.
        return self._cluster_id.read_text(encoding="utf-8").strip()

    def write_properties(self, node_id: int, cluster: Cluster) -> None:
        """Write Kafka's server.properties for the node `node_id` of `cluster`, broker and controller on 127.0.0.1."""
        ports, replicas, in_sync = cluster.nodes[node_id], cluster.replication, cluster.min_insync
        values: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": node_id,
            "controller.quorum.voters": cluster.voters,
            "listeners": f"PLAINTEXT://{LOCALHOST}:{ports.broker},CONTROLLER://{LOCALHOST}:{ports.controller}",
            "advertised.listeners": f"PLAINTEXT://{LOCALHOST}:{ports.broker}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
            # Give topics as many replicas as the cluster can have, and Kafka's own topics few partitions.
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": 1,
            # A misspelt topic must fail, not appear.
            "auto.create.topics.enable": "false",
            "log.retention.ms": RETENTION_MS,
            "log.message.timestamp.type": "CreateTime",
            "group.initial.rebalance.delay.ms": 0,
            # A laptop's share of threads; Kafka's defaults are for servers.
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
        if len(cluster.nodes) == 1:
            values |= ALONE
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        write_atomically(self.properties, text.replace("\\", "\\\\"))


def write_atomically(file: Path, text: str) -> None:
    """Write `file` so that a reader sees the old text or the new one, never a part."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
