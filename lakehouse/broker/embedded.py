"""A real Apache Kafka, single node, as a child process: KRaft, one combined broker and controller, on 127.0.0.1 only.

Guarantees: one broker a home; its JVM never outlives us (on Linux even a kill -9 of us ends it; elsewhere the next
start does); `endpoint` exists only while the broker answers, but for a kill -9 of us, after which the next start
removes it. What Kafka acknowledged survives a kill -9 of the JVM; a power cut can lose what the operating system had
not written yet, as there is no second replica.

Start, in this order: 1. own the home, 2. remove a stale endpoint, 3. choose ports and write server.properties,
4. format the storage once, 5. start the JVM, 6. wait for its own metadata, 7. write the endpoint.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lakehouse.broker.home import BrokerHome, write_atomically
from lakehouse.broker.topics import Admin
from lakehouse.errors import BrokerUnavailableError, LakehouseError, MissingDependencyError
from lakehouse.jars import broker_jars
from lakehouse.java import find_java
from lakehouse.ports import LOCALHOST
from lakehouse.settings import Settings

#: Seconds until SIGKILL. A clean stop takes half a second, more on a busy machine.
STOP_SECONDS = 10.0
#: Seconds to the first answer. 3.5 on two idle cores, 1 more where the storage is formatted first; a recovery after a
#: kill and a busy machine take longer.
START_SECONDS = 90.0

#: Seconds between two looks whether the starting JVM still lives.
READY_SECONDS = 0.5

SHIM = Path(__file__).with_name("die_with_parent.py")
LOG4J = Path(__file__).with_name("log4j2.properties")


class EmbeddedBroker:
    """One Kafka for one home. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = BrokerHome(settings.broker_home)
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._bootstrap: str | None = None
        self._watcher: threading.Thread | None = None
        self._log_start: dict[str, int] = {}

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`. Raises BrokerUnavailableError before `start`."""
        if self._bootstrap is None:
            raise BrokerUnavailableError(f"the broker of {self._home.folder} is not started", "start() first")
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """Process id of the JVM while it lives."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the JVM runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start and wait until it answers; leaves nothing behind where it does not.

        Raises MissingDependencyError (no Java, no jars, busy port, home in use) or BrokerUnavailableError (it did not
        come up, with Kafka's own last words), each one line.
        """
        if self._process is not None:
            raise LakehouseError(f"the broker of {self._home.folder} is started already")
        deadline = time.monotonic() + timeout
        java = find_java()
        jars = broker_jars()
        self._lock = self._home.acquire()  # 1.
        try:
            self._home.endpoint.unlink(missing_ok=True)  # 2.
            ports = self._home.choose_ports(self._settings.broker_port)  # 3.
            self._home.write_properties(ports)
            command = self._command(java, jars)
            self._format(command, deadline)  # 4.
            self._launch([*command, "kafka.Kafka", str(self._home.properties)])  # 5.
            bootstrap = f"{LOCALHOST}:{ports.broker}"
            self._wait_until_ready(bootstrap, deadline)  # 6.
            write_atomically(self._home.endpoint, bootstrap + "\n")  # 7.
            self._bootstrap = bootstrap
        except BaseException:
            self.stop(0.0)  # Nothing uses it yet, so nothing is lost.
            raise

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop it: SIGTERM, after `timeout` seconds SIGKILL. May be called twice, and after the JVM died."""
        self._bootstrap = None
        if self._lock is not None:
            # Before the stop, so that nobody is sent to a broker that is going.
            self._home.endpoint.unlink(missing_ok=True)
        if self._process is not None:
            if timeout > 0:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def last_words(self) -> str:
        """Kafka's last error of this start, else its last line; for messages."""
        lines: list[str] = []
        for name in ("console.log", "server.log"):
            with contextlib.suppress(OSError), (self._home.logs / name).open("rb") as log:
                log.seek(self._log_start.get(name, 0))
                lines += log.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        telling = [line for line in lines if re.search(r"Exception: |Error: |OutOfMemoryError|No space left", line)]
        return (telling or lines or ["it said nothing"])[-1][:300]

    def _command(self, java: Path, jars: list[Path]) -> list[str]:
        # SerialGC: at this heap its pauses are short, and it takes less memory and fewer threads than G1.
        # Only the quick compiler: a broker passes compressed batches on, and needs less CPU so, measured: 4.8 s against
        # 7 s for a start, 0.4 s against 1 s for 300,000 messages. The other compiler's own work does not pay back.
        memory = self._settings.broker_memory
        return [
            *(sys.executable, "-S", "-E", str(SHIM), str(os.getpid()), str(java)),
            *(
                f"-Xmx{memory}",
                "-XX:+ExitOnOutOfMemoryError",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
            ),
            *("-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", "-Dlog4j2.disableJmx=true"),
            *(f"-Dlog4j2.configurationFile={LOG4J}", f"-Dlakehouse.logs={self._home.logs}"),
            *("-cp", os.pathsep.join(str(jar) for jar in jars)),
        ]

    def _format(self, command: list[str], deadline: float) -> None:
        marker = self._home.folder / "formatted"
        if marker.exists():
            return
        # --ignore-formatted: an earlier format may have been killed after it wrote half of its files.
        tool = [*command, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        tool += ["-t", self._home.cluster_id(), "-c", str(self._home.properties)]
        try:
            done = subprocess.run(
                tool, capture_output=True, text=True, check=False, timeout=max(1.0, deadline - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            raise BrokerUnavailableError("formatting Kafka's storage took too long", remedy="try again") from None
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            telling = [line for line in lines if "Exception" in line] or lines
            raise MissingDependencyError(f"Kafka could not format {self._home.data}: {telling[0].strip()}")
        write_atomically(marker, "")

    def _launch(self, command: list[str]) -> None:
        """Start the JVM from a thread that lives as long as it: the kernel ties the JVM's life to that thread."""
        for name in ("console.log", "server.log"):
            log = self._home.logs / name
            self._log_start[name] = log.stat().st_size if name == "server.log" and log.exists() else 0
        started = threading.Event()
        failure: list[OSError] = []

        def live_with_it() -> None:
            try:
                with (self._home.logs / "console.log").open("wb") as console:
                    self._process = self._popen(command, console)
            except OSError as error:
                failure.append(error)
                return
            finally:
                started.set()
            self._process.wait()
            # Nobody shall be sent to a broker that died; a later owner cannot have written its own yet.
            self._home.endpoint.unlink(missing_ok=True)

        self._watcher = threading.Thread(target=live_with_it, name="embedded-broker", daemon=True)
        self._watcher.start()
        started.wait()
        if failure:
            raise MissingDependencyError(f"cannot start {command[0]} ({failure[0].strerror})")
        if self._lock is not None and self._process is not None:
            self._home.note_owner(self._lock, self._process.pid)

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

    def _wait_until_ready(self, bootstrap: str, deadline: float) -> None:
        expected = self._home.cluster_id()
        admin = Admin(bootstrap)
        while True:
            if self._process is None or self._process.poll() is not None:
                raise BrokerUnavailableError(
                    f"Kafka ended while starting: {self.last_words()}", remedy=f"see {self._home.logs}"
                )
            # The answer must be this cluster's: another server may have taken the port in between.
            metadata = admin.metadata(READY_SECONDS)
            if metadata is not None and metadata.cluster_id == expected:
                return
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"Kafka did not answer at {bootstrap} in time: {self.last_words()}", remedy=f"see {self._home.logs}"
                )
