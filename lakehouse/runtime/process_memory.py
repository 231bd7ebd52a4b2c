"""Limit what a process that runs streams keeps in memory: heaps of the C library, and Python's garbage collector.

glibc gives threads heaps of their own, up to eight for each core, and each keeps what its largest batch once needed. A
stream has some dozens of threads, most of them Rust's, and one or two at work (docs/adr/0010).
Limit: heaps that exist before the call of `limit_heaps` stay, with everything in them.

Reading Kafka makes some ten thousand Python objects at a time, all of which are freed by their reference counts. By
default every 700 new objects start a garbage collection, and sometimes a collection of everything that the process has
imported: 4 % of a catch-up's CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

import pyarrow as pa

#: Most heaps of the process: one for each thread that works at the same time.
MOST_HEAPS = 2

#: Thresholds of Python's garbage collector: the number of new objects that starts a collection of the youngest
#: generation, and the numbers of collections of one generation that start one of the next.
THRESHOLDS = (100_000, 20, 20)

#: malloc.h of glibc.
_M_ARENA_MAX = -8


def limit_heaps() -> None:
    """Let all threads share MOST_HEAPS heaps from now on; without glibc this does nothing.

    Arrow's memory comes from these heaps too: its own allocator, mimalloc, gives pages back and takes them again with
    each batch, on which a catch-up spent some percent of its time (docs/adr/0011).
    """
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, AttributeError, TypeError):  # musl and macOS have no `mallopt`, Windows no `None`
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_HEAPS)


def give_back() -> None:
    """Return free memory of the heaps and of Arrow's pool to the system; takes some milliseconds."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def collect_seldom() -> None:
    """Collect garbage seldom from now on, and never examine the objects that exist now: they live to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
