"""The examples of the documents: Python, and commands of a shell. No test module."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: The pages of today. Records of decisions (docs/adr) and the changelog tell of their day.
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:\A|\n\n)((?: {4}.*\S.*\n|\n(?= {4}))+)")
#: First words of a command.
_PROGRAMS = re.compile(
    r"(?:\$ )?((?:[A-Z_<>]+=\S+ )*(?:\.venv/bin/\w+|lakehouse|make|curl|docker|pip|cp|export|eval) .*)", re.DOTALL
)


class Example(NamedTuple):
    """A piece of Python, or one command as a reader types it, and the page that has it."""

    page: str
    text: str


def python() -> Iterator[Example]:
    """Yield the Python of all pages."""
    for page in PAGES:
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "python":
                yield Example(page.name, text)


def commands() -> Iterator[Example]:
    """Yield the commands of all pages: those behind `$`, and those of indented blocks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [block for language, block in _FENCE.findall(text) if language == "console"]
        plain = _FENCE.sub("", text)
        blocks += [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in _INDENTED.findall(plain)]
        for block in blocks:
            for line in _whole(block):
                yield from (
                    Example(page.name, found[1]) for one in line.split(" && ") if (found := _PROGRAMS.match(one))
                )


def _whole(block: str) -> Iterator[str]:
    """Yield the commands of a block; one may have several lines within its quotes."""
    begun = ""
    for line in block.splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # a quote is open
            continue
        yield begun.strip()
        begun = ""
