"""Rows replaced in a table's files, against a plain dictionary; other rows and other files stay as they are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_files, replacement
from lakehouse.streams.compaction import compact
from lakehouse.streams.replacement import flag, replace
from lakehouse.tables import GOLD_BARS_1M
from lakehouse.tables import GOLD_SPREADS_1M as TABLE
from lakehouse.transforms.row_keys import RowKey, RowKeys
from tests.streams.test_compaction import DAY_US, MINUTE_US, row
from tests.support.rows import NOON_US, bar_row, empty_lake, utc

SCHEMA = table_io.arrow_schema(TABLE)
FIRST, SECOND = (Transaction("gold", number) for number in (1, 2))
#: A column that is no key, to tell versions of a row apart.
MARK = next(column.name for column in TABLE.columns if column.type == "bigint")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def made(place: RowKey, mark: int) -> dict[str, Any]:
    first, second, start = place
    names = dict(zip(TABLE.key[:2], (first, second), strict=True))
    return row(start) | names | {MARK: mark}


def rows(values: dict[RowKey, int]) -> pa.Table:
    return pa.Table.from_pylist([made(place, mark) for place, mark in values.items()], SCHEMA)


def there(settings: Settings) -> list[tuple[RowKey, int]]:
    """Sorted, so that a row that is there twice shows."""
    found = table_io.sql(settings, "SELECT * FROM t", t=TABLE).cast(SCHEMA)
    marks: list[Any] = found[MARK].to_pylist()
    return sorted(zip(RowKeys.of(found, TABLE.key).tuples(), marks, strict=True))


def put(settings: Settings, number: int, gone: list[RowKey], new: dict[RowKey, int]) -> None:
    replace(settings, TABLE, RowKeys.of_tuples(gone), rows(new), Transaction("gold", number))


def looked_through(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are looked through for a row from now on."""
    looked: list[str] = []
    original = replacement._holds

    def look(settings: Settings, table: Any, path: str, wanted: RowKeys) -> bool:
        looked.append(path)
        return original(settings, table, path, wanted)

    monkeypatch.setattr(replacement, "_holds", look)
    return looked


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("apart", [1, 5, 1_000])
def test_replacements_are_those_of_a_dictionary(
    settings: Settings, seed: int, apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 7)  # chunks of a file, some with and some without such a row
    monkeypatch.setattr(replacement, "APART_ROWS", apart)
    draw = random.Random(seed)
    every: list[RowKey] = [
        (base, quote, NOON_US + day * DAY_US + minute * MINUTE_US)
        for base in ("BTC", "ETH")
        for quote in ("EUR", "USDT")
        for day in (0, 1)
        for minute in range(12)
    ]
    truth: dict[RowKey, int] = {}
    for number in range(1, 15):
        gone = draw.sample(sorted(truth), min(len(truth), draw.choice((0, 1, 3, 12))))
        gone += [] if number % 3 else draw.sample(every, 1)  # one that may be nowhere
        for place in gone:
            truth.pop(place, None)
        free = [place for place in every if place not in truth]
        new = {place: 100 * number + at for at, place in enumerate(draw.sample(free, min(len(free), 9)))}
        put(settings, number, gone, new)
        truth |= new
        assert there(settings) == sorted(truth.items())
        assert table_io.open_table(settings, TABLE).transaction_version("gold") == number
        if number == 9:
            compact(settings, TABLE, 1)
            assert there(settings) == sorted(truth.items())


def test_whole_rows_are_kept(settings: Settings) -> None:
    """Every column, types and nulls included."""
    first, second, third = ((name, "USDT", NOON_US) for name in ("BTC", "ETH", "SOL"))
    put(settings, 1, [], {first: 1, second: 2, third: 3})
    before = table_io.sql(settings, "SELECT * FROM t", t=TABLE).cast(SCHEMA)
    put(settings, 2, [second], {})
    after = table_io.sql(settings, "SELECT * FROM t", t=TABLE).cast(SCHEMA)
    assert after.equals(before.take([0, 2]))


