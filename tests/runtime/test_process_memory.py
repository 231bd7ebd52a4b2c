"""The heaps of a process, told by glibc itself (`malloc_info`)."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps for threads are glibc's")

#: Six threads that hold memory at the same time; then the number of heaps.
SCRIPT = """
import ctypes, re, threading
from lakehouse.runtime.process_memory import limit_heaps
if {limited}:
    limit_heaps()
c = ctypes.CDLL(None)
c.malloc.restype, c.open_memstream.restype = ctypes.c_void_p, ctypes.c_void_p
together = threading.Barrier(6)
def hold():
    c.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(c.open_memstream(ctypes.byref(text), ctypes.byref(size)))
c.malloc_info(0, stream)
c.fclose(stream)
print(len(re.findall(rb"<heap nr=", text.value)))
"""


def heaps(limited: bool) -> int:
    """Measure a fresh process."""
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(limited=limited)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_threads_share_two_heaps() -> None:
    assert heaps(limited=True) <= 2
    assert heaps(limited=False) > 2


def test_arrow_takes_its_memory_from_them() -> None:
    code = """
import pyarrow as pa
from lakehouse.runtime.process_memory import limit_heaps
limit_heaps()
before = pa.system_memory_pool().bytes_allocated()
held = pa.array(range(100_000))
print(pa.default_memory_pool().backend_name, pa.system_memory_pool().bytes_allocated() - before >= 800_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["system", "True"], done.stderr
