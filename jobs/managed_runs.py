"""The long-running runs that there should be, and the run tags that identify them. Values only.

The tag `lakehouse/stream` names a run's managed work; the instance's tag concurrency limit allows one run per value at
a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.settings import Settings
from lakehouse.status import supervision

#: Tag with the name of the managed work that a run does, such as `stream/gold`.
NAME_TAG = supervision.NAME_TAG
#: Tag with the seconds since the epoch at which a run was ended together with its lakehouse: it is to run again.
PLANNED_STOP_TAG = supervision.PLANNED_STOP_TAG
#: Tag with what a run waits for although it runs; `lakehouse status` shows it.
TROUBLE_TAG = supervision.TROUBLE_TAG
#: Tag with the seconds since the epoch of a run's last heartbeat.
HEARTBEAT_TAG = "lakehouse/heartbeat"
#: Tags with the process id of the run's worker, and the name of the host that it is on.
PID_TAG = "lakehouse/pid"
HOST_TAG = "lakehouse/host"
#: Tag with the one line of an error that will come again until somebody changes something.
TERMINAL_TAG = "lakehouse/terminal_error"
#: Tag with a digest of the gaps that a run of `repair` was to repair: equal gaps have equal digests.
GAPS_TAG = "lakehouse/holes"

#: Managed name of the job `repair`: like any managed work, it never runs twice at once.
REPAIR = "repair"

ALL_LAYERS = supervision.LAYERS

#: Job → its op, and the field of the op's config that limits a run to one part of the work.
_PARTS = {"ingest": ("host_ingest", "venues"), "stream": ("host_streams", "layers")}


@dataclass(frozen=True)
class ManagedRun:
    """A run that a sensor keeps alive: the name of its work, its job, and the run config (Dagster's) for that work."""

    name: str
    job: str
    run_config: dict[str, Any]


def managed_runs(settings: Settings, job: str) -> tuple[ManagedRun, ...]:
    """Return the runs of a job that the settings ask for: one, or one per venue or layer; none for an unwanted sink."""
    return tuple(_managed(name) for name in supervision.work_names(settings) if name.partition("/")[0] == job)


def name_of(job: str, parts: Sequence[str], all_parts: Sequence[str]) -> str:
    """Return the name of the work of a run that does some parts of a job: `stream` if all, or `stream/silver+gold`."""
    return job if set(parts) == set(all_parts) else f"{job}/{'+'.join(parts)}"


def _managed(name: str) -> ManagedRun:
    job, _, part = name.partition("/")
    if not part:
        return ManagedRun(name, job, {})
    op, field = _PARTS[job]
    return ManagedRun(name, job, {"ops": {op: {"config": {field: [part]}}}})
