"""Deliver JSON to a webhook: one POST for each body, in order, within a hard time limit.

Guarantee: a delivery counts once the receiver has answered 2xx; the first failure ends the series, which preserves the
order. Limit: a receiver that answers after the time limit gets the same delivery again the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

#: Seconds without a byte from the receiver after which one POST has failed.
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Delivery:
    """Result of a series: `delivered` counts the bodies that were delivered, from the first on.

    `problem` says why the series ended early; it is empty if all were delivered.
    """

    delivered: int
    problem: str = ""


def deliver(url: str, bodies: Sequence[dict[str, Any]], seconds: float) -> Delivery:
    """POST the bodies as JSON one after the other until one fails; return within `seconds`, whatever happens.

    Raises nothing: a wrong URL or a refusal is the result's `problem`.
    """
    state = _Series(url, bodies)
    # In its own thread: a name lookup, or an answer that comes byte by byte, ignores our timeout.
    thread = threading.Thread(target=state.run, name="webhook", daemon=True)
    thread.start()
    thread.join(seconds)
    state.ended.set()
    # Read once: a delivery that succeeds from now on is made again the next time.
    delivered, problem = state.delivered, state.problem
    if not problem and delivered < len(bodies):
        problem = f"{place(url)} took longer than {seconds:g} s"
    return Delivery(delivered, problem)


def place(url: str) -> str:
    """Return scheme and host of a URL, for messages: the rest of a webhook's URL is often a secret.

    The result is `the webhook` if the URL is malformed or names no host.
    """
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
                    # The answer's body is not needed.
                    with client.stream("POST", self._url, json=body) as response:
                        if not response.is_success:
                            self.problem = f"{place(self._url)} answered {response.status_code}, expected 2xx"
                            return
                    if self.ended.is_set():
                        return
                    self.delivered += 1
        except Exception as error:
            # A wrong URL, a refused connection, a timeout: the delivery has failed and is tried again.
            self.problem = f"{place(self._url)} cannot be reached: {type(error).__name__} {_one_line(error)}".strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
