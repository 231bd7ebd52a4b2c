"""Export rows to files, a UTC day at a time, so that a run that was interrupted goes on where it stopped.

A day's file gets its name when it is whole. `export.json` beside the files says what they hold: a day is skipped if it
was exported with the same choice from the same files of the table.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from lakehouse.client.files import FORMS, write_file
from lakehouse.client.lake import Lake
from lakehouse.client.scan import Scan
from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError, TerminalError
from lakehouse.lake import table_io

KINDS = ("trades", "bars", "indicators", "moves", "spreads")
MANIFEST = "export.json"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Choice:
    """The choice of rows to export: `kind` is one of KINDS, `size` the length of bars, times are in UTC.

    `venue` or `symbol` None means all of them.
    """

    kind: str
    venue: str | None = None
    symbol: str | None = None
    size: str = "1m"
    start: dt.datetime | None = None
    end: dt.datetime | None = None

    def scan(self, lake: Lake, wanted: TimeRange) -> Scan:
        """Return the scan of the chosen rows in `wanted`, a part of the range.

        Raises SettingError for an unknown kind or size of bars, or for spreads of one venue.
        """
        times: dict[str, Any] = {"start": wanted.start, "end": wanted.end}
        if self.kind == "bars":
            return lake.bars(self.venue, self.symbol, size=self.size, **times)
        if self.kind == "spreads":
            if self.venue is not None:
                raise SettingError("spreads of one venue", "all venues: a spread lies between two", "leave --venue out")
            return lake.spreads(self.symbol, **times)
        if self.kind not in KINDS:
            raise SettingError(f"export of {self.kind!r}", f"one of {', '.join(KINDS)}")
        method: Callable[..., Scan] = getattr(lake, self.kind)
        return method(self.venue, self.symbol, **times)


@dataclass(frozen=True)
class DayDone:
    """A day of an export, `number` of `total` days. `skipped`: its file was there already."""

    day: dt.date
    rows: int
    skipped: bool
    number: int
    total: int


def export(lake: Lake, choice: Choice, out: Path, form: str | None = None) -> Iterator[DayDone]:
    """Export day by day, and yield each day when its file is there.

    If `out` has an ending (bars.csv), it is one file, made of its days at the end; else it is a folder with a file for
    each day of the range that the table has. If `form` is None, the ending decides; it is parquet if the ending names
    no form. Raises SettingError for an unknown form, or if the folder holds another export; TerminalError if a file
    cannot be written.
    """
    ending = out.suffix.lstrip(".").lower()
    form = form or (ending if ending in FORMS else "parquet")
    if form not in FORMS:
        raise SettingError(f"format {form!r}", f"one of {', '.join(FORMS)}")
    if not ending:
        yield from _days(lake, choice, out, form)
        return
    folder = out.with_name(f".{out.name}.days")
    yield from _days(lake, choice, folder, "parquet")
    schema = choice.scan(lake, TimeRange(choice.start, choice.end)).schema
    parts = (pyarrow.parquet.read_table(file).cast(schema) for file in sorted(folder.glob("*.parquet")))
    write_file(out, schema, parts, form)
    shutil.rmtree(folder)


def _days(lake: Lake, choice: Choice, folder: Path, form: str) -> Iterator[DayDone]:
    whole = choice.scan(lake, TimeRange(choice.start, choice.end))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TerminalError(f"{folder} cannot be made: {error.strerror}", "a folder that can be written") from error
    manifest = _Manifest.of(folder, {**json.loads(json.dumps(dataclasses.asdict(choice), default=str)), "format": form})
    days = table_io.days(lake.settings, whole.table, whole.version)
    wanted = [day for day in days if _touches(day, choice)]
    for number, day in enumerate(wanted, 1):
        # A rolled-up bar's flags are proved by the bars after it, which may be the next day's.
        source = [days[day], days.get(day + _DAY)] if whole.made is not None else [days[day]]
        file = folder / f"{choice.kind}-{day.isoformat()}.{form}"
        known = manifest.days.get(day.isoformat())
        skipped = known is not None and known["source"] == json.loads(json.dumps(source)) and file.is_file()
        if known is not None and skipped:
            rows = int(known["rows"])
        else:
            rows = _write_day(choice.scan(lake, _part(day, choice)), file, form)
            manifest.note(day, rows, source)
        yield DayDone(day, rows, skipped, number, len(wanted))


def _write_day(scan: Scan, file: Path, form: str) -> int:
    counted = 0

    def parts() -> Iterator[pa.Table]:
        nonlocal counted
        for batch in scan.batches():
            counted += batch.num_rows
            yield pa.Table.from_batches([batch])

    write_file(file, scan.schema, parts(), form)
    return counted


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _touches(day: dt.date, choice: Choice) -> bool:
    begins = choice.end is None or _midnight(day) < choice.end
    return begins and (choice.start is None or _midnight(day) + _DAY > choice.start)


def _part(day: dt.date, choice: Choice) -> TimeRange:
    """Return the part of the choice's range that is this day."""
    start, end = _midnight(day), _midnight(day) + _DAY
    return TimeRange(max(start, choice.start or start), min(end, choice.end or end))


class _Manifest:
    """The record of an export's folder: the choice, and the days that are there."""

    def __init__(self, file: Path, choice: dict[str, Any], days: dict[str, dict[str, Any]]) -> None:
        self._file = file
        self._choice = choice
        self.days = days

    @classmethod
    def of(cls, folder: Path, choice: dict[str, Any]) -> _Manifest:
        """Read a folder's. Raises SettingError if it is of another export, or the folder has other files."""
        file = folder / MANIFEST
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            there, days = found["choice"], dict(found["days"])
        except FileNotFoundError:
            others = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
            if others:
                raise SettingError(
                    f"{folder} holds {others[0]}", "an empty folder, or one of the same export"
                ) from None
            there, days = choice, {}
        except (ValueError, KeyError, TypeError):
            raise SettingError(
                f"{file} cannot be read", "one that an export wrote", "export to another folder"
            ) from None
        if there != choice:
            differs = ", ".join(name for name in choice if there.get(name) != choice[name])
            raise SettingError(
                f"{folder} holds another export ({differs} differ)", "the same one", "export to another folder"
            )
        return cls(file, choice, days)

    def note(self, day: dt.date, rows: int, source: list[Any]) -> None:
        """Record that a day's file is there."""
        self.days[day.isoformat()] = {"rows": rows, "source": source}
        part = self._file.with_name(f".{MANIFEST}.part")
        part.write_text(json.dumps({"choice": self._choice, "days": self.days}, indent=1), encoding="utf-8")
        part.replace(self._file)
