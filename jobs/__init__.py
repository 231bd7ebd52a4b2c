"""The jobs, which host what the library does.

`ingest`, `stream`, `sink_postgres` and `sink_redis` run until they are stopped; the others end by themselves.
"""

from __future__ import annotations

from jobs.catch_up import catch_up
from jobs.ingest import ingest
from jobs.rebuild_gold import rebuild_gold
from jobs.repair import repair
from jobs.sink import sink_postgres, sink_redis
from jobs.stream import stream

ALL_JOBS = (ingest, stream, sink_postgres, sink_redis, catch_up, repair, rebuild_gold)

__all__ = ["ALL_JOBS", "catch_up", "ingest", "rebuild_gold", "repair", "sink_postgres", "sink_redis", "stream"]
