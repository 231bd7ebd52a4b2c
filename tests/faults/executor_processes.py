"""Processes of Spark's executors, found among the children of a driver."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

#: Seconds between two looks at a worker's files.
FILE_SECONDS = 0.005


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command_has(process: psutil.Process | None, word: str) -> bool:
    try:
        return process is not None and word in " ".join(process.cmdline())
    except psutil.Error:
        return False


def is_executor(process: psutil.Process) -> bool:
    return command_has(process, "CoarseGrainedExecutorBackend")


def is_worker(process: psutil.Process) -> bool:
    """A worker is forked from the daemon, with the same command line; the daemon's parent is the executor."""
    try:
        return command_has(process, "pyspark.daemon") and command_has(process.parent(), "pyspark.daemon")
    except psutil.Error:
        return False


def cpu_seconds(process: psutil.Process) -> float:
    try:
        return float(process.cpu_times().user)
    except psutil.Error:
        return 0.0


def writer_among(workers: Sequence[psutil.Process]) -> psutil.Process | None:
    """A worker that has a data file open to write it, within half a second from now."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        for one in workers:
            try:
                if any(file.path.endswith(".parquet") and "w" in file.mode for file in one.open_files()):
                    return one
            except psutil.Error:
                continue
        time.sleep(FILE_SECONDS)
    return None
