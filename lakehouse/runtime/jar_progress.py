"""How far a download of jars is, on standard error: a line that is rewritten on a terminal, else one now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two lines where standard error is no terminal: a log shows that it goes on, and not each jar.
PLAIN_SECONDS = 10.0
MEGABYTE = 1e6


@contextmanager
def progress(sizes: list[int]) -> Iterator[Callable[[int], None]]:
    """Show the fetching of jars of these sizes in bytes. Yields what to call with the size of each that is there."""
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
