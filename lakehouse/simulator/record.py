"""The record: every trade that the simulated exchange made, on disk. Tests compare the lakehouse's tables with it.

Guarantee: a trade is in the record before any client can have it (written to the file, though not synced to the disk,
so it outlives a kill of the process but maybe not a power cut). Per (venue, symbol) the rows are in trade-id order.
Limit: trades of replayed files are not recorded; compare with the files themselves.

A file per (venue, symbol), `FOLDER/<venue>/<BASE-QUOTE>.trades`: a header as long as a row, then rows of `ROW.size`
bytes, so that any row is found by one seek. A torn row at the end is cut off when the file is opened for writing and is
not seen by readers.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from lakehouse.errors import SettingError

#: Binary layout of a row: trade_id, ts_event (µs), price and size as integers, their decimals, 1 if the taker bought;
#: padded to 40 bytes.
ROW = struct.Struct("<QqqqBB?5x")
HEADER = b"lakehouse simulated trades, v1\n".ljust(ROW.size, b"\0")
SUFFIX = ".trades"
#: Rows that a reader holds at a time.
CHUNK_ROWS = 4096


class Row(NamedTuple):
    """One recorded trade in integers: the price is `price / 10**price_decimals`, likewise the size.

    `ts_event` is in µs since the epoch; `buy` is True if the taker bought.
    """

    trade_id: int
    ts_event: int
    price: int
    size: int
    price_decimals: int
    size_decimals: int
    buy: bool


class TrueTrade(NamedTuple):
    """One recorded trade as tests compare it: `price` and `size` as decimals with the digits that clients were sent.

    `symbol` is canonical, `side` the taker's, `ts_event` in µs since the epoch.
    """

    venue: str
    symbol: str
    trade_id: int
    price: Decimal
    size: Decimal
    side: Literal["buy", "sell"]
    ts_event: int


def decimal_text(value: int, decimals: int) -> str:
    """Format `value / 10**decimals`, for a value ≥ 0, with exactly so many decimals and no exponent: 150, 2 → 1.50."""
    if decimals == 0:
        return str(value)
    whole, fraction = divmod(value, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}"


def file_of(folder: Path, venue: str, symbol: str) -> Path:
    """Return the path of the file that keeps the trades of a venue's canonical symbol below the record's folder."""
    return folder / venue / (symbol.replace("/", "-") + SUFFIX)


class Record:
    """Reads the trades in a record's folder. A simulator may be writing: each call sees the trades of that moment."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def keys(self) -> list[tuple[str, str]]:
        """Return the (venue, canonical symbol) pairs that have at least one recorded trade, sorted."""
        files = sorted(self.folder.glob(f"*/*{SUFFIX}"))
        named = ((file.parent.name, file.name.removesuffix(SUFFIX).replace("-", "/")) for file in files)
        return [key for key in named if self.count(*key)]

    def count(self, venue: str, symbol: str) -> int:
        """Return the number of recorded trades of a canonical symbol; 0 if it never traded."""
        try:
            size = file_of(self.folder, venue, symbol).stat().st_size
        except FileNotFoundError:
            return 0
        return max(0, size // ROW.size - 1)

    def iter(self, venue: str, symbol: str) -> Iterator[TrueTrade]:
        """Yield every recorded trade of a canonical symbol in id order, in bounded memory. Nothing if it never traded.

        Raises SettingError if the file is not a record.
        """
        left = self.count(venue, symbol)
        if not left:
            return
        with file_of(self.folder, venue, symbol).open("rb") as file:
            _check_header(file.read(ROW.size), file.name)
            while left:
                rows = min(left, CHUNK_ROWS)
                for row in ROW.iter_unpack(file.read(rows * ROW.size)):
                    yield true_trade(venue, symbol, Row._make(row))
                left -= rows


def true_trade(venue: str, symbol: str, row: Row) -> TrueTrade:
    """Convert a row of a venue's canonical symbol to a `TrueTrade`, with price and size as decimals."""
    price = Decimal(decimal_text(row.price, row.price_decimals))
    size = Decimal(decimal_text(row.size, row.size_decimals))
    return TrueTrade(venue, symbol, row.trade_id, price, size, "buy" if row.buy else "sell", row.ts_event)


class Tape:
    """The record file of one (venue, symbol), open for appending and random reads.

    The `FolderLock` of its folder must be held. A torn row at the end is cut off. Raises SettingError if the file is
    not a record.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._look(str(path))
        except BaseException:
            os.close(self._file)
            raise

    def _look(self, name: str) -> None:
        """Check the header, cut a torn row off, and find the first and the last row."""
        size = os.fstat(self._file).st_size
        if size < ROW.size:
            # A new file, or one whose very header was torn: nothing can have been sent yet.
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, HEADER, 0)
            size = ROW.size
        _check_header(os.pread(self._file, ROW.size, 0), name)
        self.count = size // ROW.size - 1
        # A file system may leave zeros at the end after a power cut; no trade has the id 0.
        while self.count and not self.rows(self.count - 1, 1)[0].trade_id:
            self.count -= 1
        self._cut()
        self.first = self.rows(0, 1)[0] if self.count else None
        self.last = self.rows(self.count - 1, 1)[0] if self.count else None

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows (ids ascending) at the end. If that fails, restores the file to its old length; raises OSError."""
        data = b"".join([ROW.pack(*row) for row in rows])
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], (self.count + 1) * ROW.size + written)
        except OSError:
            self._cut()
            raise
        self.count += len(rows)
        self.first = self.first or rows[0]
        self.last = rows[-1]

    def rows(self, start: int, limit: int) -> list[Row]:
        """Read up to `limit` rows from index `start` on, ascending; index 0 is the oldest row."""
        limit = max(0, min(limit, self.count - start))
        if not limit:
            return []
        return [
            Row._make(row) for row in ROW.iter_unpack(os.pread(self._file, limit * ROW.size, (start + 1) * ROW.size))
        ]

    def index_of(self, trade_id: int) -> int:
        """Return the index of the first row whose id is ≥ `trade_id`; `count` if there is none."""
        if self.first is None:
            return 0
        guess = trade_id - self.first.trade_id
        if 0 <= guess < self.count and self.rows(guess, 1)[0].trade_id == trade_id:
            return guess  # ids without gaps, the usual case
        return self._search(lambda row: row.trade_id >= trade_id)

    def index_after(self, ts_event: int) -> int:
        """Return the index of the first row later than `ts_event` (µs); `count` if there is none."""
        return self._search(lambda row: row.ts_event > ts_event)

    def close(self) -> None:
        """Close the record file; the object cannot be used afterwards."""
        os.close(self._file)

    def _search(self, reached: Callable[[Row], bool]) -> int:
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if reached(self.rows(middle, 1)[0]):
                high = middle
            else:
                low = middle + 1
        return low

    def _cut(self) -> None:
        os.ftruncate(self._file, (self.count + 1) * ROW.size)


class FolderLock:
    """An exclusive file lock that keeps a second simulator out of a record folder, until `release` or the process ends.

    Raises SettingError if another simulator holds it, or if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SettingError(f"record folder {folder}: {error.strerror}", "a folder that can be written") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise SettingError(
                f"record folder {folder} is in use by another simulator",
                "a folder of its own for each",
                "stop that simulator or give another --record",
            ) from None

    def release(self) -> None:
        """Release the lock, so that another simulator may write to the folder."""
        os.close(self._file)


def _check_header(found: bytes, path: str) -> None:
    if found != HEADER:
        raise SettingError(f"{path} begins with {found[:32]!r}", f"a record that begins with {HEADER[:30]!r}")
