"""Which long-running runs there should be, and the run tags that identify them. Values only.

The tag `lakehouse/stream` names a run's managed work; the instance's tag concurrency limit allows one run per value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.settings import Settings
from lakehouse.status import supervision

#: Name of the managed work that a run does.
NAME_TAG = supervision.NAME_TAG
#: Seconds since the epoch at which a run was ended, or was about to be, without anybody wanting it to stay ended.
PLANNED_STOP_TAG = supervision.PLANNED_STOP_TAG
#: Seconds since the epoch of the last heartbeat.
HEARTBEAT_TAG = "lakehouse/heartbeat"
#: Process id of the run worker, and the host it is on.
PID_TAG = "lakehouse/pid"
HOST_TAG = "lakehouse/host"
#: One line with an error that will come again until somebody changes something.
TERMINAL_TAG = "lakehouse/terminal_error"
#: Short name of the set of gaps that a run of `repair` was to repair.
GAPS_TAG = "lakehouse/holes"

#: Managed name of the job `repair`: like any managed work, it never runs twice at once.
REPAIR = "repair"

ALL_LAYERS = supervision.LAYERS

#: Job → its op, and the field of the op's config that limits a run to one part of the work.
_PARTS = {"ingest": ("host_ingest", "venues"), "stream": ("host_streams", "layers")}


@dataclass(frozen=True)
class ManagedRun:
    """A run that is kept alive: its name, its job, and the run config that limits it to its part of the work."""

    name: str
    job: str
    run_config: dict[str, Any]


def managed_runs(settings: Settings, job: str) -> tuple[ManagedRun, ...]:
    """The runs of `ingest` or `stream` that the settings ask for: one for everything, or one per venue or layer."""
    return tuple(_managed(name) for name in supervision.work_names(settings) if name.partition("/")[0] == job)


def name_of(job: str, parts: Sequence[str], all_parts: Sequence[str]) -> str:
    """The name of a run that does some parts of a job: `stream`, `stream/gold`."""
    return job if set(parts) == set(all_parts) else f"{job}/{'+'.join(parts)}"


def _managed(name: str) -> ManagedRun:
    job, _, part = name.partition("/")
    op, field = _PARTS[job]
    return ManagedRun(name, job, {"ops": {op: {"config": {field: [part]}}}} if part else {})
