"""The folder of an embedded broker: who owns it, which ports it keeps, what Kafka is told.

home/broker/lock         held (flock) by the owner and by its JVM, so it is free exactly when both are gone
home/broker/endpoint     "127.0.0.1:PORT" while the broker is ready
home/broker/ports.json   ports of the last start, kept so that clients find a restarted broker again
home/broker/cluster-id   Kafka's id of this cluster
home/broker/data         Kafka's own files
home/broker/logs         server.log (Kafka), console.log (the JVM)
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import psutil

from lakehouse.errors import MissingDependencyError
from lakehouse.ports import LOCALHOST, free_port, is_free, require_free

#: Seconds the kernel may take to end the JVM of an owner that was killed, before we take it for an orphan.
ORPHAN_GRACE_SECONDS = 3.0
#: 7 days, in ms. A trade must not expire before Bronze has read it. Bronze is seconds behind while it runs, so this is
#: for the time it does not: a long weekend with a stopped stream, and some days to notice. Longer would cost disk and
#: buy nothing: what Bronze has read stays in Bronze.
RETENTION_MS = 7 * 24 * 3600 * 1000


class Ports(NamedTuple):
    """Ports of the client listener and of the KRaft controller, both on 127.0.0.1."""

    broker: int
    controller: int


class BrokerHome:
    """Files of one embedded broker below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = folder / "endpoint"
        self.data = folder / "data"
        self.logs = folder / "logs"
        self.properties = folder / "server.properties"
        self._lock = folder / "lock"

    def acquire(self) -> int:
        """Become the one owner; returns the lock's file descriptor, to be passed to the JVM and closed at the end.

        Raises MissingDependencyError, one line, where a living broker owns it or the folder cannot be written.
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
        """Write owner and JVM into the lock file, for `acquire` of others."""
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

    def choose_ports(self, wanted: int | None) -> Ports:
        """The wanted port or the one of last time or a free one; both noted for next time.

        Raises MissingDependencyError, one line, where the wanted port is taken.
        """
        note = self.folder / "ports.json"
        try:
            last = Ports(**json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            last = None
        if wanted is not None:
            require_free(
                wanted, "the embedded broker", "end that process or choose another port (LAKEHOUSE_BROKER_PORT)"
            )
            broker = wanted
        else:
            broker = last.broker if last and is_free(last.broker) else free_port()
        keep = last is not None and last.controller != broker and is_free(last.controller)
        ports = Ports(broker, last.controller if last and keep else free_port(exclude=frozenset({broker})))
        write_atomically(note, json.dumps(ports._asdict()))
        return ports

    def cluster_id(self) -> str:
        """Kafka's cluster id: 16 random bytes in URL-safe base64, made at the first start."""
        file = self.folder / "cluster-id"
        if not file.exists():
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            write_atomically(file, identity.replace("-", "A"))  # The storage tool takes a leading "-" for an option.
        return file.read_text(encoding="utf-8").strip()

    def write_properties(self, ports: Ports) -> None:
        """Write Kafka's server.properties for a single combined broker and controller on 127.0.0.1."""
        values: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOCALHOST}:{ports.controller}",
            "listeners": f"PLAINTEXT://{LOCALHOST}:{ports.broker},CONTROLLER://{LOCALHOST}:{ports.controller}",
            "advertised.listeners": f"PLAINTEXT://{LOCALHOST}:{ports.broker}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
            # One node: one replica, and few partitions of Kafka's own topics.
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
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
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        write_atomically(self.properties, text.replace("\\", "\\\\"))


def write_atomically(file: Path, text: str) -> None:
    """Write `file` so that a reader sees the old text or the new one, never a part."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
