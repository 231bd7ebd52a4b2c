"""Files of rows in the forms that other programs read: csv, jsonl, parquet, arrow (IPC)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lakehouse.client.text import json_lines, texts
from lakehouse.errors import SettingError, TerminalError

FORMS = ("csv", "parquet", "jsonl", "arrow")


def write_rows(rows: pa.Table, form: str, out: Path | None) -> None:
    """Write rows to the file `out`, or to standard output if it is None. Raises like `write_file`."""
    if out is None:
        _write(sys.stdout.buffer, rows.schema, [rows], form)
        sys.stdout.buffer.flush()
        return
    write_file(out, rows.schema, [rows], form)


def write_file(out: Path, schema: pa.Schema, parts: Iterable[pa.Table], form: str) -> None:
    """Write tables of one schema to one file, which gets its name only when it is whole.

    Raises SettingError for an unknown form, TerminalError if the file cannot be written.
    """
    if form not in FORMS:
        raise SettingError(f"format {form!r}", f"one of {', '.join(FORMS)}")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _write(file, schema, parts, form)
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except OSError as error:
        raise TerminalError(
            f"{out} cannot be written: {error.strerror or error}", "a folder with space in it"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _write(file: IO[bytes], schema: pa.Schema, parts: Iterable[pa.Table], form: str) -> None:
    with _writer(file, schema, form) as write:
        for part in parts:
            write(part)


@contextlib.contextmanager
def _writer(file: IO[bytes], schema: pa.Schema, form: str) -> Iterator[Callable[[pa.Table], Any]]:
    if form == "parquet":
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield parquet.write_table
    elif form == "arrow":
        with pa.ipc.new_file(cast("Any", file), schema) as ipc:
            yield ipc.write_table
    elif form == "csv":
        with pyarrow.csv.CSVWriter(file, texts(schema.empty_table()).schema) as csv:
            yield lambda rows: csv.write_table(texts(rows))
    else:
        yield lambda rows: file.write(json_lines(rows).encode())
