"""The real API server in a thread, on a free port, and what its rows must be. No test module."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import uvicorn

from lakehouse.serving.app import build_app
from lakehouse.serving.guard import Guard, Limits
from lakehouse.serving.pool import Pool
from lakehouse.serving.server import build_server, listen
from lakehouse.settings import Settings


@contextlib.contextmanager
def serving(
    settings: Settings, limits: Limits | None = None, pool: Pool | None = None, **client: Any
) -> Iterator[httpx.Client]:
    """Serve a lake while the block runs; yields a client of it."""
    with running(settings, limits, pool) as url, httpx.Client(base_url=url, timeout=60, **client) as http:
        yield http


@contextlib.contextmanager
def running(
    settings: Settings,
    limits: Limits | None = None,
    pool: Pool | None = None,
    port: int = 0,
    app: Guard | None = None,
) -> Iterator[str]:
    """Serve a lake while the block runs, on any free port if it is 0; yields its URL.

    `app`: an application that a test looks into.
    """
    server: uvicorn.Server = build_server(settings, limits)
    if pool is not None or app is not None:
        server.config.app = app or build_app(settings, limits, pool)
    with listen("127.0.0.1", port) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Write a row as the API does, in plain Python."""
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text if value else "0"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, dt.date):
        return value.isoformat()
    return value


def pages(client: httpx.Client, path: str, limit: int, **parameters: Any) -> list[list[dict[str, Any]]]:
    """All pages of a query, by its cursors."""
    found: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        answer = client.get(path, params={**parameters, "limit": limit, **more})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["rows"])
        cursor = answer.json()["next"]
        if cursor is None:
            return found
        assert len(found[-1]) == limit
