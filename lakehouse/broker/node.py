"""Run one Kafka node (KRaft, broker and controller) as a JVM: format its storage, start it, wait for it, stop it.

Guarantees: one JVM for each home; it never outlives this process (on Linux even a kill -9 of this process ends it;
elsewhere the next start does). The caller decides on addresses and on the other nodes of the cluster:
`embedded.EmbeddedBroker` runs one node, the cluster of the fault suite three.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from lakehouse.broker.home import BrokerHome, write_atomically
from lakehouse.broker.topics import Admin
from lakehouse.errors import BrokerUnavailableError, LakehouseError, MissingDependencyError
from lakehouse.runtime.jars import broker_jars
from lakehouse.runtime.java import find_java

#: Seconds from SIGTERM to SIGKILL. A clean stop takes half a second, more on a busy machine.
STOP_SECONDS = 10.0
#: Most seconds from a start to the first answer. 3.5 on two idle cores, 1 more if the storage is formatted first; a
#: recovery after a kill and a busy machine take longer.
START_SECONDS = 90.0
#: Seconds between two looks whether the starting JVM still lives.
READY_SECONDS = 0.5

SHIM = Path(__file__).with_name("die_with_parent.py")
LOG4J = Path(__file__).with_name("log4j2.properties")


class KafkaNode:
    """The JVM of one Kafka node, with its files in `home`; `memory` is its heap, such as `512m`.

    Call in this order: `own`, `home.write_properties`, `launch`, `wait_until_ready`, `stop`.
    """

    def __init__(self, home: BrokerHome, memory: str, on_end: Callable[[], None] | None = None) -> None:
        """Start nothing yet. `on_end` is called, from another thread, whenever the JVM has ended."""
        self.home = home
        self._memory = memory
        self._on_end = on_end
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._log_start: dict[str, int] = {}

    @property
    def owned(self) -> bool:
        """True if this object holds the lock of the home (between `own` and `stop`)."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """Process id of the JVM; None if it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """True if the node's JVM runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def launched(self) -> bool:
        """True from `launch` until `stop`, even if the JVM has died meanwhile."""
        return self._process is not None

    def own(self) -> None:
        """Take the lock of the home. Raises MissingDependencyError like `BrokerHome.acquire`."""
        self._lock = self.home.acquire()

    def launch(self, deadline: float) -> None:
        """Format Kafka's storage, if this is the first start, then start the JVM without waiting until it answers.

        Raises MissingDependencyError (no Java, no jars, storage that cannot be formatted), or BrokerUnavailableError if
        formatting is not done by `deadline` (monotonic seconds).
        """
        command = self._command(find_java(), broker_jars())
        self._format(command, deadline)
        self._start([*command, "kafka.Kafka", str(self.home.properties)])

    def wait_until_ready(self, bootstrap: str, deadline: float, node_id: int | None = None) -> None:
        """Wait until Kafka answers at `bootstrap` with the id of this cluster and, if given, the live broker `node_id`.

        Raises BrokerUnavailableError, with the last error in Kafka's logs, if the JVM ends or `deadline` (monotonic
        seconds) passes.
        """
        expected = self.home.cluster_id()
        admin = Admin(bootstrap)
        while True:
            if not self.alive:
                raise BrokerUnavailableError(
                    f"Kafka ended while starting: {self.last_words()}", remedy=f"see {self.home.logs}"
                )
            # The answer must be this cluster's: another server may have taken the port in between.
            metadata = admin.metadata(READY_SECONDS)
            known = metadata is not None and metadata.cluster_id == expected
            if metadata is not None and known and (node_id is None or node_id in metadata.brokers):
                return
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"Kafka did not answer at {bootstrap} in time: {self.last_words()}", remedy=f"see {self.home.logs}"
                )
            if metadata is not None:
                time.sleep(0.05)  # It answers, but the cluster does not know it yet.

    def request_stop(self) -> None:
        """Send SIGTERM to the JVM, which then ends in order. Returns at once; does nothing if none was started."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the JVM and wait until it has ended. The lock of the home is kept until `stop`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop the JVM by SIGTERM, after `timeout` seconds by SIGKILL, and release the lock of the home.

        May be called twice, and after the JVM died.
        """
        if self._process is not None:
            if timeout > 0:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
            self.kill()
            self._process = None
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def last_words(self) -> str:
        """Return the last line about an error in Kafka's logs since this start, or the last line if there is none.

        The line is cut after 300 characters, for use in error messages.
        """
        lines: list[str] = []
        for name in ("console.log", "server.log"):
            with contextlib.suppress(OSError), (self.home.logs / name).open("rb") as log:
                log.seek(self._log_start.get(name, 0))
                lines += log.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        telling = [line for line in lines if re.search(r"Exception: |Error: |OutOfMemoryError|No space left", line)]
        return (telling or lines or ["it said nothing"])[-1][:300]

    def _command(self, java: Path, jars: list[Path]) -> list[str]:
        # SerialGC: at this heap its pauses are short, and it takes less memory and fewer threads than G1.
        # Only the quick compiler: a broker passes compressed batches on, and needs less CPU so, measured: 4.8 s against
        # 7 s for a start, 0.4 s against 1 s for 300,000 messages. The other compiler's own work does not pay back.
        return [
            *(sys.executable, "-S", "-E", str(SHIM), str(os.getpid()), str(java)),
            *(
                f"-Xmx{self._memory}",
                "-XX:+ExitOnOutOfMemoryError",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
            ),
            *("-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", "-Dlog4j2.disableJmx=true"),
            *(f"-Dlog4j2.configurationFile={LOG4J}", f"-Dlakehouse.logs={self.home.logs}"),
            *("-cp", os.pathsep.join(str(jar) for jar in jars)),
        ]

    def _format(self, command: list[str], deadline: float) -> None:
        marker = self.home.folder / "formatted"
        if marker.exists():
            return
        # --ignore-formatted: an earlier format may have been killed after it wrote half of its files.
        tool = [*command, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        tool += ["-t", self.home.cluster_id(), "-c", str(self.home.properties)]
        try:
            done = subprocess.run(
                tool, capture_output=True, text=True, check=False, timeout=max(1.0, deadline - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            raise BrokerUnavailableError("formatting Kafka's storage took too long", remedy="try again") from None
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            telling = [line for line in lines if "Exception" in line] or lines
            raise MissingDependencyError(f"Kafka could not format {self.home.data}: {telling[0].strip()}")
        write_atomically(marker, "")

    def _start(self, command: list[str]) -> None:
        """Start the JVM from a thread that lives as long as it: the kernel ties the JVM's life to that thread."""
        for name in ("console.log", "server.log"):
            log = self.home.logs / name
            self._log_start[name] = log.stat().st_size if name == "server.log" and log.exists() else 0
        started = threading.Event()
        failure: list[OSError] = []

        def live_with_it() -> None:
            try:
                with (self.home.logs / "console.log").open("wb") as console:
                    self._process = self._popen(command, console)
            except OSError as error:
                failure.append(error)
                return
            finally:
                started.set()
            self._process.wait()
            if self._on_end is not None:
                self._on_end()

        self._watcher = threading.Thread(target=live_with_it, name=f"kafka-{self.home.folder.name}", daemon=True)
        self._watcher.start()
        started.wait()
        if failure:
            raise MissingDependencyError(f"cannot start {command[0]} ({failure[0].strerror})")
        if self._lock is not None and self._process is not None:
            self.home.note_owner(self._lock, self._process.pid)

    def _popen(self, command: list[str], console: IO[bytes]) -> subprocess.Popen[bytes]:
        if self._lock is None:
            raise LakehouseError("the broker's home is not owned")
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal must not end Kafka before its clients.
            pass_fds=(self._lock,),  # So the home stays owned as long as the JVM lives.
            restore_signals=True,
        )
