"""The long-running jobs `ingest` and `stream`, the bounded `catch_up` and `repair`: hosts of what `lakehouse` does."""

from __future__ import annotations

from jobs.catch_up import catch_up
from jobs.ingest import ingest
from jobs.repair import repair
from jobs.stream import stream

ALL_JOBS = (ingest, stream, catch_up, repair)

__all__ = ["ALL_JOBS", "catch_up", "ingest", "repair", "stream"]
