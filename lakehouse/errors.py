"""Errors that a person reads: one line each, saying what was found, what was expected, what to do.

Retriable or not is a type. `RetriableError` may go away by itself (a broker that restarts, a venue that limits);
`TerminalError` will not, and a supervisor must not hammer on it. The command line prints the message of either,
without a stack trace, and exits with `exit_code`.
"""

from __future__ import annotations

import re

#: deltalake puts each cause of an error into a line of its own, after this sign, in colour.
_CAUSE = re.compile(r"(?:\x1b\[\d*m)*↳(?:\x1b\[\d*m)*\s*")
#: Begins the causes in a stack trace of the JVM, the root last.
_JVM_CAUSE = "Caused by: "


class LakehouseError(Exception):
    """Base of every error of ours. Its message is one line: `found`, `expected` and `remedy`, joined by semicolons.

    `exit_code` is what the command line exits with; the codes are those of sysexits.h.
    """

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
    """An error that may go away by itself: the same call may succeed when it is tried again later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class TerminalError(LakehouseError):
    """An error that every further attempt meets again, until somebody changes something."""


class SettingError(TerminalError):
    """A setting or command-line value that cannot be used."""

    exit_code = 64  # EX_USAGE


class MissingDependencyError(TerminalError):
    """Something the machine lacks: Java, jars, a free port, disk."""

    exit_code = 69  # EX_UNAVAILABLE


class BrokerUnavailableError(RetriableError):
    """Kafka cannot be used now: no broker runs or answers in time, or it did not do what it was asked."""


class VenueError(RetriableError):
    """The exchange refused a request, limited our rate or closed the connection.

    `retry_after`: the seconds that it asked us to wait; None if it named none.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(found, expected, remedy)
        self.retry_after = retry_after


class LeaseHeldError(RetriableError):
    """Another process holds an exclusive lock: a layer's tables (`lake.lease`), a replay, or a home folder."""


def one_line(error: BaseException) -> str:
    """Return an error as one line for a log, of some 500 characters at most: its type, first line and causes.

    For an error that py4j passes on, the type and the line are those of the JVM's error.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    roots = [line.removeprefix(_JVM_CAUSE) for line in lines if line.startswith(_JVM_CAUSE)][-1:]
    if len(lines) > 1 and lines[1].startswith(": "):  # py4j names its own call first, and then the error of the JVM
        return ": ".join([lines[1][2:302], *roots])[:500]
    causes = [_CAUSE.sub("", line, count=1) for line in lines[1:] if _CAUSE.match(line)]
    text = ": ".join([*(line[:300] for line in lines[:1]), *causes, *roots])
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__
