"""The trades of a batch of Silver as Gold reads them: minutes, newest, ids; in this process, and as on executors."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings, load_settings
from lakehouse.streams import batch_files, touched_bars
from lakehouse.streams.batch_plan import DataFile
from lakehouse.streams.gold_complete import IdGroup
from lakehouse.streams.touched_bars import FoldUnit, Touched, read_batch
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.row_keys import RowKey
from tests.support.appended import append
from tests.support.rows import NOON_US, empty_lake, trade_row
from tests.support.silver_stream import Executors, tasks_of

MINUTE = 60_000_000
BTC, ETH = ("binance", "BTC/USDT"), ("binance", "ETH/USDT")


def read(settings: Settings, paths: Sequence[str], has_new_ids: bool = True) -> Touched:
    """Read a batch of these files in this process."""
    return read_batch(settings, [DataFile(path, 1) for path in paths], has_new_ids, tasks_of(settings))


def on_executors(settings: Settings, paths: Sequence[str], executors: Executors, has_new_ids: bool = True) -> Touched:
    """Read a batch of these files, as if each had one row, in units of touched_bars.UNIT_MESSAGES."""
    files = [DataFile(path, 1) for path in paths]
    return read_batch(settings, files, has_new_ids, tasks_of(settings, executors))


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
    touched = read(settings, [*first, *second])
    assert touched.trades == 5
    assert minutes(touched) == {
        (*BTC, NOON_US): IdGroup(1, 4, 2),
        (*BTC, NOON_US + MINUTE): IdGroup(2, 3, 2),
        (*ETH, NOON_US): IdGroup(9, 9, 1),
    }
    assert touched.newest == {BTC: NOON_US + 3 * MINUTE // 2, ETH: NOON_US + 5}
    assert touched.ids == {BTC: [(1, 4)], ETH: [(9, 9)]}


def test_a_batch_without_files(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    for touched in (read(settings, []), on_executors(settings, [], Executors())):
        assert (touched.trades, minutes(touched), touched.newest, touched.ids) == (0, {}, {}, {})


def test_ids_with_gaps_are_read_again_and_only_for_their_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = empty_lake(tmp_path)
    rows = [trade_row(number) for number in (1, 2, 5, 10**17)]
    rows += [trade_row(number, symbol="ETH/USDT") for number in (7, 8)]
    paths = append(settings, SILVER_TRADES, rows) + append(settings, SILVER_TRADES, [trade_row(6), trade_row(10)])
    asked: list[set[MarketKey]] = []
    plain = touched_bars._ids_of

    def noted(unit: FoldUnit, keys: Collection[MarketKey]) -> Any:
        asked.append(set(keys))
        return plain(unit, keys)

    monkeypatch.setattr(touched_bars, "_ids_of", noted)
    touched = read(settings, paths)
    assert touched.ids == {BTC: [(1, 2), (5, 6), (10, 10), (10**17, 10**17)], ETH: [(7, 8)]}
    assert asked == [{BTC}]


@given(
    st.dictionaries(st.tuples(st.sampled_from("AB"), st.integers(1, 30)), st.integers(0, 4), min_size=1),
    st.integers(1, 4),
    st.integers(1, 7),
    st.sampled_from([1, 10**6]),
)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_of_any_batch(
    tmp_path: Path, minutes: dict[tuple[str, int], int], pieces: int, chunk_rows: int, unit_rows: int
) -> None:
    """Any ids in any minutes, in any files, also in units of one file: as many are found, and the same ones."""
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
        patch.setattr(touched_bars, "UNIT_MESSAGES", unit_rows)
        touched, executors = read(settings, paths), Executors()
        other = on_executors(settings, paths, executors)
    assert touched.trades == len(rows)
    ids = {
        (symbol, number)
        for (_, symbol), ranges in touched.ids.items()
        for first, last in ranges
        for number in range(first, last + 1)
    }
    assert ids == {(f"{base}/USDT", number) for base, number in minutes}
    assert (other.parts, other.ids, other.newest) == (touched.parts, touched.ids, touched.newest)
    assert len(executors.seen) == (pieces if unit_rows == 1 else 1)


@pytest.mark.parametrize("seed", range(4))
def test_units_of_single_files_make_the_same_parts(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two venues, symbols and days, ids across each other in files and minutes, and gaps of which one is filled."""
    monkeypatch.setattr(touched_bars, "UNIT_MESSAGES", 1)
    settings, rng = empty_lake(tmp_path), Random(seed)
    rows = [
        trade_row(
            number,
            NOON_US + rng.choice((0, 0, 12 * 60)) * MINUTE + rng.randrange(3 * MINUTE),
            venue=venue,
            symbol=symbol,
            price=Decimal(rng.randrange(1, 10**12)) / 10**6,
        )
        for venue in ("binance", "kraken")
        for symbol in ("BTC/USDT", "ETH/USDT")
        for number in rng.sample(range(60), 45)
    ]
    rng.shuffle(rows)
    paths = [path for piece in range(5) for path in append(settings, SILVER_TRADES, rows[piece::5])]
    here, executors = read(settings, paths), Executors(twice=seed == 0)
    there = on_executors(settings, paths, executors)
    assert len(executors.seen) == len(paths) >= 5
    assert there.parts.equals(here.parts)
    assert there.places.tuples() == here.places.tuples()
    assert there.ids == here.ids
    ids = {
        (*key, number) for key, ranges in there.ids.items() for low, high in ranges for number in range(low, high + 1)
    }
    assert ids == {(row["venue"], row["symbol"], row["trade_id"]) for row in rows}
    assert all(b[0] > a[1] + 1 for ranges in there.ids.values() for a, b in itertools.pairwise(ranges))


def test_ids_that_nobody_wants_are_not_made(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    paths = append(settings, SILVER_TRADES, [trade_row(1), trade_row(3)])
    for touched in (read(settings, paths, False), on_executors(settings, paths, Executors(), False)):
        assert (touched.trades, touched.ids) == (2, {})


def test_a_file_that_is_gone_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(RetriableError, match="gone"):
        on_executors(empty_lake(tmp_path), ["event_date=2026-11-01/gone.parquet"], Executors())
