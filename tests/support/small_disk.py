"""A real file system of a few MB that can be made full: a tmpfs, mounted by the test. Not everybody may mount."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_BLOCK = 4096


class SmallDisk:
    """A file system at a folder. Files are copied into it where the folder had some, and stay in it alone."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._megabytes = folder, megabytes
        self._filler = folder / ".filler"

    def mount(self) -> None:
        """Mount it; raises OSError if that is not allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(self.folder, kept, dirs_exist_ok=True)
            options = ["-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs"]
            done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, check=False, text=True)
            if done.returncode:
                raise OSError(done.stderr.strip())
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)

    def unmount(self) -> None:
        """Move its contents to the folder that it hid."""
        self.free()
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(self.folder, kept, dirs_exist_ok=True)
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes, in whole blocks."""
        self.free()
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(16 * _BLOCK)):
                pass
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(_BLOCK)):
                pass
        with self._filler.open("r+b") as file:
            file.truncate(max(0, file.seek(0, 2) - left // _BLOCK * _BLOCK))

    def free(self) -> None:
        """Space again."""
        self._filler.unlink(missing_ok=True)


def can_mount() -> bool:
    """True if this user may mount a tmpfs."""
    with tempfile.TemporaryDirectory() as folder:
        disk = SmallDisk(Path(folder), 1)
        try:
            disk.mount()
        except OSError:
            return False
        disk.unmount()
        return True


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 8) -> Iterator[SmallDisk]:
    """Mounted for the block. Skips the test where mounting is not allowed."""
    disk = SmallDisk(folder, megabytes)
    try:
        disk.mount()
    except OSError as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    try:
        yield disk
    finally:
        disk.unmount()
