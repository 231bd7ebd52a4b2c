"""Keeps the C library from holding a heap for each thread that ever allocated memory, and what is free in heaps.

glibc gives threads heaps of their own, up to eight for each core, and each keeps what its largest batch once needed. A
stream has some dozens of threads, most of them Rust's, and one or two at work (docs/adr/0010).
Gap: heaps that there are before the call stay, with all that they hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

import pyarrow as pa

#: One for each thread that is at work.
MOST_HEAPS = 2

#: Objects more than there were, for a look at the youngest; and looks at the younger for one at the older.
THRESHOLDS = (100_000, 20, 20)

#: malloc.h of glibc.
_M_ARENA_MAX = -8


def limit_heaps() -> None:
    """From now on threads share MOST_HEAPS heaps. Of a process that runs streams; nothing where there is no glibc.

    Arrow's memory comes from them too. Its own allocator, mimalloc, gives pages back and takes them again with each
    batch, which a catch-up spent some percent of its time with (docs/adr/0011).
    """
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, AttributeError, TypeError):  # musl and macOS have no `mallopt`, Windows no `None`
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_HEAPS)


def give_back() -> None:
    """Give what is free in the heaps, and in Arrow's pool, back to the system: some milliseconds."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def collect_seldom() -> None:
    """Cycles are looked for seldom, and never among what is there now: it stays for as long as the process does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
