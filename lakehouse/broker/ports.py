"""TCP ports on 127.0.0.1: find a free one, and tell which process listens on a busy one."""

from __future__ import annotations

import random
import socket

import psutil

from lakehouse.errors import MissingDependencyError

LOCALHOST = "127.0.0.1"

#: The ports that `free_port` chooses from, below those that Linux (from 32768) and macOS (from 49152) give to outgoing
#: connections. Those can be taken by any connection while a server restarts, and a client that retries against a dead
#: local port among them can even connect to itself.
FREE_PORTS = range(15_000, 32_000)


def is_free(port: int, host: str = LOCALHOST) -> bool:
    """Return True if a server could listen on `port` now. A port with connections in TIME_WAIT counts as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(exclude: frozenset[int] = frozenset()) -> int:
    """Return a random port of FREE_PORTS on which no process listens and that is not in `exclude`.

    Raises MissingDependencyError if none was found in 200 draws.
    """
    for _ in range(200):
        port = random.choice(FREE_PORTS)
        if port not in exclude and is_free(port):
            return port
    raise MissingDependencyError(
        f"no free port among 200 drawn from {FREE_PORTS.start}-{FREE_PORTS.stop - 1}", "one", "end what listens there"
    )


def holder(port: int) -> str | None:
    """Return `name, pid 123` of the process that listens on `port`; None if none does or the system does not tell."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return None
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
    except psutil.Error:
        pass  # macOS tells only root; the line then does without the name.
    return None


def require_free(port: int, purpose: str, remedy: str) -> None:
    """Raise MissingDependencyError if `port` is taken; return if it is free.

    The error names the process that listens there, the `purpose` of the port, and the `remedy` for the person.
    """
    if not is_free(port):
        by = holder(port)
        raise MissingDependencyError(
            f"port {port} of {LOCALHOST} is in use{f' by {by}' if by else ''}", f"a free port for {purpose}", remedy
        )
