"""Deliveries to a webhook: one POST of JSON each, in order, within a time that nothing can exceed.

Guarantee: a delivery counts once the receiver has answered 2xx; the first that fails ends the series, so that the order
stays. Gap: a receiver that answers after the time is up gets the same delivery again the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

#: Seconds of silence after which one POST has failed.
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Delivery:
    """How many of a series were delivered, from its first on, and the one line of what ended it, or nothing."""

    delivered: int
    problem: str = ""


def deliver(url: str, bodies: Sequence[dict[str, Any]], seconds: float) -> Delivery:
    """POST the bodies one after the other; return after `seconds` at the latest, whatever the receiver does."""
    state = _Series(url, bodies)
    # In a thread of its own: looking up a name, or an answer that comes byte by byte, knows no timeout of ours.
    thread = threading.Thread(target=state.run, name="webhook", daemon=True)
    thread.start()
    thread.join(seconds)
    state.ended.set()
    # Read together with nothing else: what is delivered from now on is delivered again.
    delivered, problem = state.delivered, state.problem
    if not problem and delivered < len(bodies):
        problem = f"{place(url)} took longer than {seconds:g} s"
    return Delivery(delivered, problem)


def place(url: str) -> str:
    """Scheme and host of a URL, for people. The rest of a webhook's URL is often a secret."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return "the webhook"
    return f"{parts.scheme}://{parts.netloc.decode(errors='replace')}" if parts.host else "the webhook"


class _Series:
    def __init__(self, url: str, bodies: Sequence[dict[str, Any]]) -> None:
        self._url = url
        self._bodies = bodies
        self.ended = threading.Event()
        self.delivered = 0
        self.problem = ""

    def run(self) -> None:
        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
                for body in self._bodies:
                    # The answer's body is not ours to read.
                    with client.stream("POST", self._url, json=body) as response:
                        if not response.is_success:
                            self.problem = f"{place(self._url)} answered {response.status_code}, expected 2xx"
                            return
                    if self.ended.is_set():
                        return
                    self.delivered += 1
        except Exception as error:
            # Whatever it is, the delivery has failed and is tried again: a wrong URL, a refused connection, a timeout.
            self.problem = f"{place(self._url)} cannot be reached: {type(error).__name__} {_one_line(error)}".strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
