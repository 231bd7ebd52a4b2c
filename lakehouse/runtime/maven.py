"""Maven for `lakehouse.runtime.jars`: a file of a repository, or a dependency graph by jgo (0.4 s to import).

LAKEHOUSE_MAVEN_URL is a mirror to use in place of Central; jgo's own settings file can add repositories.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError, MissingDependencyError

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

#: Seconds without a byte after which a download has failed.
HTTP_SECONDS = 30


def user_repository() -> Path:
    """Maven's own cache of this user, be it there or not."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Downloads:
    """Files of the Maven repositories, over connections that are kept. A context manager; thread-safe."""

    def __init__(self) -> None:
        import httpx

        self._repositories = list(_repositories().values())
        self._client = httpx.Client(timeout=HTTP_SECONDS, follow_redirects=True)

    def fetch(self, path: str, to: Path) -> str:
        """Write the file at `path` of the first repository that has it to `to`; returns its sha256.

        Raises what httpx raises, or LookupError where no repository has it.
        """
        for repository in self._repositories:
            with self._client.stream("GET", f"{repository}/{path}") as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    continue
                answer.raise_for_status()
                found = hashlib.sha256()
                with to.open("wb") as file:
                    for piece in answer.iter_bytes():
                        found.update(piece)
                        file.write(piece)
                return found.hexdigest()
        raise LookupError("no repository has it")

    def __enter__(self) -> Downloads:
        """Nothing is connected yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the connections."""
        self._client.close()


def graph(coordinates: tuple[str, ...], cache: Path) -> list[Artifact]:
    """These artifacts and all they need at run time. Downloads their descriptions, not the jars."""
    from dataclasses import replace

    from jgo.parse import Coordinate

    context = _context(cache)
    roots = [context.create_dependency(replace(Coordinate.parse(text), scope="compile")) for text in coordinates]
    inputs, transitive = context.resolver.resolve(roots)
    return [item.artifact for item in (*inputs, *transitive) if item.scope in ("compile", "runtime")]


@contextlib.contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn whatever jgo, requests and httpx raise (RuntimeError, OSError, AssertionError) into our one line."""
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


def _repositories() -> dict[str, str]:
    """Name → address: LAKEHOUSE_MAVEN_URL alone, else Central and those of jgo's settings file."""
    mirror = os.environ.get("LAKEHOUSE_MAVEN_URL")
    if mirror:
        return {"mirror": mirror.rstrip("/")}
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    named = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return {name: address.rstrip("/") for name, address in named.items()}


def _context(cache: Path) -> MavenContext:
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # Its warnings would precede our one line.
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=cache, remote_repos=_repositories(), timeout=HTTP_SECONDS)
