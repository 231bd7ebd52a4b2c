"""Supervise the embedded broker, in a thread that lives as long as the stack.

The broker's own class manages the JVM; this module watches it and starts it again. The broker is not an ordinary child
process because a Python process around the JVM would cost another 50 MB.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError, TerminalError
from lakehouse.local_stack.processes import RestartPolicy
from lakehouse.settings import Settings

#: Seconds that the broker has to start. A cold JVM on two busy cores took up to 25 s; this is a little over twice that.
START_TIMEOUT_SECONDS = 60.0
#: Seconds that the broker has to stop. A clean stop takes about 1 s; the deadline of a shutdown leaves it no more.
STOP_SECONDS = 2.0
#: Seconds between two looks at the broker; a look costs microseconds.
WATCH_SECONDS = 0.5


class BrokerSupervisor:
    """Starts the embedded broker and its topics, in a thread of its own, and starts it again if it dies.

    `ready` is set while the broker runs and has its topics. `failure` is None until the supervisor gives up: the broker
    cannot start (no Java, a busy port), or has died several times and was never up (`RestartPolicy`). `notify` gets a
    line for people at each restart.
    """

    def __init__(self, settings: Settings, notify: Callable[[str], None]) -> None:
        self._settings = settings
        self._notify = notify
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-supervisor", daemon=True)
        self._broker = EmbeddedBroker(settings)
        self.ready = threading.Event()
        self.failure: LakehouseError | None = None

    @property
    def pid(self) -> int | None:
        return self._broker.pid

    def start(self) -> None:
        self._thread.start()

    def request_stop(self) -> None:
        """Ask the broker to end; returns at once."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the supervisor and its broker to end; return True if they have."""
        if self._thread.is_alive():
            self._thread.join(max(timeout, 0.0))
        return not self._thread.is_alive()

    def _run(self) -> None:
        policy = RestartPolicy()
        while not self._stop.is_set():
            started = time.monotonic()
            reason = self._live()
            self.ready.clear()
            if self._stop.is_set() or self.failure is not None:
                break
            delay = policy.died(time.monotonic() - started)
            if delay is None:
                self.failure = TerminalError(
                    f"the embedded broker did not start: {reason}",
                    "a Kafka broker that answers",
                    f"see {self._settings.broker_home / 'logs'}",
                )
                break
            self._notify(f"broker ended ({reason}); starting it again in {delay:g} s")
            self._stop.wait(delay)
        self._broker.stop(STOP_SECONDS)

    def _live(self) -> str:
        """Start the broker and watch it until it ends; return the reason."""
        try:
            self._broker.start(START_TIMEOUT_SECONDS)
            ensure_topics(self._settings)
        except TerminalError as error:
            self.failure = error  # a busy port, no Java: trying again would not help
            return str(error)
        except LakehouseError as error:
            self._broker.stop()
            return str(error)
        pid = self._broker.pid
        self.ready.set()
        while self._broker.alive and not self._stop.wait(WATCH_SECONDS):
            pass
        if self._stop.is_set():
            return "asked to stop"
        reason = f"process {pid} died: {self._broker.last_words()}"
        self._broker.stop()
        return reason
