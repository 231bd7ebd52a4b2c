"""The truth on disk: what is appended is what is read, also after a crash in the middle of a row."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import SettingError
from lakehouse.simulator.record import ROW, FolderLock, Record, Row, Tape, decimal_text, file_of

INT64 = st.integers(0, 2**63 - 1)
ROWS = st.lists(
    st.builds(
        Row,
        trade_id=st.just(0),
        ts_event=INT64,
        price=INT64,
        size=INT64,
        price_decimals=st.integers(0, 18),
        size_decimals=st.integers(0, 18),
        buy=st.booleans(),
    ),
    max_size=30,
)


def numbered(rows: list[Row], first: int = 1) -> list[Row]:
    return [row._replace(trade_id=first + place) for place, row in enumerate(rows)]


def row(trade_id: int, ts_event: int = 0) -> Row:
    return Row(trade_id, ts_event, 6_300_012, 985, 2, 0, True)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, first=st.integers(1, 2**64 - 100), split=st.integers(0, 30))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], first: int, split: int) -> None:
    folder = tmp_path_factory.mktemp("record")
    rows = numbered(rows, first)
    tape = Tape(file_of(folder, "kraken", "BTC/USDT"))
    for part in (rows[:split], rows[split:]):
        if part:
            tape.append(part)
    tape.close()
    trades = list(Record(folder).iter("kraken", "BTC/USDT"))
    assert [(t.trade_id, t.ts_event, t.side == "buy") for t in trades] == [
        (r.trade_id, r.ts_event, r.buy) for r in rows
    ]
    for trade, one in zip(trades, rows, strict=True):
        # Exact to the digit: the same coefficient and the same exponent.
        assert (
            trade.price.as_tuple() == Decimal((0, Decimal(one.price).as_tuple().digits, -one.price_decimals)).as_tuple()
        )
        assert f"{trade.size:f}" == decimal_text(one.size, one.size_decimals)
    assert Record(folder).keys() == ([("kraken", "BTC/USDT")] if rows else [])


@pytest.mark.parametrize("torn", [1, ROW.size - 1])
def test_a_torn_tail_is_unseen_and_then_cut(tmp_path: Path, torn: int) -> None:
    path = file_of(tmp_path, "binance", "BTC/USDT")
    tape = Tape(path)
    tape.append([row(5), row(6)])
    tape.close()
    with path.open("ab") as file:
        file.write(b"\1" * torn)
    assert [trade.trade_id for trade in Record(tmp_path).iter("binance", "BTC/USDT")] == [5, 6]
    tape = Tape(path)
    assert tape.last == row(6)
    tape.append([row(7)])
    tape.close()
    assert [trade.trade_id for trade in Record(tmp_path).iter("binance", "BTC/USDT")] == [5, 6, 7]


@pytest.mark.parametrize("size", [0, 7])
def test_a_torn_header_is_written_anew(tmp_path: Path, size: int) -> None:
    path = file_of(tmp_path, "binance", "BTC/USDT")
    path.parent.mkdir()
    path.write_bytes(b"\0" * size)
    tape = Tape(path)
    tape.append([row(1)])
    tape.close()
    assert Record(tmp_path).count("binance", "BTC/USDT") == 1


def test_zeros_at_the_end_are_cut(tmp_path: Path) -> None:
    path = file_of(tmp_path, "binance", "BTC/USDT")
    tape = Tape(path)
    tape.append([row(1)])
    tape.close()
    os.truncate(path, path.stat().st_size + 3 * ROW.size)
    tape = Tape(path)
    tape.close()
    assert (tape.count, tape.last) == (1, row(1))


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    path = file_of(tmp_path, "binance", "BTC/USDT")
    path.parent.mkdir()
    path.write_bytes(b"precious" * 20)
    with pytest.raises(SettingError, match="begins with b'precious"):
        Tape(path)
    assert path.read_bytes() == b"precious" * 20


def test_search_by_id_and_time_with_gaps_and_shared_times(tmp_path: Path) -> None:
    tape = Tape(file_of(tmp_path, "binance", "BTC/USDT"))
    tape.append([row(10, 100), row(11, 100), row(15, 100), row(16, 200)])
    assert [tape.index_of(trade_id) for trade_id in (1, 10, 11, 12, 15, 16, 17)] == [0, 0, 1, 2, 2, 3, 4]
    assert [tape.index_after(time) for time in (99, 100, 199, 200)] == [0, 3, 3, 4]
    assert [one.trade_id for one in tape.rows(1, 2)] == [11, 15]
    assert tape.rows(4, 10) == []
    tape.close()


def test_one_simulator_a_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(SettingError, match="in use by another simulator"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"record folder .*Not a directory; expected a folder that can be written"):
        FolderLock(tmp_path / "file" / "record")
