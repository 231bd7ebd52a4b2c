"""Runs `lakehouse …` as a person does: in a process of its own, with an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lakehouse.local_stack.processes import marked_processes

#: Variables that a child must not inherit from the machine that runs the tests.
DROPPED = ("PYTHONDONTWRITEBYTECODE", "JAVA_HOME", "DAGSTER_HOME")


def environment(**variables: str) -> dict[str, str]:
    """Ours without settings of a lakehouse, plus `variables`."""
    kept = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL")
    clean = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("LAKEHOUSE_") or name in kept) and name not in DROPPED
    }
    return {**clean, **variables}


def lakehouse(
    *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None, timeout: float = 60, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lakehouse", *arguments],
        cwd=cwd,
        env=environment(**(variables or {})),
        input=typed,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(*arguments: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one command in a session of its own; the caller ends it."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "lakehouse", *arguments],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It failed with one line of ours on standard error that has all `parts`, and with no stack trace."""
    assert done.returncode not in (0, 2), (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("lakehouse: ")
    for part in parts:
        assert part in lines[0], lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def assert_nothing_left(home: Path) -> None:
    """No process of this home lives."""
    left = [(process.pid, process.name()) for process in marked_processes(home)]
    assert left == []
