"""Which long-running runs there should be, and the run tags by which they are known. Values only.

A run belongs to the kept work named by its tag `lakehouse/stream`; the instance's tag concurrency limit allows one run
per value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.settings import Settings
from lakehouse.status import supervision

#: Name of the kept work a run does.
NAME_TAG = supervision.NAME_TAG
#: Seconds since the epoch at which a run was ended, or was going to be, without anybody asking for it to stay ended.
PLANNED_STOP_TAG = supervision.PLANNED_STOP_TAG
#: Seconds since the epoch of the last sign of life.
HEARTBEAT_TAG = "lakehouse/heartbeat"
#: Process id of the run worker, and the host it is on.
PID_TAG = "lakehouse/pid"
HOST_TAG = "lakehouse/host"
#: The one line of an error that will come again until somebody changes something.
TERMINAL_TAG = "lakehouse/terminal_error"
#: Short name of the set of gaps that a run of `repair` was to repair.
GAPS_TAG = "lakehouse/holes"

#: The name under which runs of the job `repair` are known: never two at once, like any kept work.
REPAIR = "repair"

ALL_LAYERS = ("bronze", "silver", "gold")


@dataclass(frozen=True)
class Kept:
    """One run that is to be kept alive: its name, its job, and the part of the job's work that is its own."""

    name: str
    job: str
    run_config: dict[str, Any]


def kept_ingests(settings: Settings) -> tuple[Kept, ...]:
    """The ingest runs that the settings ask for: one for all venues, or one per venue."""
    if not settings.split_ingest:
        return (Kept("ingest", "ingest", {}),)
    return tuple(_part("ingest", "host_ingest", "venues", venue) for venue in settings.venues)


def kept_streams(settings: Settings) -> tuple[Kept, ...]:
    """The stream runs that the settings ask for: one for all layers, or one per layer."""
    if not settings.split_streams:
        return (Kept("stream", "stream", {}),)
    return tuple(_part("stream", "host_streams", "layers", layer) for layer in ALL_LAYERS)


def name_of(job: str, parts: Sequence[str], all_parts: Sequence[str]) -> str:
    """The name of a run that does some parts of a job: `stream`, `stream/gold`."""
    return job if set(parts) == set(all_parts) else f"{job}/{'+'.join(parts)}"


def _part(job: str, op: str, field: str, part: str) -> Kept:
    return Kept(f"{job}/{part}", job, {"ops": {op: {"config": {field: [part]}}}})
