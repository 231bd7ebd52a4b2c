"""A disk that gets full while streams commit, table by table; then there is space again, and the audit must be exact.

    python -m tests.faults.full_disk                             every place, 30 batches each; an hour on two cores
    python -m tests.faults.full_disk --only silver --batches 5   some places, fewer batches

A place is the folder of a table or a layer's checkpoint. It gets a small file system of its own, of which each batch
finds another number of bytes left: none for a file, none for the log entry, none for Spark's word, and so on. A
stream that fails is started anew with the next batch, on a disk that is as full or nearly so.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lakehouse.audit.run import audit
from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import BY_PATH
from tests.faults.kill_points import Rounds, assert_exact, assert_nothing_wrong_so_far
from tests.support.small_disk import SmallDisk, can_mount

#: Bytes that a batch finds. Files of these batches have some 5 to 20 KB, a log entry 1 to 4.
LEFT = (0, 4_096, 8_192, 12_288, 16_384, 20_480, 28_672, 40_960, 65_536, 131_072)

#: Size of a place's file system: what 30 batches write, and as much again.
MEGABYTES = 16


def places(settings: Settings) -> dict[str, tuple[Path, str]]:
    """Name → the folder, and the layer whose stream writes there."""
    folders: dict[str, tuple[Path, str]] = {
        table.path: (Path(table_io.table_uri(settings, table)), table.layer)
        for table in table_io.active_tables(settings)
        if table.layer != "ops"
    }
    folders["ops/batches"] = (Path(table_io.table_uri(settings, BY_PATH["ops/batches"])), "bronze")
    for layer in ("bronze", "silver", "gold"):
        folders[f"checkpoints/{layer}"] = (Path(settings.checkpoints) / layer, layer)
    return folders


def run(settings: Settings, names: Sequence[str], batches: int, say: Any = print) -> None:
    """Fill the disk of each place in turn, on one lake. AssertionError where a table is wrong at any time."""
    from lakehouse.streams.materialize import materialize
    from lakehouse.tables import LAYERS

    rounds = Rounds(settings)
    rounds.send_next()
    materialize(settings)
    folders = places(settings)
    for name in names:
        began, (folder, layer) = time.monotonic(), folders[name]
        lines: list[str] = []
        with _mounted(folder) as disk:
            for left in itertools.islice(itertools.cycle(LEFT), batches):
                rounds.send_next()
                if before := LAYERS[: LAYERS.index(layer)]:
                    materialize(settings, before)
                disk.fill(left)
                try:
                    materialize(settings, (layer,))
                except LakehouseError as error:  # anything else that comes out of a stream is a fault
                    lines.append(str(error))
                finally:
                    disk.free()
                assert_nothing_wrong_so_far(settings, rounds.truth, name)
        assert lines, f"{name}: the disk was never full"
        assert all("\n" not in line and "space" in line.lower() for line in lines), lines
        materialize(settings)
        report = audit(settings)
        assert not report.faults, f"{name}: {report.faults[0]}"
        assert_exact(settings, rounds.truth)
        seconds = time.monotonic() - began
        say(f"{name}: {len(lines)} of {batches} batches failed, then exact; {seconds:.0f} s", flush=True)


@contextlib.contextmanager
def _mounted(folder: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, MEGABYTES)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()


def main(arguments: list[str] | None = None) -> int:
    """Every place that was asked for, on a Kafka of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.full_disk", description="Full disks, table by table.")
    parser.add_argument("--only", default="", help="only places whose names begin so")
    parser.add_argument("--batches", type=int, default=30, help="batches of each place")
    options = parser.parse_args(arguments)
    if not can_mount():
        print("a tmpfs cannot be mounted here; expected a user who may mount one; nothing was tried", file=sys.stderr)
        return 69  # EX_UNAVAILABLE of sysexits.h
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        home = Path(folder)
        with EmbeddedBroker(load_settings(home=home / "kafka")) as broker:
            settings = load_settings(home=home / "lakehouse", bootstrap_servers=broker.bootstrap)
            ensure_topics(settings)
            table_io.ensure_tables(settings)
            run(settings, [name for name in places(settings) if name.startswith(options.only)], options.batches)
    return 0


if __name__ == "__main__":
    sys.exit(main())
