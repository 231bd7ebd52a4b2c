"""Maven repositories through jgo: one jar, a dependency graph, and the progress of a download on standard error.

LAKEHOUSE_MAVEN_URL is a mirror to use in place of Central; jgo's own settings file can add repositories.
Importing this module takes 0.4 s, because of jgo, so only a process that downloads imports it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import httpx
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver
from jgo.parse import Coordinate

from lakehouse.errors import LakehouseError, MissingDependencyError

#: Seconds without a byte after which a download has failed.
HTTP_SECONDS = 30
#: Seconds between two lines of progress if standard error is no terminal: a log shows that it goes on, not each jar.
PLAIN_SECONDS = 10.0
#: Bytes of a megabyte.
MEGABYTE = 1e6


def user_repository() -> Path:
    """Return the path of this user's Maven cache, which is only read, whether or not it exists."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Downloads(PythonResolver):
    """jgo's resolver, which keeps its connections open: 23 small jars take 2 s instead of 17 s. Thread-safe."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__()
        self._client = client

    def download(self, artifact: Artifact) -> Path:
        """Fetch a file into the context's cache from the first repository that has it.

        A repository that answers 404 is passed over. Raises RuntimeError, as jgo does, if no repository has it;
        httpx.HTTPError for any other failure of a repository; OSError if the file cannot be written.
        """
        path = artifact.component.path_prefix / artifact.filename
        to = artifact.context.repo_cache / path
        for address in artifact.context.remote_repos.values():
            with self._client.stream("GET", f"{address}/{path.as_posix()}") as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    continue
                answer.raise_for_status()
                to.parent.mkdir(parents=True, exist_ok=True)
                with to.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                return to
        raise RuntimeError("no repository has it")


@contextlib.contextmanager
def context(cache: Path, others: Sequence[Path] = ()) -> Iterator[MavenContext]:
    """Yield jgo's access to the Maven repositories that the environment names.

    Downloads go to the folder `cache`; `others` are local Maven repositories that are only read.
    """
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # Its warnings would precede our one line.
    with httpx.Client(timeout=HTTP_SECONDS, follow_redirects=True) as client:
        yield MavenContext(Downloads(client), repo_cache=cache, local_repos=list(others), remote_repos=_repositories())


def graph(coordinates: tuple[str, ...], maven: MavenContext) -> list[Artifact]:
    """Resolve coordinates (`group:artifact:version`) to their artifacts and all artifacts that these need at run time.

    Downloads the POMs, not the jars.
    """
    roots = [maven.create_dependency(replace(Coordinate.parse(text), scope="compile")) for text in coordinates]
    inputs, transitive = maven.resolver.resolve(roots)
    return [item.artifact for item in (*inputs, *transitive) if item.scope in ("compile", "runtime")]


@contextlib.contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn an Exception of the block into a MissingDependencyError of one line: `what` could not be downloaded.

    An error of another cause, such as a full disk, is turned into it too. A LakehouseError passes unchanged.
    """
    try:
        yield
    except LakehouseError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise MissingDependencyError(
            f"cannot download {what} from Maven ({type(error).__name__}: {reason[:120]})",
            "a Maven repository to be reachable",
            "connect to the internet, or set LAKEHOUSE_MAVEN_URL to a mirror or LAKEHOUSE_JARS to a folder of the jars",
        ) from error


@contextlib.contextmanager
def progress(sizes: list[int]) -> Iterator[Callable[[int], None]]:
    """Show the progress of fetching jars of these sizes, in bytes. Yields a function to call with each fetched size.

    A terminal gets one line that is rewritten; a log gets a line every PLAIN_SECONDS.
    """
    from rich.console import Console  # only for those who download

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    began = time.monotonic()
    jars, total, count, done, told = len(sizes), sum(sizes) / MEGABYTE, 0, 0.0, began

    def line() -> str:
        return f"fetching jars from Maven: {count} of {jars}, {done:.0f} of {total:.0f} MB"

    status = console.status(line())
    if console.is_terminal:
        status.start()
    else:
        console.print(line())

    def advance(size: int) -> None:
        nonlocal count, done, told
        count, done = count + 1, done + size / MEGABYTE
        status.update(line())
        if not console.is_terminal and count < jars and time.monotonic() - told >= PLAIN_SECONDS:
            told = time.monotonic()
            console.print(line())

    try:
        yield advance
    finally:
        status.stop()
    console.print(f"fetched {jars} jars, {total:.0f} MB, in {time.monotonic() - began:.0f} s")


def _repositories() -> dict[str, str]:
    """Name → address: LAKEHOUSE_MAVEN_URL alone, else Central and the repositories of jgo's settings file."""
    mirror = os.environ.get("LAKEHOUSE_MAVEN_URL")
    if mirror:
        return {"mirror": mirror.rstrip("/")}
    named = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return {name: address.rstrip("/") for name, address in named.items()}