def test_only_files_that_hold_a_row_are_written_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [("BTC", "USDT", NOON_US + number * MINUTE_US) for number in range(4)]
    places.append(("BTC", "USDT", NOON_US + DAY_US))
    for number, place in enumerate(places):
        put(settings, number, [], {place: number, ("ETH", "USDT", place[2]): 7})
    looked = looked_through(monkeypatch)
    before = set(table_io.open_table(settings, TABLE).file_uris())
    put(settings, 9, [places[2], ("SOL", "USDT", NOON_US + DAY_US)], {places[2]: 200})
    after = set(table_io.open_table(settings, TABLE).file_uris())
    assert len(looked) == 3  # the third and the fourth minute, and the other day
    assert len(before - after) == len(after - before) == 1
    log = (
        Path(table_io.table_uri(settings, TABLE))
        / "_delta_log"
        / f"{table_io.open_table(settings, TABLE).version():020}.json"
    )
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    (removed,) = (action["remove"] for action in actions if "remove" in action)
    assert removed["dataChange"]
    assert removed["partitionValues"] == {"bar_date": "2026-11-01"}
    assert removed["size"] > 0


def test_a_file_without_statistics_is_looked_through(settings: Settings) -> None:
    """It is of another writer, and older than one of the columns."""
    place, stays = (("BTC", quote, NOON_US) for quote in ("USDT", "EUR"))
    put(settings, 1, [], {("ETH", "USDT", NOON_US): 1})
    folder = Path(table_io.table_uri(settings, TABLE)) / "bar_date=2026-11-01"
    pq.write_table(rows({place: 5, stays: 5}).drop_columns(["bar_date", "spread_bps"]), folder / "other.parquet")
    size = (folder / "other.parquet").stat().st_size
    opened = table_io.open_table(settings, TABLE)
    added = AddAction("bar_date=2026-11-01/other.parquet", size, {"bar_date": "2026-11-01"}, 0, True, "{}")
    opened.create_write_transaction([added], "append", opened.schema(), ["bar_date"])
    put(settings, 2, [place], {place: 6})
    assert there(settings) == [(stays, 5), (place, 6), (("ETH", "USDT", NOON_US), 1)]
    (null,) = table_io.sql(settings, "SELECT * FROM t WHERE spread_bps IS NULL", t=TABLE).to_pylist()
    assert (null["base"], null["quote"]) == ("BTC", "EUR")


def test_somebody_elses_commit_in_between_is_an_error_and_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("BTC", "USDT", NOON_US)
    put(settings, 1, [], {place: 1})
    original = replacement._holds

    def meet(settings: Settings, table: Any, path: str, wanted: RowKeys) -> bool:
        other = DeltaTable(table_io.table_uri(settings, TABLE))
        other.delete(commit_properties=CommitProperties(max_commit_retries=0))
        return original(settings, table, path, wanted)

    monkeypatch.setattr(replacement, "_holds", meet)
    with pytest.raises(RetriableError, match="gold/spreads_1m took somebody else's commit"):
        put(settings, 2, [place], {place: 2})
    assert there(settings) == []
    folder = Path(table_io.table_uri(settings, TABLE)) / "bar_date=2026-11-01"
    assert len(list(folder.glob("*.parquet"))) == 1  # the one that was deleted; what was begun is gone
    assert utc(NOON_US).date().isoformat() in str(folder)


