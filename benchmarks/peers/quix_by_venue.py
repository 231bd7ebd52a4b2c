"""Quix Streams with a bar for each venue and symbol, as all other peers make them: by `group_by`, its way to a key."""

from __future__ import annotations

from benchmarks.peers.quix import run
from benchmarks.peers.task import task

if __name__ == "__main__":
    run(task(), by_venue=True)
