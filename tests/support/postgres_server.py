"""A PostgreSQL server of a test's own, on a free port of 127.0.0.1, that can be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from lakehouse.broker.ports import free_port


def programs() -> Path | None:
    """The folder of Debian's server programs, the newest; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda one: int(one.parts[-3]))
    if found:
        return found[-1].parent
    there = shutil.which("postgres")
    return Path(there).parent if there else None


class PostgresServer:
    """PostgreSQL refuses to run as root, so as root it runs as the user `postgres`."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None
        # Not in pytest's folders, which other users may not enter.
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        self._bin, self._data, self._port = found, Path(self._folder.name) / "data", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder.name, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--auth=trust", "--username=lakehouse", "--no-sync", "--pgdata", str(self._data))
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://lakehouse@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = ("-k", str(self._data), "-c", "listen_addresses=127.0.0.1")
        self._process = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self._port), *options],
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while subprocess.run(self._ready(), capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)

    def kill(self) -> None:
        """End all of it at once, as a machine does that loses its power."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, without waiting for clients."""
        self._end(signal.SIGINT)

    def remove(self) -> None:
        """End it and delete its data."""
        self.stop()
        self._folder.cleanup()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if number is signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        self._process.wait(60)
        self._process = None

    def _ready(self) -> list[str]:
        return [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port), "-d", "postgres"]

    def _run(self, program: str, *arguments: str) -> None:
        extra = {"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}
        subprocess.run([str(self._bin / program), *arguments], check=True, capture_output=True, cwd="/", **extra)  # type: ignore[call-overload]
