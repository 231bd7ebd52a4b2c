"""Errors that a person reads: one line each, saying what was found, what was expected, what to do.

Retriable or not is a type. `RetriableError` may go away by itself (a broker that restarts, a venue that limits);
`TerminalError` will not, and a supervisor must not hammer on it. The command line prints the message of either,
without a stack trace, and exits with `exit_code`.
"""

from __future__ import annotations

import re

#: deltalake puts each cause of an error into a line of its own, behind this sign, in colour.
_CAUSE = re.compile(r"(?:\x1b\[\d*m)*↳(?:\x1b\[\d*m)*\s*")
#: Begins the causes in a stack trace of the JVM, the root last.
_JVM_CAUSE = "Caused by: "


class LakehouseError(Exception):
    """Base of every error of ours. `found`, `expected` and `remedy` make the one line that is printed."""

    exit_code = 1

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))


class RetriableError(LakehouseError):
    """May succeed when tried again, unchanged."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class TerminalError(LakehouseError):
    """Will fail again until somebody changes something."""


class SettingError(TerminalError):
    """A setting or command-line value that cannot be used."""

    exit_code = 64  # EX_USAGE


class MissingDependencyError(TerminalError):
    """Something the machine lacks: Java, jars, a free port, disk."""

    exit_code = 69  # EX_UNAVAILABLE


class BrokerUnavailableError(RetriableError):
    """No Kafka broker answered a metadata request in time."""


class VenueError(RetriableError):
    """The exchange refused, limited or cut us; carries the seconds it asked us to wait, if it did."""

    def __init__(self, found: str, expected: str = "", remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(found, expected, remedy)
        self.retry_after = retry_after


class LeaseHeldError(RetriableError):
    """Another process is the one writer of these tables."""


def one_line(error: BaseException) -> str:
    """Type and first line of an error, of the JVM's if it is one, with its causes; short enough for a log."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    roots = [line.removeprefix(_JVM_CAUSE) for line in lines if line.startswith(_JVM_CAUSE)][-1:]
    if len(lines) > 1 and lines[1].startswith(": "):  # py4j names its own call first, and then the error of the JVM
        return ": ".join([lines[1][2:302], *roots])[:500]
    causes = [_CAUSE.sub("", line, count=1) for line in lines[1:] if _CAUSE.match(line)]
    text = ": ".join([*(line[:300] for line in lines[:1]), *causes, *roots])
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__
