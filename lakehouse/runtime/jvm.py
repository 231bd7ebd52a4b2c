"""The JVM of a Spark session whose master is this machine, started directly and without `spark-submit`.

`spark-submit` starts one JVM to build the command line of a second one, and has that one look for applications and
packages. Here Java runs the server that pyspark talks to at once, with a class path without Spark's machine learning,
whose functions each session would register: a session is there in 2.2 s instead of 3.6 (docs/adr/0009).
Guarantee: one JVM per process. It ends when the process does, even if that is killed: it reads the end of a pipe.
Source: Spark 4.2, `org.apache.spark.api.python.PythonGatewayServer` (what `spark-submit pyspark-shell` runs), and
`PYSPARK_GATEWAY_PORT` with `PYSPARK_GATEWAY_SECRET`, by which pyspark takes a JVM that is there already.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from lakehouse.errors import RetriableError
from lakehouse.runtime.jars import spark_jars

#: The Java class that the JVM runs: the server to which pyspark connects.
SERVER = "org.apache.spark.api.python.PythonGatewayServer"

#: Jars of pyspark that no stream and no rebuild needs, by the beginnings of their names.
LEFT_OUT = ("spark-mllib_", "spark-mllib-local_", "spark-graphx_")

#: Options that Spark's launcher gives every JVM of version 17 or later. Source: Spark 4.2, `JavaModuleOptions`.
MODULE_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-modules=jdk.incubator.vector",
    *(
        f"--add-opens={package}=ALL-UNNAMED"
        for package in (
            "java.base/java.lang",
            "java.base/java.lang.invoke",
            "java.base/java.lang.reflect",
            "java.base/java.io",
            "java.base/java.net",
            "java.base/java.nio",
            "java.base/java.util",
            "java.base/java.util.concurrent",
            "java.base/java.util.concurrent.atomic",
            "java.base/jdk.internal.ref",
            "java.base/sun.nio.ch",
            "java.base/sun.nio.cs",
            "java.base/sun.security.action",
            "java.base/sun.util.calendar",
            "java.security.jgss/sun.security.krb5",
        )
    ),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)

#: Seconds for the JVM to say where it listens; it takes one, and many on a machine under load.
ANSWER_SECONDS = 120.0

_PORT, _SECRET = "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"


class Jvm:
    """A JVM process for a Spark session. Its caller goes on while it starts; then it waits for pyspark to connect."""

    def __init__(self, java: Path, memory: str, options: Sequence[str]) -> None:
        """Start the process. `memory` is the largest heap as Java writes it (`1g`); `options` are more Java options."""
        self._folder = tempfile.mkdtemp(prefix="lakehouse-jvm-")
        self._answer = Path(self._folder) / "answer"
        self.process = subprocess.Popen(
            [
                str(java),
                "-cp",
                os.pathsep.join(map(str, class_path())),
                f"-Xmx{memory}",
                *options,
                *MODULE_OPTIONS,
                SERVER,
            ],
            stdin=subprocess.PIPE,
            env={
                **os.environ,
                "SPARK_HOME": str(_spark_home()),  # where Spark's Python workers find pyspark
                "_PYSPARK_DRIVER_CONN_INFO_PATH": str(self._answer),
            },
            # Ctrl-C is for us; we end the queries first, and the JVM with them.
            preexec_fn=_ignore_interrupts if os.name == "posix" else None,
        )
        # It reads the pipe only after it has answered, and without the folder it never answers.
        self._unasked = weakref.finalize(self, _end_unasked, self.process, self._folder)

    def offer(self) -> dict[str, str]:
        """Wait until the JVM listens, and return the environment variables by which pyspark connects to it. Call once.

        Raises RetriableError if it ends or does not answer within ANSWER_SECONDS.
        """
        try:
            port, secret = self._read(self._answer)
        finally:
            self._unasked.detach()
            shutil.rmtree(self._folder, ignore_errors=True)
        return {_PORT: str(port), _SECRET: secret}

    def end(self, timeout: float) -> None:
        """Close the JVM's standard input, which makes it exit, and wait at most `timeout` seconds.

        Raises subprocess.TimeoutExpired if it lives on; it is not killed.
        """
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout)

    def _read(self, answer: Path) -> tuple[int, str]:
        """Port and secret: four bytes each for the port and the secret's length, then the secret."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not answer.exists():
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.process.kill()
                self.end(ANSWER_SECONDS)
                found = "did not answer in time" if code is None else f"ended with exit code {code} at its start"
                raise RetriableError(
                    f"Java {found}",
                    "a JVM that waits for pyspark",
                    "look at what it said before this line; LAKEHOUSE_SPARK_DRIVER_MEMORY may be more than there is",
                )
            time.sleep(0.01)
        content = answer.read_bytes()
        port, length = struct.unpack_from(">ii", content)
        return int(port), content[8 : 8 + length].decode()


def class_path() -> list[Path]:
    """Return the jars of the JVM: Spark's own without LEFT_OUT, then those of the connectors.

    Raises MissingDependencyError if a connector's jar is missing and cannot be fetched.
    """
    own = sorted((_spark_home() / "jars").glob("*.jar"))
    return [jar for jar in own if not jar.name.startswith(LEFT_OUT)] + spark_jars()


def _spark_home() -> Path:
    import pyspark

    return Path(pyspark.__file__).parent


def _end_unasked(process: subprocess.Popen[bytes], folder: str) -> None:
    """Kill a JVM that no session claimed."""
    process.kill()
    if process.stdin is not None:
        process.stdin.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
