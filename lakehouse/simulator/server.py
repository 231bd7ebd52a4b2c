"""Run the simulated exchange as a server, in a thread of its own.

Listens on 127.0.0.1 only. `start` returns once the server answers; `stop` closes every connection (close code 1012) and
the record within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import uvicorn

from lakehouse.errors import MissingDependencyError
from lakehouse.runtime.start_stop import StartStop
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.playback import build_playbacks
from lakehouse.simulator.record import FolderLock, Record
from lakehouse.simulator.routes import build_app
from lakehouse.simulator.transport import Transport
from lakehouse.simulator.venues.registry import VENUES

T = TypeVar("T")

HOST = "127.0.0.1"
START_SECONDS = 10.0
STOP_SECONDS = 2.0


class SimulatorServer(StartStop):
    """One simulated exchange, as a server on localhost. A context manager that starts and stops it; starts only once.

    `url` is its HTTP root, `http://127.0.0.1:PORT`; empty before `start`.
    """

    def __init__(self, options: SimulatorOptions) -> None:
        self.options = options
        self.url = ""
        self._exchange: Exchange | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def ws_url(self) -> str:
        """The root address for WebSockets, `ws://127.0.0.1:PORT`; empty before `start`."""
        return self.url.replace("http://", "ws://", 1)

    @property
    def record(self) -> Record:
        """The record of all trades that this simulator made, readable at any time, also after `stop`."""
        return Record(self.options.record)

    @property
    def is_running(self) -> bool:
        """True while the server's thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> SimulatorServer:
        """Start the server in its thread; return this object once it answers.

        Raises MissingDependencyError if the port is taken or the server does not answer within START_SECONDS,
        SettingError for a bad replay file or record folder.
        """
        playbacks = build_playbacks(self.options.replays, self.options.speed)
        listener = _listen(self.options.port)
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            lock = FolderLock(self.options.record)
            undo.callback(lock.release)
            self._exchange = Exchange(self.options, playbacks, {name: one.profile for name, one in VENUES.items()})
            undo.pop_all()
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            build_app(self._exchange),
            ws=Transport,
            ws_ping_interval=None,  # the venues' connections ping by their own rules
            ws_per_message_deflate=False,
            log_config=None,
            log_level="critical",  # a dropped client is daily business here
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._run, args=(self._exchange, self._server, config, listener, lock), name="simulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise MissingDependencyError(f"the simulator did not start: {self._failure or 'no answer in time'}")
            time.sleep(0.005)
        return self

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End the server and wait for its thread, up to `timeout` seconds. Does nothing if it has ended."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(timeout)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the server to end; return True if it has. Raises the error that ended it."""
        if self._thread:
            self._thread.join(timeout)
        if self._failure:
            raise self._failure
        return not self.is_running

    def pause(self) -> None:
        """Halt all markets and playbacks, until `resume`; connections stay alive."""
        self._on_loop(lambda exchange: exchange.pause(True))

    def resume(self) -> None:
        """Let all markets and playbacks go on after `pause`, or after the record could not be written."""
        self._on_loop(lambda exchange: exchange.pause(False))

    def status(self) -> dict[str, Any]:
        """Return the reply of `GET /admin/status` (see `Exchange.status`)."""
        return self._on_loop(lambda exchange: exchange.status())

    def fault(self, kind: str, **details: Any) -> int:
        """Begin a fault as `POST /admin/faults` does; return its number. Raises FaultError like `Exchange.begin_fault`.

        `details` are its other fields: venue, symbol, seconds, share, and the parameters of its kind.
        """
        return self._on_loop(lambda exchange: exchange.begin_fault({"kind": kind, **details}))

    def end_faults(self) -> int:
        """End all faults and the schedule of faults; return how many faults were active."""
        return self._on_loop(lambda exchange: exchange.end_faults())

    def _on_loop(self, action: Callable[[Exchange], T]) -> T:
        # In the loop's thread: once it returns, no tick of before is still under way.
        exchange, loop = self._exchange, self._loop
        assert exchange is not None
        assert loop is not None

        async def act() -> T:
            return action(exchange)

        return asyncio.run_coroutine_threadsafe(act(), loop).result(5.0)

    def _run(
        self,
        exchange: Exchange,
        server: uvicorn.Server,
        config: uvicorn.Config,
        listener: socket.socket,
        lock: FolderLock,
    ) -> None:
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(self._serve(exchange, server, listener))
        except BaseException as error:
            self._failure = error
        finally:
            listener.close()
            exchange.close()
            lock.release()

    async def _serve(self, exchange: Exchange, server: uvicorn.Server, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        work = [
            asyncio.create_task(exchange.run()),
            *(asyncio.create_task(playback.run(exchange)) for playback in exchange.playbacks.values()),
        ]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        waiting = {serving, *work}
        try:
            while not serving.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a bug in a tick ends the server rather than leaving it silently quiet
        finally:
            server.should_exit = True
            for task in work:
                task.cancel()
            await asyncio.gather(serving, *work, return_exceptions=True)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port whose last owner has just ended is free; one that somebody listens on still is not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise MissingDependencyError(
            f"cannot listen on {HOST}:{port}: {error.strerror}",
            "a free port",
            "give another --port, or 0 for a free one",
        ) from None
    listener.setblocking(False)
    return listener
