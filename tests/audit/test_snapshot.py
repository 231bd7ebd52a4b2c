"""Which versions the audit compares while streams write, after kills and lost checkpoints: never a wrong pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.audit.report import Report
from lakehouse.audit.run import audit
from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import append_rows
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import EVENTS, event, messages, trade
from tests.support.rows import batch_row


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def inside(query: str) -> Any:
    """An edit: the batch of a query ended inside a version of its source."""

    def edit(row: dict[str, Any]) -> None:
        if row["query"] == query:
            row["source_end"] = row["source_end"] | {"complete": False}

    return edit


def exact(lake: AuditLake) -> Report:
    report = audit(lake.settings)
    assert report.faults == []
    return report


def reread(lake: AuditLake, query: str, generation: str, batch_id: int, end: dict[str, Any], **columns: Any) -> None:
    """A row of a stream that lost its checkpoint and reads its source again; the tables stay as they are."""
    lake.at += 1_000
    start = {"version": -1, "complete": True} if not batch_id else {"version": end["version"], "complete": False}
    silver = ("silver/trades", "silver/quarantine", "silver/feed_events", "silver/continuity")
    tables = silver if query == "silver" else ("gold/bars_1m", "gold/bars_5m")
    from lakehouse.tables import BY_PATH

    versions = {path: lake.version(BY_PATH[path]) for path in tables}
    row = batch_row(
        query,
        batch_id,
        lake.at,
        **{"generation": generation, "source_start": start, "source_end": end, "versions": versions} | columns,
    )
    append_rows(lake.settings, OPS_BATCHES, [row])


def test_gold_behind_makes_the_snapshot_older(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(1)))
    lake.batch(messages(trade(2), trade(3)), books=("bronze", "silver"))
    report = exact(lake)
    assert (report.silver_rows, report.total("messages"), report.rows_not_yet) == (1, 2, 2)
    assert report.versions.trades < lake.version(SILVER_TRADES)


def test_batches_without_new_trades_move_the_snapshot_on(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2)))
    lake.batch(messages(trade(1)))
    lake.batch(messages(event(), topic=EVENTS), books=("bronze", "silver"))  # Gold has nothing to do
    report = exact(lake)
    assert (report.total("messages"), report.total("duplicates"), report.total("feed_events")) == (4, 1, 1)


@pytest.mark.parametrize("query", ["silver", "gold"])
def test_a_batch_that_ended_inside_a_version_is_passed_over(lake: AuditLake, query: str) -> None:
    lake.batch(messages(trade(1)))
    lake.batch(messages(trade(2)), edit=inside(query))
    assert exact(lake).silver_rows == 1


@pytest.mark.parametrize("query", ["silver", "gold"])
def test_where_nothing_matches_it_says_so(lake: AuditLake, query: str) -> None:
    with pytest.raises(TerminalError, match=r"no gold batch in .* has ended at a whole version of its source"):
        audit(lake.settings)
    lake.batch(messages(trade(1)), edit=inside(query))
    with pytest.raises(TerminalError, match=f"no {query} batch in .* has ended at a whole version"):
        audit(lake.settings)


def test_gold_that_read_what_no_silver_batch_has_left_is_passed_over(lake: AuditLake) -> None:
    """Silver is between its append and its row: Gold may have read that version already."""
    lake.batch(messages(trade(1)), books=("bronze", "gold"))
    with pytest.raises(TerminalError, match="no silver batch"):
        audit(lake.settings)
    lake.batch(messages(trade(2)))
    lake.batch(messages(trade(3)), books=("bronze", "gold"))
    assert audit(lake.settings).silver_rows == 2


def test_a_version_left_by_a_kill_is_found_by_its_rows(lake: AuditLake) -> None:
    """The batch that was cut runs again, adds nothing, and its row names a later version with the same trades."""
    lake.batch(messages(trade(1)))

    lake.batch(messages(trade(2), trade(1)))
    before = exact(lake)
    lake.open(SILVER_TRADES).optimize.compact()  # no row changes, the version does
    lake.overwrite(SILVER_CONTINUITY, lake.ledger())
    lake.batch([], books=("gold",))
    report = exact(lake)
    assert report.versions.trades == before.versions.trades + 1
    assert report.silver_rows == 2


def test_a_lost_silver_checkpoint_compares_what_was_whole_before_and_after(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2), trade(2)))
    lake.batch(messages(trade(3)))
    bronze = lake.version(BRONZE_MESSAGES)
    some = {"rows_in": 3, "rows_duplicate": 3, "partitions": _counts(3)}
    reread(lake, "silver", "second", 0, {"version": bronze, "complete": False}, **some)
    assert exact(lake).total("messages") == 4
    rest = {"rows_in": 1, "rows_duplicate": 1, "partitions": _counts(1)}
    reread(lake, "silver", "second", 1, {"version": bronze, "complete": True}, **rest)
    report = exact(lake)
    assert [(one.query, one.generations, one.counts.rows_in) for one in report.books] == [
        ("bronze", 1, 4),
        ("silver", 2, 8),
        ("gold", 1, 3),
    ]
    assert report.notes == []


def _counts(rows: int) -> dict[str, Any]:
    return {"crypto.trades": {"0": {"in": rows, "out": 0, "duplicate": rows, "quarantined": 0, "feed_events": 0}}}


def test_gold_that_is_behind_where_it_was_is_no_snapshot(lake: AuditLake) -> None:
    lake.batch(messages(trade(1)))
    lake.batch(messages(trade(2)))
    newest = lake.version(SILVER_TRADES)
    reread(lake, "gold", "second", 0, {"version": newest - 1, "complete": True}, rows_in=1)
    assert exact(lake).versions.trades == newest
    begun = json.dumps({"version": newest - 1, "complete": True})
    reread(lake, "gold", "second", 1, {"version": newest, "complete": True}, rows_in=1, source_start=begun)
    assert exact(lake).books[2].generations == 2


def test_a_batch_that_was_cut_and_whose_checkpoint_is_lost_is_no_fault(lake: AuditLake) -> None:
    """Killed after the tables, before the rows: the trades are there, no row of ops/batches will ever name them."""
    lake.batch(messages(trade(1)))
    lake.batch(messages(trade(2), trade(1)), books=())
    lake.generation = "second"
    lake.ends["silver", "second"] = lake.ends["gold", "second"] = {"version": -1, "complete": True}
    counts = {("crypto.trades", 0): {"in": 3, "out": 0, "duplicate": 3, "quarantined": 0, "feed_events": 0}}
    lake.write_books({}, counts, 2, books=("silver", "gold"))
    report = exact(lake)
    assert report.notes == [
        "ops/batches of bronze: 2 rows of the table in no batch: one was killed before its row, and its checkpoint "
        "was lost",
        "ops/batches of silver: 1 row of the table in no batch: one was killed before its row, and its checkpoint "
        "was lost",
    ]


def test_trades_of_a_batch_that_will_run_again_are_not_foreign(lake: AuditLake) -> None:
    """Two of Bronze's versions are not in the books of Silver yet; the trades of the second are in the table."""
    lake.batch(messages(trade(1)))
    lake.batch(messages(trade(2)), books=("bronze",))
    versions = {"version": lake.version(BRONZE_MESSAGES) - 1, "complete": True}

    def at_once(row: dict[str, Any]) -> None:
        if row["query"] == "silver":
            row |= {"source_end": versions, "source_start": versions, "rows_in": 0, "rows_out": 0, "partitions": {}}
        if row["query"] == "gold":
            row["source_start"] = {"version": 1, "complete": True}

    lake.write_books(lake.kafka_position(), {}, 1, at_once, books=("silver", "gold"))
    report = audit(lake.settings)
    assert [one.ahead for one in report.partitions] == [1]
    assert "crypto.trades partition 0: 1 message beyond the snapshot in Silver already" in report.notes[0]
    assert not [fault for fault in report.faults if "does not have" in fault or "unaccounted" in fault]


def test_offsets_that_two_generations_both_claim_are_a_fault(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2)))
    lake.generation = "second"
    lake.ends["silver", "second"] = lake.ends["gold", "second"] = {"version": -1, "complete": True}
    lake.offsets["crypto.trades", 0] = 1
    lake.batch(messages(trade(2)))
    faults = audit(lake.settings).faults
    assert any(
        "crypto.trades partition 0: bronze batch 0 of generation second has 1 of the offsets 1 to 1 a second time"
        in one
        for one in faults
    )
    assert any("crypto.trades partition 0: 1 row of bronze/messages beyond one an offset" in one for one in faults)
