"""A Redis server of a test's own, on a free port of 127.0.0.1, that can be killed and started again."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from typing import Any

from lakehouse.broker.ports import free_port

#: Debian's server; None if it is not installed.
PROGRAM = shutil.which("redis-server")


class RedisServer:
    """`persistent`: each write is on the disk before its answer (append-only file); else a restart empties it."""

    def __init__(self, persistent: bool, password: str = "") -> None:
        assert PROGRAM is not None
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._port, self._password = free_port(), password
        options = {"appendonly": "yes" if persistent else "no", "appendfsync": "always", "save": ""}
        if password:
            options["requirepass"] = password
        self._options = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        place = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        self._process = subprocess.Popen(
            [str(PROGRAM), *place, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        import redis

        deadline = time.monotonic() + 60
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.ConnectionError:
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a machine does that loses its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def remove(self) -> None:
        """End it and delete its data."""
        self.kill()
        self._folder.cleanup()
