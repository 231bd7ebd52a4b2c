"""When a child that died is started again. Pure: time comes in as seconds, nothing sleeps."""

from __future__ import annotations

from dataclasses import dataclass

#: A child that has lived this long, seconds, has started well: Dagster's parts and the broker are up within 15 s.
HEALTHY_SECONDS = 30.0
#: Deaths in a row before a child has ever started well, after which trying again would only hide the reason.
STARTUP_DEATHS = 3
#: First and longest wait before a restart, seconds: fast enough for one crash, slow enough not to burn a core.
BASE_SECONDS = 0.5
CAP_SECONDS = 30.0


@dataclass
class RestartPolicy:
    """Counts the deaths of one child."""

    deaths_in_a_row: int = 0
    ever_healthy: bool = False

    def died(self, lived_seconds: float) -> float | None:
        """Seconds to wait before the next start, or None: give up, it never came up."""
        if lived_seconds >= HEALTHY_SECONDS:
            self.ever_healthy = True
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        if not self.ever_healthy and self.deaths_in_a_row >= STARTUP_DEATHS:
            return None
        # An exponent that is bounded, so that a child that dies for a week does not overflow a float.
        return float(min(CAP_SECONDS, BASE_SECONDS * 2 ** min(self.deaths_in_a_row - 1, 16)))
