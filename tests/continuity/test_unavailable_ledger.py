"""A lake of before tries were counted: its ledger is read as it is, gets the columns at a start, and is asked again."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from lakehouse.audit.printer import render
from lakehouse.audit.run import audit
from lakehouse.continuity.gaps import due_again, marks, open_gaps, unavailable_gaps
from lakehouse.continuity.id_states import News
from lakehouse.continuity.known_ids import KnownIds
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.tries import Tried
from lakehouse.lake import table_io
from lakehouse.quality.id_coverage import read_ledger
from lakehouse.settings import Settings
from lakehouse.status.snapshot import collect
from lakehouse.status.view import render as render_status
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES, Table
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import EVENTS, event, messages, trade

NEW_COLUMNS = ("tries", "last_try")
KEY = ("binance", "BTC/USDT")


@pytest.fixture
def old(tmp_path: Path) -> AuditLake:
    """Trades 1, 2, 6 and 9; 3 and 4 are unavailable, the others missing. The ledger has the schema of before."""
    made = AuditLake.empty(tmp_path)
    uri = table_io.table_uri(made.settings, SILVER_CONTINUITY)
    shutil.rmtree(uri)
    whole = table_io.arrow_schema(SILVER_CONTINUITY)
    schema = pa.schema([field for field in whole if field.name not in NEW_COLUMNS])
    DeltaTable.create(uri, schema=schema, configuration=table_io.PROPERTIES)

    overwritten = made.overwrite

    def overwrite(table: Table, rows: list[dict[str, Any]]) -> None:
        if table is not SILVER_CONTINUITY:
            return overwritten(table, rows)
        return write_deltalake(uri, pa.Table.from_pylist(rows, schema=schema), mode="overwrite")

    made.overwrite = overwrite  # type: ignore[method-assign]
    gone = event(event="gap_unavailable", symbol="BTC/USDT", first_id=3, last_id=4)
    made.batch([*messages(trade(1), trade(2), trade(6), trade(9)), *messages(gone, topic=EVENTS)])
    return made


def columns(settings: Settings, version: int | None = None) -> set[str]:
    return {field.name for field in table_io.open_table(settings, SILVER_CONTINUITY, version).schema().fields}


def text(renderable: object) -> str:
    out = io.StringIO()
    Console(width=200, file=out).print(renderable)
    return " ".join(out.getvalue().split())  # a caption is as wide as its table


def test_it_is_read_as_it_is(old: AuditLake) -> None:
    settings = old.settings
    assert not set(NEW_COLUMNS) & columns(settings)
    assert [(one.first_id, one.last_id, one.tries) for one in unavailable_gaps(settings)] == [(3, 4, 1)]
    assert [(one.first_id, one.last_id, one.tries) for one in open_gaps(settings)] == [(5, 5, 0), (7, 8, 0)]
    assert marks(settings)[KEY].trade_id == 9
    assert {one.tries for one in read_ledger(settings)} == {None}
    assert list(KnownIds.at(settings, old.version(SILVER_TRADES))[KEY]) == [(1, 2), (6, 6), (9, 9)]
    report = audit(settings)
    assert report.faults == []
    assert report.holes.symbols[0].tries == {1: 2}
    assert "gone: 2 ids after 1 answer of the venue; `lakehouse repair --unavailable` asks again" in text(
        render(report)
    )
    assert "2 open gaps of 3 trades; the venues lack 2 trades (2 after 1 answer)" in text(
        render_status(collect(settings))
    )


def test_a_start_adds_the_columns_and_old_versions_are_read_on(old: AuditLake) -> None:
    settings, version = old.settings, old.version(SILVER_CONTINUITY)
    before = read_ledger(settings)
    table_io.ensure_tables(settings)
    assert set(NEW_COLUMNS) <= columns(settings)
    assert read_ledger(settings) == before
    since = next(one.since for one in before if one.state == "unavailable")
    minute = dt.timedelta(minutes=1)
    assert due_again(settings, since + 4 * minute) == []
    assert [(one.first_id, one.last_id) for one in due_again(settings, since + 6 * minute)] == [(3, 4)]

    ledger = Ledger(settings)
    ledger.take({KEY: News(gone=[Tried.once(4, 5, since + 6 * minute)])}, old.version(SILVER_TRADES))

    found = [(one.first_id, one.last_id, one.tries) for one in read_ledger(settings) if one.state == "unavailable"]
    assert found == [(3, 3, 1), (4, 4, 2), (5, 5, 1)]
    assert [one.first_id for one in due_again(settings, since + 7 * minute)] == [3]
    assert [one.first_id for one in due_again(settings, since + 61 * minute)] == [3, 4, 5]
    assert read_ledger(settings, version) == before  # as the audit does, by ops/batches
    assert not set(NEW_COLUMNS) & columns(settings, version)
    assert list(KnownIds.at(settings, old.version(SILVER_TRADES))[KEY]) == [(1, 2), (6, 6), (9, 9)]
    assert audit(settings).faults == []


@pytest.mark.parametrize("hours", [0.2, 1, 10, 100])
def test_ids_of_the_future_are_due_once_after_the_clock_was_set_back(old: AuditLake, hours: float) -> None:
    settings = old.settings
    table_io.ensure_tables(settings)
    since = next(one.since for one in read_ledger(settings) if one.state == "unavailable")
    now, minute = since - dt.timedelta(hours=hours), dt.timedelta(minutes=1)
    assert [one.first_id for one in due_again(settings, now)] == [3]
    Ledger(settings).take({KEY: News(gone=[Tried.once(3, 4, now)])}, old.version(SILVER_TRADES))
    assert [one.tries for one in unavailable_gaps(settings)] == [2]
    assert due_again(settings, now + minute) == []
    assert [one.first_id for one in due_again(settings, now + 6 * minute)] == [3]


def test_processes_that_start_at_once_add_the_columns_once(old: AuditLake) -> None:
    """Bronze, Silver and Gold may each be a process of their own."""
    settings, errors, gate = old.settings, list[BaseException](), threading.Barrier(4)

    def start() -> None:
        table_io.open_table(settings, SILVER_CONTINUITY)  # each thread has the table of before in hand
        gate.wait()
        try:
            table_io.ensure_tables(settings)
        except BaseException as error:
            errors.append(error)

    before = old.version(SILVER_CONTINUITY)
    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(NEW_COLUMNS) <= columns(settings)
    assert DeltaTable(table_io.table_uri(settings, SILVER_CONTINUITY)).version() == before + 1


def test_tries_outlive_a_compaction_of_the_trades(old: AuditLake) -> None:
    """The ledger reads all trades anew where the files of its version are gone, and keeps what it alone knows."""
    settings = old.settings
    table_io.ensure_tables(settings)
    at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    Ledger(settings).take({KEY: News(gone=[Tried.once(3, 3, at)])}, old.version(SILVER_TRADES))
    before = [replace(one, trades_version=0) for one in read_ledger(settings) if one.state == "unavailable"]
    assert [one.tries for one in before] == [2, 1]
    trades = table_io.open_table(settings, SILVER_TRADES)
    data = pa.table(trades.to_pyarrow_table())
    write_deltalake(trades, data, mode="overwrite")
    Ledger(settings).take({}, table_io.open_table(settings, SILVER_TRADES).version())
    after = [replace(one, trades_version=0) for one in read_ledger(settings) if one.state == "unavailable"]
    assert after == before
