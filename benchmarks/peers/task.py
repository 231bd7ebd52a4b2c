"""The task of every peer, and small shared helpers. Standard library only, because the start is measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """Read `messages` messages of `topic` from its beginning and write the results below `out`."""

    bootstrap: str
    topic: str
    messages: int
    out: Path
    step: str  #: of a peer that runs in several processes
    batch: int  #: messages that the loop takes at once


def task() -> Task:
    """Read the task from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--step", default="")
    parser.add_argument("--batch", type=int, default=200_000)
    return Task(**vars(parser.parse_args()))