def bars(minutes: dict[int, bool]) -> pa.Table:
    """Bars of two symbols, each minute with whether it is final."""
    rows = [
        bar_row(NOON_US + minute * MINUTE_US, symbol=symbol, is_final=final)
        for minute, final in minutes.items()
        for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    return pa.Table.from_pylist(rows, table_io.arrow_schema(GOLD_BARS_1M))


def bar_places(*minutes: int, symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")) -> RowKeys:
    return RowKeys.of_tuples(
        ("binance", symbol, NOON_US + minute * MINUTE_US) for minute in minutes for symbol in symbols
    )


def in_files(settings: Settings) -> list[list[tuple[int, str, bool]]]:
    """The bars of each file: minute, symbol, whether final; smallest file first."""
    actions: Any = pa.table(table_io.open_table(settings, GOLD_BARS_1M).get_add_actions(flatten=True))
    found = []
    for path in actions["path"].to_pylist():
        names = ["symbol", "bar_start", "is_final"]
        chunk = pa.concat_tables(batch_files.read_chunks(settings, GOLD_BARS_1M, [path], names))
        columns: list[list[Any]] = [chunk.column(name).to_pylist() for name in chunk.column_names]
        minutes = [(start - utc(NOON_US)).seconds // 60 for start in columns[1]]
        found.append(list(zip(minutes, columns[0], columns[2], strict=True)))
    return sorted(found, key=len)


def test_of_many_rows_what_the_next_batch_changes_lies_apart(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars that are not final, and the newest row of each market; the file of the others stays when these change."""
    monkeypatch.setattr(replacement, "APART_ROWS", 8)
    replace(settings, GOLD_BARS_1M, bar_places(), bars({0: True, 1: True, 2: True, 3: False, 4: False}), FIRST)
    few, most = in_files(settings)
    assert {minute for minute, _, _ in most} == {0, 1, 2}
    assert {minute for minute, _, _ in few} == {3, 4}
    kept = set(table_io.open_table(settings, GOLD_BARS_1M).file_uris())
    replace(settings, GOLD_BARS_1M, bar_places(3, 4), bars({3: True, 4: True, 5: True, 6: False}), SECOND)
    assert [len(one) for one in in_files(settings)] == [2, 6, 6]
    assert len(kept & set(table_io.open_table(settings, GOLD_BARS_1M).file_uris())) == 1

    markets = [("BTC", "USDT"), ("ETH", "USDT")]
    put(settings, 1, [], {(*market, NOON_US + minute * MINUTE_US): 1 for market in markets for minute in range(6)})
    actions: Any = pa.table(table_io.open_table(settings, TABLE).get_add_actions(flatten=True))
    sizes = dict(zip(actions["num_records"].to_pylist(), actions["path"].to_pylist(), strict=True))
    assert set(sizes) == {2, 10}
    last = {(*market, NOON_US + 5 * MINUTE_US): 2 for market in markets}
    put(settings, 2, list(last), last)
    after = pa.table(table_io.open_table(settings, TABLE).get_add_actions(flatten=True))["path"].to_pylist()
    assert sizes[10] in after
    assert sizes[2] not in after


def test_rows_that_stay_lie_apart_where_they_are_not_final(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """None do in a table without `is_final`: the newest of each chunk of an old file would be rows of all times."""
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 3)
    old = {("ETH", "USDT", NOON_US + minute * MINUTE_US): 1 for minute in range(9)}
    put(settings, 1, [], old)
    replace(settings, GOLD_BARS_1M, bar_places(), bars({minute: minute != 3 for minute in range(6)}), FIRST)
    monkeypatch.setattr(replacement, "APART_ROWS", 4)
    put(settings, 2, [next(iter(old))], {("BTC", "USDT", NOON_US + minute * MINUTE_US): 2 for minute in range(5)})
    actions: Any = pa.table(table_io.open_table(settings, TABLE).get_add_actions(flatten=True))
    assert sorted(actions["num_records"].to_pylist()) == [1, 12]
    replace(settings, GOLD_BARS_1M, bar_places(0), bars({0: True, 7: True}), SECOND)
    assert [{minute for minute, _, _ in file} for file in in_files(settings)] == [{3}, {0, 1, 2, 4, 5, 7}]


def test_few_rows_come_in_one_file(settings: Settings) -> None:
    replace(settings, GOLD_BARS_1M, bar_places(), bars({0: True, 1: False}), FIRST)
    assert [len(one) for one in in_files(settings)] == [4]


def test_a_flag_is_set_and_nothing_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(settings, GOLD_BARS_1M, bar_places(), bars({0: True, 1: True}), FIRST)
    replace(settings, GOLD_BARS_1M, bar_places(), bars({2: False, 3: False, 4: True}), SECOND)
    before = table_io.sql(settings, "SELECT * FROM t", t=GOLD_BARS_1M).cast(table_io.arrow_schema(GOLD_BARS_1M))
    looked = looked_through(monkeypatch)
    flag(settings, GOLD_BARS_1M, bar_places(0, 2).plus(bar_places(3, symbols=("ETH/USDT",))), "is_final")
    assert len(looked) == 1  # all of the other file have it, as its statistics say
    after = table_io.sql(settings, "SELECT * FROM t", t=GOLD_BARS_1M).cast(before.schema)
    key: Any = [(name, "ascending") for name in GOLD_BARS_1M.key]
    assert after.drop_columns(["is_final"]).sort_by(key) == before.drop_columns(["is_final"]).sort_by(key)
    minutes = {(minute, symbol): final for file in in_files(settings) for minute, symbol, final in file}
    assert [place for place, final in minutes.items() if not final] == [(3, "BTC/USDT")]

    version = table_io.open_table(settings, GOLD_BARS_1M).version()
    flag(settings, GOLD_BARS_1M, bar_places(0, 7), "is_final")
    flag(settings, GOLD_BARS_1M, bar_places(), "is_final")
    assert table_io.open_table(settings, GOLD_BARS_1M).version() == version  # nothing to do
