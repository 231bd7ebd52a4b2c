"""The judge: recomputes what the tables must hold, in plain Python, and compares exactly.

Independent on purpose: no Spark, nothing of `lakehouse.transforms`; a bar's columns follow their descriptions in
`lakehouse.tables`, the trades come from the simulated exchange's own record. Times are integer microseconds since the
epoch, decimals are `decimal.Decimal`. Trades are streamed: memory grows with the bars, and by a byte a trade id.

    python -m tests.support.truth --home .lakehouse/demo

Gap: it judges a lake at rest. While streams run, Gold is behind Silver and Silver behind the record.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings, load_settings
from lakehouse.simulator.record import Record, TrueTrade
from tests.support.bar_fold import BAR_VALUES, fold_bars

SHOWN_DIFFERENCES = 5


# ---------------------------------------------------------------------------------------------------- reading


def _batches(settings: Settings, path: str, query: str) -> Iterator[pa.RecordBatch]:
    """Rows of a query over one Delta table, named `t`, with times as integers."""
    uri = f"{settings.lake}/{path}"
    reader: Any = QueryBuilder().register("t", DeltaTable(uri)).execute(query)
    for batch in reader:
        table = pa.table(batch)
        for place, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                table = table.set_column(place, field.name, table.column(place).cast(pa.int64()))
        yield from table.to_batches(max_chunksize=4096)


def _rows(settings: Settings, path: str, query: str) -> Iterator[dict[str, Any]]:
    for batch in _batches(settings, path, query):
        yield from batch.to_pylist()


def silver_keys(settings: Settings) -> list[tuple[str, str]]:
    """The (venue, symbol) pairs in Silver, sorted."""
    query = "SELECT DISTINCT venue, symbol FROM t ORDER BY venue, symbol"
    return [(row["venue"], row["symbol"]) for row in _rows(settings, "silver/trades", query)]


def iter_silver(settings: Settings, venue: str, symbol: str) -> Iterator[TrueTrade]:
    """Silver's trades of one pair by trade id, a few thousand in memory at a time."""
    where = f"venue = {_quoted(venue)} AND symbol = {_quoted(symbol)}"
    query = f"SELECT {', '.join(TrueTrade._fields)} FROM t WHERE {where} ORDER BY trade_id"
    for batch in _batches(settings, "silver/trades", query):
        yield from map(TrueTrade._make, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def read_silver(settings: Settings) -> list[dict[str, Any]]:
    """All of Silver as plain dicts, every column, by key. For small lakes; `iter_silver` streams."""
    return list(_rows(settings, "silver/trades", "SELECT * FROM t ORDER BY venue, symbol, trade_id"))


def read_bars(settings: Settings, minutes: int) -> list[dict[str, Any]]:
    """All bars of a length as plain dicts, every column, by key."""
    return list(_rows(settings, f"gold/bars_{minutes}m", "SELECT * FROM t ORDER BY venue, symbol, bar_start"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ---------------------------------------------------------------------------------------------------- the verdicts


class Differences:
    """Counts differences and keeps the first few."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN_DIFFERENCES:
            self.first.append(text)

    def raise_if_any(self, what: str) -> None:
        """Raise AssertionError with the first differences, if there are any."""
        if self.count:
            lines = "".join(f"\n  {text}" for text in self.first)
            raise AssertionError(f"{what}: {self.count:,} differences, of which:{lines}")


def assert_silver_equals_record(settings: Settings, record_folder: Path | str, from_first_seen: bool = False) -> int:
    """Silver holds exactly the recorded trades: keys, price, size, side, ts_event. Returns how many were compared.

    `from_first_seen` leaves out what was traded before the first trade of each pair in Silver: ingest, without a
    repair of the past, begins with the first trade that it receives. A recorded pair must be in Silver all the same.
    """
    record = Record(record_folder)
    recorded, differences, compared = record.keys(), Differences(), 0
    if not recorded:
        differences.add(f"the record in {record_folder} holds no trade")
    for venue, symbol in sorted({*recorded, *silver_keys(settings)}):
        seen = iter_silver(settings, venue, symbol)
        first = next(seen, None)
        if first is None:
            differences.add(f"{venue} {symbol}: {record.count(venue, symbol):,} trades recorded, none in Silver")
            continue
        true: Iterator[TrueTrade] = record.iter(venue, symbol)
        if from_first_seen:
            true = (trade for trade in true if trade.trade_id >= first.trade_id)
        compared += _compare_trades(true, itertools.chain([first], seen), differences)
    differences.raise_if_any("silver/trades against the exchange's record")
    return compared


def _compare_trades(true: Iterator[TrueTrade], seen: Iterator[TrueTrade], differences: Differences) -> int:
    """Walk two sequences, each in id order, side by side. Returns how many trades were the same id in both."""
    same, last_id = 0, None
    want, have = next(true, None), next(seen, None)
    while want is not None or have is not None:
        if have is not None and have.trade_id == last_id:
            differences.add(f"{_name(have)}: more than once in Silver")
            have = next(seen, None)
        elif have is None or (want is not None and want.trade_id < have.trade_id):
            assert want is not None
            differences.add(f"{_name(want)}: recorded, not in Silver")
            want = next(true, None)
        elif want is None or have.trade_id < want.trade_id:
            differences.add(f"{_name(have)}: in Silver, not recorded")
            last_id = have.trade_id
            have = next(seen, None)
        else:
            if have != want:
                differences.add(f"{_name(have)}: {_unlike(want._asdict(), have._asdict(), TrueTrade._fields)}")
            same, last_id = same + 1, want.trade_id
            want, have = next(true, None), next(seen, None)
    return same


def _name(trade: TrueTrade) -> str:
    return f"{trade.venue} {trade.symbol} {trade.trade_id}"


def _unlike(want: Mapping[str, Any], got: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name} is {got[name]}, expected {want[name]}" for name in names if got[name] != want[name])


def assert_bars_equal_fold(
    settings: Settings, minutes: int, trades: Iterable[TrueTrade | Mapping[str, Any]] | None = None
) -> int:
    """gold/bars_<minutes>m is exactly the fold of the trades, or of Silver. Returns the number of bars compared."""
    if trades is None:
        trades = (row for key in silver_keys(settings) for row in iter_silver(settings, *key))
    wanted = {_bar_key(bar): bar for bar in fold_bars(trades, minutes)}
    differences, seen = Differences(), set()
    for bar in read_bars(settings, minutes):
        key = _bar_key(bar)
        want = wanted.get(key)
        if key in seen:
            differences.add(f"{_bar_name(key)}: more than once")
        elif want is None:
            differences.add(f"{_bar_name(key)}: a bar without trades")
        elif unlike := _unlike(want, bar, BAR_VALUES):
            differences.add(f"{_bar_name(key)}: {unlike}")
        elif bar["bar_date"] != _utc(key[2]).date():
            differences.add(f"{_bar_name(key)}: bar_date is {bar['bar_date']}")
        seen.add(key)
    for key in sorted(set(wanted) - seen):
        differences.add(f"{_bar_name(key)}: missing, expected {wanted[key]['trades']:,} trades")
    differences.raise_if_any(f"gold/bars_{minutes}m against the fold of the trades")
    return len(wanted)


def _bar_key(bar: Mapping[str, Any]) -> tuple[str, str, int]:
    return bar["venue"], bar["symbol"], bar["bar_start"]


def _bar_name(key: tuple[str, str, int]) -> str:
    return f"{key[0]} {key[1]} {_utc(key[2]):%Y-%m-%d %H:%M}"


def _utc(microseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC)


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: list[str] | None = None) -> int:
    """Judge one lake. Returns 0 where everything is equal, else 1 after the first differences."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.truth", description="Compare a lake with the exchange's truth."
    )
    parser.add_argument("--home", type=Path, help="folder of the lake; default: LAKEHOUSE_HOME")
    parser.add_argument("--record", type=Path, help="record of the simulated exchange; default: HOME/simulator/record")
    parser.add_argument(
        "--from-first-seen", action="store_true", help="leave out trades before the first one in Silver, a pair"
    )
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(home=options.home)
        record = options.record or settings.home / "simulator" / "record"
        compared = assert_silver_equals_record(settings, record, options.from_first_seen)
        print(f"silver/trades equals the record {record}: {compared:,} trades")
        for minutes in (1, 5):
            bars = assert_bars_equal_fold(settings, minutes)
            print(f"gold/bars_{minutes}m equals the fold of silver/trades: {bars:,} bars")
    except AssertionError as error:
        print(f"truth: {error}", file=sys.stderr)
        return 1
    except (LakehouseError, DeltaError, OSError) as error:
        print(f"truth: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
