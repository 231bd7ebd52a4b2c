"""Application of a function to many items in several threads of this process.

It is for functions that spend their time outside of the interpreter's lock, as Arrow's and NumPy's do.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

#: Number of threads: the other layers are at work too.
WORKERS = min(4, os.cpu_count() or 1)

#: The threads, shared by all layers; they begin with the first item.
POOL = ThreadPoolExecutor(WORKERS, thread_name_prefix="side-by-side")


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS) -> Iterator[Result]:
    """Apply a function to each item and yield the results in the order of the items.

    Only some `workers` items are taken ahead, so that a batch is not in memory as a whole. A single item, as a live
    batch has, costs no thread. Raises what the function raises.
    """
    source = iter(items)
    ahead = list(itertools.islice(source, 2))
    if len(ahead) < 2 or workers < 2:
        yield from map(function, itertools.chain(ahead, source))
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for item in itertools.chain(ahead, source):
            waiting.append(POOL.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
