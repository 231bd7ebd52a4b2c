"""Maven through jgo, for `lakehouse.jars`: one artifact, or a dependency graph. Imports jgo (0.4 s) only when called.

LAKEHOUSE_MAVEN_URL is a mirror to use in place of Central; jgo's own settings file can add repositories.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError, MissingDependencyError

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

#: Seconds without a byte after which a download has failed.
HTTP_SECONDS = 30


def artifact(group: str, name: str, version: str, cache: Path) -> Artifact:
    """The jar of these coordinates; its `resolve()` downloads it into `cache`, laid out as a Maven repository."""
    return _context(cache).project(group, name).at_version(version).artifact()


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
    """Turn whatever jgo and requests raise (RuntimeError, OSError, AssertionError) into our one line."""
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


def _context(cache: Path) -> MavenContext:
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # Its warnings would precede our one line.
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    mirror = os.environ.get("LAKEHOUSE_MAVEN_URL")
    if mirror:
        remotes = {"mirror": mirror.rstrip("/")}
    else:
        remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=cache, remote_repos=remotes, timeout=HTTP_SECONDS)
