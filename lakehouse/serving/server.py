"""The API as a process: listen, serve, end on SIGTERM or Ctrl-C within STOP_SECONDS."""

from __future__ import annotations

import gc
import logging
import socket
import sys
from collections.abc import Callable

import uvicorn

from lakehouse.broker.ports import holder
from lakehouse.errors import MissingDependencyError, SettingError
from lakehouse.serving.access import require_allowed
from lakehouse.serving.app import build_app
from lakehouse.serving.guard import Limits
from lakehouse.serving.handshake import CheckedHandshake
from lakehouse.settings import Settings

#: Seconds that requests get to end when the server is stopped.
STOP_SECONDS = 2
#: Seconds for which an idle connection is kept.
IDLE_SECONDS = 30
#: Connections that wait to be accepted.
BACKLOG = 512
#: Seconds for which a thread may keep the interpreter while the event loop waits for it. With this and trades that the
#: garbage collector skips, 99 % of the live trades came within 74 ms of Kafka's time, and within 122 ms without
#: (`python -m benchmarks api`, one round each, 2 cores). Python's default is 0.005.
SWITCH_SECONDS = 0.001
#: Milliseconds after which the connection of a client is dropped that takes nothing of what is sent to it.
STUCK_MILLISECONDS = 30_000


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises MissingDependencyError for a busy port, SettingError for a bad address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise SettingError(f"address {host!r} to listen on", "one of this machine's, such as 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)
    # A port whose last owner has just ended is free; one that somebody listens on still is not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; each connection inherits it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MILLISECONDS)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        by = holder(port)
        raise MissingDependencyError(
            f"port {port} of {host} cannot be used: {error.strerror}{f', by {by}' if by else ''}",
            "a free port for the API",
            "use --port PORT or LAKEHOUSE_SERVE_PORT",
        ) from None
    listener.setblocking(False)
    return listener


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a line of uvicorn's log is about us: a client that sends a wrong text is cut (1007), and all."""
    return not record.getMessage().startswith("Invalid UTF-8 sequence received from client")


def build_server(settings: Settings, limits: Limits | None = None) -> uvicorn.Server:
    """Build the server of one lakehouse; it listens on nothing yet."""
    logging.getLogger("uvicorn.error").addFilter(_is_ours)
    config = uvicorn.Config(
        build_app(settings, limits),
        access_log=False,  # a line for each request costs a tenth of it
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # a client would name its own address, and be another for each request
        lifespan="on",
        ws=CheckedHandshake,
        ws_max_size=4_096,  # what a client says means nothing
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


def serve(settings: Settings, say: Callable[[str], None], is_open: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; `say` gets a line when it listens. Raises LakehouseError if it cannot start."""
    require_allowed(settings, is_open)
    with listen(settings.serve_host, settings.serve_port) as listener:
        access = "a key is needed" if settings.api_key is not None else "no key"
        say(f"API and page of {settings.lake} at {settings.api_url} ({access}); /openapi.json describes it")
        sys.setswitchinterval(SWITCH_SECONDS)
        server = build_server(settings)
        gc.collect()
        gc.freeze()  # what there is now stays: a collection that looks through it takes 50 ms
        server.run(sockets=[listener])
