"""The calls of a process for files of a lake, from what `strace -f -e trace=%file` has written. Pure.

A call is counted under its place (a table, or a layer's checkpoint) and its kind. On an object store most calls would
be requests. Two are not: a list of files often answers for a name that is asked for, and a file that is written and
then renamed here is put in one request there, so its temporary name is not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import NamedTuple

#: Kinds of calls: a new version; a file of the log, or of a checkpoint, that is read; a folder that is listed; a
#: name that is asked for (also by opening what is not there); a data file that is read; a file that is written, which
#: may be a checkpoint's or one of the log that is no version; a file that is deleted.
KINDS = ("commit", "log read", "listed", "asked", "data read", "written", "deleted")

_CALL = re.compile(r"^(?P<thread>\d+) +(?:[\d:.]+ +)?(?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<thread>\d+) +(?:[\d:.]+ +)?<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
_UNFINISHED = " <unfinished ...>"
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_VERSION = re.compile(r"_delta_log/\d{20}\.json")
#: A file that its writer renames once it is whole: deltalake's, ours and Spark's names for it.
_HALF = re.compile(r"#\d+$|\.tmp$|\.tmp\.crc$")


class Place(NamedTuple):
    """A folder whose files are counted, and its name in the result."""

    folder: PurePath
    name: str


def counts(lines: Iterable[str], places: Iterable[Place]) -> Counter[tuple[str, str]]:
    """Count calls by (name of the place, kind). Calls for files elsewhere are left out."""
    folders = tuple(places)
    found: Counter[tuple[str, str]] = Counter()
    for name, rest in _whole_calls(lines):
        paths = _PATH.findall(rest.rpartition(" = ")[0])
        if not paths:
            continue
        path = PurePath(paths[-1])  # that of a link or a rename is its new name
        place = next((one for one in folders if path.is_relative_to(one.folder)), None)
        kind = None if place is None else _kind(name, rest, path.relative_to(place.folder).as_posix())
        if place is not None and kind is not None:
            found[place.name, kind] += 1
    return found


def _whole_calls(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each call that has ended and what follows its bracket; strace divides a call that waits."""
    begun: dict[str, str] = {}
    for line in lines:
        text = line.rstrip("\n")
        call, resumed = _CALL.match(text), _RESUMED.match(text)
        if call and text.endswith(_UNFINISHED):
            begun[call["thread"]] = call["rest"].removesuffix(_UNFINISHED)
        elif call:
            yield call["name"], call["rest"]
        elif resumed and resumed["thread"] in begun:
            yield resumed["name"], begun.pop(resumed["thread"]) + resumed["rest"]


def _kind(name: str, rest: str, path: str) -> str | None:
    is_done = not rest.rpartition(" = ")[2].startswith("-1")
    if name.startswith(("link", "rename")):
        return ("commit" if _VERSION.fullmatch(path) else "written") if is_done else None
    if name.startswith("unlink"):
        return "deleted" if is_done and not _HALF.search(path) else None
    if name in {"open", "openat", "creat"}:
        return _opened(rest, path, is_done)
    return "asked" if "stat" in name or "access" in name else None


def _opened(rest: str, path: str, is_done: bool) -> str | None:
    if "O_CREAT" in rest:
        return "written" if is_done and not _HALF.search(path) else None
    if _HALF.search(path) or not is_done:
        return None if is_done else "asked"
    if "O_DIRECTORY" in rest:
        return "listed"
    return "data read" if path.endswith(".parquet") and not path.startswith("_delta_log/") else "log read"
