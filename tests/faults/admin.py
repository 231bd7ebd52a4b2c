"""The simulator's admin calls, as the suite uses them."""

from __future__ import annotations

from typing import Any

import httpx

from tests.faults.plan import Fault

#: A simulator under 1,000 trades/s answers in milliseconds; on an overbooked machine it may stall.
TIMEOUT_SECONDS = 20.0


class Admin:
    """One simulator at `url`. A refused call raises httpx.HTTPStatusError with the simulator's words."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)

    def status(self) -> dict[str, Any]:
        return self._call("GET", "/admin/status")

    def faults(self) -> dict[str, Any]:
        """The active ones, and what each kind has done so far."""
        return self._call("GET", "/admin/faults")

    def begin(self, fault: Fault) -> None:
        self._call("POST", "/admin/faults", fault.message)

    def end_faults(self) -> None:
        self._call("DELETE", "/admin/faults")

    def pause(self) -> None:
        self._call("POST", "/admin/pause")

    def resume(self) -> None:
        self._call("POST", "/admin/resume")

    def done(self) -> dict[str, int]:
        """Kind → what it has done so far, of the kinds that did something."""
        counts: dict[str, int] = self.status().get("faults", {}).get("done", {})
        return {kind: count for kind, count in sorted(counts.items()) if count}

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        reply = self._client.request(method, path, json=body)
        if reply.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path} {body}: {reply.status_code} {reply.text[:300]}",
                request=reply.request,
                response=reply,
            )
        found: dict[str, Any] = reply.json() if reply.content else {}
        return found
