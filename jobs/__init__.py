"""The long-running jobs `ingest` and `stream`, and the bounded `catch_up`, `repair` and `rebuild_gold`: thin hosts."""

from __future__ import annotations

from jobs.catch_up import catch_up
from jobs.ingest import ingest
from jobs.rebuild_gold import rebuild_gold
from jobs.repair import repair
from jobs.stream import stream

ALL_JOBS = (ingest, stream, catch_up, repair, rebuild_gold)

__all__ = ["ALL_JOBS", "catch_up", "ingest", "rebuild_gold", "repair", "stream"]
