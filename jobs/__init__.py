"""The long-running jobs `ingest` and `stream`, and the bounded `catch_up`: hosts of what `lakehouse` does."""

from __future__ import annotations

from jobs.catch_up import catch_up
from jobs.ingest import ingest
from jobs.stream import stream

ALL_JOBS = (ingest, stream, catch_up)

__all__ = ["ALL_JOBS", "catch_up", "ingest", "stream"]
