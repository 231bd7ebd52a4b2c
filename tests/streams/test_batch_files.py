"""A batch's files, read as Arrow past the JVM; and what Gold makes of a batch of Silver: minutes, newest, ids."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings, load_settings
from lakehouse.streams import batch_files
from lakehouse.streams.gold_bars import Touched
from lakehouse.streams.gold_complete import IdGroup
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES, Table
from lakehouse.transforms.row_keys import RowKey
from tests.support.rows import NOON_US, empty_lake, message_row, trade_row, utc

DAY = 86_400_000_000
MINUTE = 60_000_000
BTC, ETH = ("binance", "BTC/USDT"), ("binance", "ETH/USDT")
Row = dict[str, Any]


def append(settings: Settings, table: Table, rows: list[Row]) -> list[str]:
    """Append rows; returns the paths of the new files, relative to the table's root."""
    before = files(settings, table)
    table_io.append_rows(settings, table, rows)
    return sorted(files(settings, table) - before)


def files(settings: Settings, table: Table) -> set[str]:
    root = table_io.table_uri(settings, table)
    return {unquote(uri).removeprefix(f"{root}/") for uri in table_io.open_table(settings, table).file_uris()}


# ---------------------------------------------------------------------------------------------------- files


def test_rows_come_back_with_partitions_and_nulls(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "a home with spaces, 100% and é")
    rows = [
        message_row(1),
        message_row(2, key=None, value_raw=None),
        message_row(3, value_raw=b"\x00\xff", partition=3),
        message_row(4, at=NOON_US + DAY),
        message_row(5, topic="crypto.feed_events", key=b""),
    ]
    paths = append(settings, BRONZE_MESSAGES, rows)
    assert len(paths) == 3
    columns = ("topic", "partition", "offset", "ts_kafka", "value_raw", "key", "ingest_date")
    chunks = list(batch_files.read_chunks(settings, BRONZE_MESSAGES, paths, columns))
    schema = table_io.arrow_schema(BRONZE_MESSAGES)
    assert [chunk.schema.names for chunk in chunks] == [list(columns)] * 3
    assert all(chunk.schema.field(name).equals(schema.field(name)) for chunk in chunks for name in columns)
    found = [row for chunk in chunks for row in chunk.to_pylist()]
    assert sorted(found, key=lambda row: int(row["offset"])) == [{name: row[name] for name in columns} for row in rows]


def test_only_the_files_of_the_batch_in_its_order(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    versions = [append(settings, SILVER_TRADES, [trade_row(number)]) for number in range(4)]
    wanted = [*versions[3], *versions[1]]
    chunks = batch_files.read_chunks(settings, SILVER_TRADES, wanted, ("trade_id",))
    assert [chunk.column("trade_id").to_pylist() for chunk in chunks] == [[3], [1]]
    assert list(batch_files.read_chunks(settings, SILVER_TRADES, [], ("trade_id",))) == []


def test_a_large_file_comes_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 100)
    settings = empty_lake(tmp_path)
    paths = append(settings, SILVER_TRADES, [trade_row(number) for number in range(250)])
    chunks = list(batch_files.read_chunks(settings, SILVER_TRADES, paths, ("event_date", "trade_id")))
    assert [chunk.num_rows for chunk in chunks] == [100, 100, 50]
    assert [number for chunk in chunks for number in chunk.column("trade_id").to_pylist()] == list(range(250))
    assert {day for chunk in chunks for day in chunk.column("event_date").to_pylist()} == {utc(NOON_US).date()}


# ---------------------------------------------------------------------------------------------------- touched


def minutes(touched: Touched) -> dict[RowKey, IdGroup]:
    """Its minutes with the ids that they get."""
    names = ("first_trade_id", "last_trade_id", "trades")
    groups = zip(*(touched.parts.column(name).to_pylist() for name in names), strict=True)
    return dict(zip(touched.places.tuples(), (IdGroup(*group) for group in groups), strict=True))


def test_minutes_newest_and_ids_of_a_batch(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    append(settings, SILVER_TRADES, [trade_row(500, at=NOON_US)])  # not of the batch
    first = append(settings, SILVER_TRADES, [trade_row(n, at=NOON_US + n * MINUTE // 2) for n in (3, 1, 2)])
    second = append(settings, SILVER_TRADES, [trade_row(9, at=NOON_US + 5, symbol="ETH/USDT"), trade_row(4)])
    touched = Touched(settings, [*first, *second])
    assert touched.trades == 5
    assert minutes(touched) == {
        (*BTC, NOON_US): IdGroup(1, 4, 2),
        (*BTC, NOON_US + MINUTE): IdGroup(2, 3, 2),
        (*ETH, NOON_US): IdGroup(9, 9, 1),
    }
    assert touched.newest == {BTC: NOON_US + 3 * MINUTE // 2, ETH: NOON_US + 5}
    assert touched.ids() == {BTC: [(1, 4)], ETH: [(9, 9)]}


def test_a_batch_without_files(tmp_path: Path) -> None:
    touched = Touched(empty_lake(tmp_path), [])
    assert (touched.trades, minutes(touched), touched.newest, touched.ids()) == (0, {}, {}, {})


def test_ids_with_gaps_are_read_again_and_only_for_their_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = empty_lake(tmp_path)
    rows = [trade_row(number) for number in (1, 2, 5, 10**17)]
    rows += [trade_row(number, symbol="ETH/USDT") for number in (7, 8)]
    paths = append(settings, SILVER_TRADES, rows) + append(settings, SILVER_TRADES, [trade_row(6), trade_row(10)])
    touched = Touched(settings, paths)
    asked: list[set[MarketKey]] = []
    plain = Touched._ids_of

    def noted(self: Touched, keys: Collection[MarketKey]) -> Any:
        asked.append(set(keys))
        return plain(self, keys)

    monkeypatch.setattr(Touched, "_ids_of", noted)
    assert touched.ids() == {BTC: [(1, 2), (5, 6), (10, 10), (10**17, 10**17)], ETH: [(7, 8)]}
    assert asked == [{BTC}]


@given(
    st.dictionaries(st.tuples(st.sampled_from("AB"), st.integers(1, 30)), st.integers(0, 4), min_size=1),
    st.integers(1, 4),
    st.integers(1, 7),
)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_of_any_batch(tmp_path: Path, minutes: dict[tuple[str, int], int], pieces: int, chunk_rows: int) -> None:
    """Any ids in any minutes, in any files: as many are found, and the same ones."""
    settings = load_settings(home=tmp_path)
    rows = [
        trade_row(number, at=NOON_US + minute * MINUTE, symbol=f"{base}/USDT")
        for (base, number), minute in minutes.items()
    ]
    folder = Path(table_io.table_uri(settings, SILVER_TRADES)) / "event_date=2026-11-01"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [f"{folder.name}/{piece}.parquet" for piece in range(pieces)]
    for piece, path in enumerate(paths):
        data = pa.Table.from_pylist(rows[piece::pieces], schema=table_io.arrow_schema(SILVER_TRADES))
        pq.write_table(data.drop_columns("event_date"), folder.parent / path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_files, "CHUNK_ROWS", chunk_rows)
        touched = Touched(settings, paths)
        found = touched.ids()
    assert touched.trades == len(rows)
    ids = {
        (symbol, number)
        for (_, symbol), ranges in found.items()
        for first, last in ranges
        for number in range(first, last + 1)
    }
    assert ids == {(f"{base}/USDT", number) for base, number in minutes}
