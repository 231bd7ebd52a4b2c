"""Work of requests: in the event loop if all it needs is in memory, else in a few threads, with a time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from lakehouse.serving.opened import WouldBlockError
from lakehouse.serving.problems import Problem
from lakehouse.serving.reader import Call

T = TypeVar("T")

#: Threads that read. DataFusion has threads of its own, so two queries keep two cores busy; the others read days.
THREADS = 4
#: Requests that wait for a thread or have one.
MOST_WAITING = 64
#: Seconds for one request's work, waiting included.
QUERY_SECONDS = 10.0


class Pool:
    """The threads of one server. A query that runs out of time keeps its thread until its next batch."""

    def __init__(self, threads: int = THREADS, most: int = MOST_WAITING, seconds: float = QUERY_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._most = most
        self._seconds = seconds
        self._waiting = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[Call], T]) -> T:
        """Do a request's work and return its result. Raises Problem if it takes too long or too many requests wait."""
        call = Call(False, self._seconds, time.monotonic() + self._seconds)
        try:
            return work(call)
        except WouldBlockError:
            pass
        if self._waiting >= self._most:
            raise Problem(
                "busy",
                f"{self._waiting} requests wait for the disk; expected fewer than {self._most}; try again in a second",
                {"Retry-After": "1"},
            )
        with self._lock:
            self._waiting += 1
        work_done = self._threads.submit(_before, replace(call, wait=True), work)
        work_done.add_done_callback(self._done)
        future = asyncio.wrap_future(work_done)
        done, _ = await asyncio.wait({future}, timeout=self._seconds)
        if not done:
            future.cancel()  # if it waits still; one that runs looks at its deadline
            raise call.too_slow()
        return future.result()

    def close(self) -> None:
        """Let no more work begin. Does not wait for running work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._waiting -= 1


def _before(call: Call, work: Callable[[Call], T]) -> T:
    call.check()
    return work(call)
