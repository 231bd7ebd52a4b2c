"""Data files of bronze/messages → rows of Silver: one way for a batch of the stream and for a unit of a rebuild.

A file is read a chunk at a time; plain trades are recognised (`transforms/wire.py`), other messages are judged one by
one. Conflicts are found later (`streams/dedup.py`); for them `refused` reads the few raw messages again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_files
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES
from lakehouse.transforms import wire
from lakehouse.transforms.arrow_numpy import Integers
from lakehouse.transforms.message_judge import COLUMNS, Judged, judge, quarantine_rows


class SilverRows(NamedTuple):
    """The rows that the messages of some files are, repeats included.

    `files` has for each trade the number of its file, from 0, in the order in which they were given.
    """

    judged: Judged
    files: Integers


def rows_of(settings: Settings, paths: Sequence[str]) -> SilverRows:
    """Read and judge the messages of data files of bronze/messages."""
    made = [
        (number, _judged(chunk, settings))
        for number, path in enumerate(paths)
        for chunk in batch_files.read_chunks(settings, BRONZE_MESSAGES, [path], COLUMNS)
    ]
    parts = zip(Judged.of_nothing(), *(judged for _, judged in made), strict=True)
    numbers = [np.full(judged.trades.num_rows, number, np.int64) for number, judged in made]
    return SilverRows(Judged(*map(pa.concat_tables, parts)), np.concatenate([np.empty(0, np.int64), *numbers]))


def refused(settings: Settings, paths: Sequence[str], verdicts: pa.Table) -> pa.Table:
    """Return the rows of silver/quarantine of the messages in data files that `verdicts` names (`dedup.conflicts`)."""
    return quarantine_rows(batch_files.messages_at(settings, paths, verdicts, COLUMNS), verdicts)


def _judged(chunk: pa.Table, settings: Settings) -> Judged:
    """Judge a chunk of a file: its plain trades are recognised, the other messages are judged one by one."""
    if chunk.column("topic")[0].as_py() != settings.topic_trades:  # a file is of one topic
        return judge(chunk, settings)
    found = wire.recognise(chunk.select(wire.COLUMNS), settings)
    trades = found.trades.cast(table_io.arrow_schema(SILVER_TRADES))
    if not found.left.any():
        return Judged.of_nothing()._replace(trades=trades)
    others = judge(chunk.filter(pa.array(found.left)), settings)
    return others._replace(trades=pa.concat_tables([trades, others.trades]))
