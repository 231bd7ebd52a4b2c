"""Traces of a rebuild beside Silver's rows: its rows in ops/batches, the ledger, its mark. Small lakes, no JVM."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse.audit.batch_history import Counts, read_batch_history
from lakehouse.audit.run import audit
from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.tries import Tried
from lakehouse.errors import TerminalError
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import newest_batches
from lakehouse.quality.conservation import nothing_dropped
from lakehouse.quality.id_coverage import LedgerRange, read_ledger
from lakehouse.quality.model import Look
from lakehouse.rebuild import batch_records
from lakehouse.streams import unfinished
from lakehouse.streams.batch import PartitionRows
from lakehouse.streams.unfinished import Unfinished
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_TRADES
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import EVENTS, event, messages, trade
from tests.support.rows import NOON_US, utc


@pytest.fixture
def audited(tmp_path: Path) -> AuditLake:
    """Two batches, and a rebuild of both that came to the same."""
    made = AuditLake.empty(tmp_path)
    made.batch([*messages(trade(1), trade(2), b"junk", trade(2)), *messages(event(), topic=EVENTS)])
    made.batch(messages(trade(2), trade(3), trade(4, price="5"), trade(4), partition=1))
    booked(made)
    made.at = (dt.datetime.now(dt.UTC) - utc(0)) // dt.timedelta(microseconds=1) + 1_000_000
    return made


def booked(made: AuditLake, rebuild_id: str = "7") -> None:
    settings, totals = made.settings, dict[PartitionKey, Counts]()
    for entry in read_batch_history(settings)["silver"]:
        for place, counts in (entry.partitions or {}).items():
            totals[place] = totals.get(place, Counts()).plus(counts)
    places = {place: PartitionRows(*counts.figures) for place, counts in totals.items()}
    results = {
        "silver": batch_records.silver_result(settings, made.version(BRONZE_MESSAGES), places),
        "gold": batch_records.gold_result(settings, made.version(SILVER_TRADES)),
    }
    batch_records.record_batches(settings, rebuild_id, "test", dt.datetime.now(dt.UTC), results)


def generations(made: AuditLake) -> list[tuple[str, int, int]]:
    report = audit(made.settings)
    assert report.faults == []
    return [(one.query, one.batches, one.generations) for one in report.books]


def test_the_books_begin_with_the_rebuild_and_go_on(audited: AuditLake) -> None:
    assert generations(audited) == [("bronze", 2, 1), ("silver", 1, 1), ("gold", 1, 1)]
    audited.batch(messages(trade(5), trade(1), partition=1))
    assert generations(audited) == [("bronze", 3, 1), ("silver", 2, 1), ("gold", 2, 1)]
    for look in Look:
        found = nothing_dropped(audited.settings, look)
        assert found.passed
        assert found.figures["rows_in"] == 11  # of every message once, of the rebuild and the batch after it
        assert found.figures["batches"] == 2


def test_a_checkpoint_that_is_lost_after_a_rebuild_is_another_generation(audited: AuditLake) -> None:
    audited.generation = "second"
    audited.batch(messages(trade(5), partition=1))
    report = audit(audited.settings)
    assert [(one.query, one.batches, one.generations) for one in report.books[1:]] == [("silver", 2, 2), ("gold", 2, 2)]


def test_a_generation_that_begins_neither_there_nor_at_the_start_is_a_fault(audited: AuditLake) -> None:
    def later(row: dict[str, Any]) -> None:
        if row["query"] == "silver":
            row |= {"generation": "third", "source_start": {"version": 0, "complete": True}}

    audited.batch(messages(trade(5), partition=1), edit=later)
    faults = audit(audited.settings).faults
    assert [fault for fault in faults if "with no batch before it" in fault] == [
        "silver batch 2 of generation third: begins at {'version': 0, 'complete': True}, with no batch before it"
    ]


def test_a_rebuild_is_booked_once_and_behind_what_it_stands_for(audited: AuditLake) -> None:
    rows = table_io.row_count(table_io.open_table(audited.settings, OPS_BATCHES))
    assert batch_records.is_recorded(audited.settings, "7")
    booked(audited)
    assert table_io.row_count(table_io.open_table(audited.settings, OPS_BATCHES)) == rows
    assert not batch_records.is_recorded(audited.settings, "8")
    audited.batch(messages(trade(5), partition=1))  # by a clock that is ahead
    ahead = newest_batches(audited.settings)["silver"].committed_at
    booked(audited, "8")
    assert newest_batches(audited.settings)["silver"].committed_at > ahead
    assert generations(audited) == [("bronze", 3, 1), ("silver", 1, 1), ("gold", 1, 1)]


def test_what_a_rebuild_counted_wrong_is_found(audited: AuditLake) -> None:
    settings = audited.settings
    wrong = {("crypto.trades", 0): PartitionRows(4, 3, 0, 1)}
    results = {
        "silver": batch_records.silver_result(settings, audited.version(BRONZE_MESSAGES), wrong),
        "gold": batch_records.gold_result(settings, audited.version(SILVER_TRADES)),
    }
    batch_records.record_batches(settings, "9", "test", dt.datetime.now(dt.UTC), results)
    faults = audit(settings).faults
    assert "crypto.trades partition 0: ops/batches of silver has out 3, the tables 2" in faults
    assert "crypto.trades partition 1: ops/batches of silver has in 0, the tables 4" in faults


def test_the_ledger_anew_is_the_one_that_grew_with_the_trades(tmp_path: Path) -> None:
    made = AuditLake.empty(tmp_path)
    made.batch(messages(trade(1), trade(2), trade(6, source="repair"), trade(9, symbol="ETH/USDT")))
    gone = event(event="gap_unavailable", symbol="BTC/USDT", first_id=3, last_id=4)
    made.batch([*messages(trade(7), trade(12)), *messages(gone, topic=EVENTS)])

    def ledger() -> list[LedgerRange]:
        return [replace(one, since=utc(0)) for one in read_ledger(made.settings)]

    grown = ledger()
    assert [(one.symbol, one.first_id, one.last_id, one.state, one.repaired) for one in grown] == [
        ("BTC/USDT", 1, 2, "present", 0),
        ("BTC/USDT", 3, 4, "unavailable", 0),
        ("BTC/USDT", 5, 5, "open", 0),
        ("BTC/USDT", 6, 7, "present", 1),
        ("BTC/USDT", 8, 11, "open", 0),
        ("BTC/USDT", 12, 12, "present", 0),
        ("ETH/USDT", 9, 9, "present", 0),
    ]

    def arrival(first: int, last: int, repaired: int = 0) -> Arrival:
        start, end = (utc(NOON_US + number * 10_000_000) for number in (first, last))
        return Arrival(first, last, start, end, repaired)

    anew = Ledger(made.settings, anew=True)
    assert list(anew.all_present()) == []
    first = [arrival(1, 2), arrival(6, 6, repaired=1)]
    news = {("binance", "BTC/USDT"): News(first), ("binance", "ETH/USDT"): News([arrival(9, 9)])}
    assert anew.add(news)
    assert ledger() == grown  # nothing is written yet
    second = [arrival(7, 7), arrival(12, 12)]
    anew.add({("binance", "BTC/USDT"): News(second, gone=[Tried.once(3, 4, utc(0))])})
    anew.add({("kraken", "BTC/USDT"): News(claimed=[(5, 8)])})
    anew.write(made.version(SILVER_TRADES))
    written = ledger()
    assert [one for one in written if one.venue == "binance"] == grown
    assert [(one.first_id, one.last_id, one.state) for one in written if one.venue == "kraken"] == [(5, 8, "open")]


def test_the_mark_keeps_silver_and_gold_out_and_changes_no_row(audited: AuditLake) -> None:
    settings = audited.settings
    there = table_io.open_table(settings, SILVER_TRADES)
    before, table_id, files = there.version(), there.metadata().id, there.file_uris()
    assert unfinished.unfinished(settings) is None
    mark = Unfinished("7", before)
    unfinished.begin(settings, mark)
    assert unfinished.unfinished(settings) == mark
    for layers in (("silver",), ("gold",), ("bronze", "silver", "gold")):
        with pytest.raises(TerminalError, match=r"was cut \(7\); .*say `lakehouse rebuild silver`$"):
            unfinished.require_finished(settings, layers)
    unfinished.require_finished(settings, ("bronze",))
    assert generations(audited)[1] == ("silver", 1, 1)  # the audit goes by the versions of before
    unfinished.end(settings)
    assert unfinished.unfinished(settings) is None
    unfinished.require_finished(settings, ("silver", "gold"))
    after = table_io.open_table(settings, SILVER_TRADES)
    assert (after.version(), after.metadata().id) == (before + 2, table_id)
    assert after.file_uris() == files
    assert after.metadata().configuration["delta.checkpointInterval"] == table_io.PROPERTIES["delta.checkpointInterval"]
    audited.batch(messages(trade(5), partition=1))
    assert generations(audited)[1] == ("silver", 2, 1)
