"""Fingerprints of the rows in data files of a table, whether a commit names the files or not: a work over units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.rebuild.fingerprint import Fingerprint, fingerprint
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan
from lakehouse.streams.batch_files import read_chunks
from lakehouse.streams.batch_plan import UNIT_MESSAGES, DataFile, paths_of
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import Table


@dataclass(frozen=True)
class PrintUnit:
    """Data files of a table, at `paths` below its root."""

    settings: Settings
    table: Table
    paths: tuple[str, ...]


def print_files(unit: PrintUnit) -> Fingerprint:
    """Compute the fingerprint of a unit's rows. Raises OSError if a file cannot be read."""
    chunks = read_chunks(unit.settings, unit.table, unit.paths, unit.table.column_names)
    return sum((fingerprint(chunk, unit.table) for chunk in chunks), Fingerprint())


def fingerprint_of(settings: Settings, table: Table, files: Sequence[DataFile], tasks: Tasks) -> Fingerprint:
    """Compute the fingerprint of the rows in some files of a table. Raises what a work raises."""
    mine = settings.for_executors()
    units = [PrintUnit(mine, table, paths_of(some)) for some in batch_plan.units(files, UNIT_MESSAGES)]
    return sum(tasks.run(units, print_files), Fingerprint())
