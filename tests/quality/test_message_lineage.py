"""The checks that follow each message and each id through the tables, whole and of the last minutes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import append_rows
from lakehouse.quality import duplicates
from lakehouse.quality.bitmaps import Block, ranges_of
from lakehouse.quality.checks import CHECKS, CheckResult
from lakehouse.quality.model import Look
from lakehouse.tables import (
    BRONZE_MESSAGES,
    OPS_REPLAYS,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import EVENTS, REJECTED, event, messages, rejected, trade
from tests.support.rows import message_row, trade_row, utc

BOTH = pytest.mark.parametrize("recent", [False, True], ids=["whole", "recent"])
#: Longer than the last minutes that `recent` looks at, in microseconds.
HOUR_US = 3_600_000_000


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def evaluate(lake: AuditLake, name: str, recent: bool = False) -> CheckResult:
    check = next(check for check in CHECKS if check.name == name)
    return check.evaluate(lake.settings, Look.LATELY if recent else Look.ALL)


# ------------------------------------------------------------------------------------------------ bitmaps


@given(st.sets(st.integers(0, 400) | st.integers(2**40, 2**40 + 300)))
@settings(max_examples=200)
def test_bitmaps_hold_exactly_the_integers_put_in(integers: set[int]) -> None:
    bits: dict[int, int] = {}
    for integer in integers:
        bits[integer >> 6] = bits.get(integer >> 6, 0) | 1 << (integer & 63)
    blocks = [Block(("k",), number, 1, found) for number, found in sorted(bits.items())]
    assert ranges_of(blocks).get(("k",), IdRanges()) == IdRanges((one, one) for one in sorted(integers))
    assert sum(block.distinct for block in blocks) == len(integers)


# ------------------------------------------------------------------------------------------------ lineage


@BOTH
def test_every_message_is_accounted_for(lake: AuditLake, recent: bool) -> None:
    lake.batch(messages(trade(1), trade(2), trade(1), trade(2, price="9"), b"junk"))
    lake.batch(
        [*messages(trade(3), partition=1), *messages(event(), topic=EVENTS), *messages(rejected(), topic=REJECTED)]
    )
    result = evaluate(lake, "conserved_by_lineage", recent)
    assert result.passed, result
    assert result.detail == (
        "8 messages in 4 Kafka partitions = 3 trades + 1 proved duplicates + 3 quarantined + 1 feed events."
    )


@BOTH
@pytest.mark.parametrize(
    ("table", "where", "said"),
    [
        (SILVER_TRADES, "trade_id = 2", "crypto.trades partition 0: 2 messages unaccounted for: offset 1: "),
        (SILVER_QUARANTINE, "rule = 'conflict'", "trade 2 is in silver/trades with another price"),
        (SILVER_FEED_EVENTS, "TRUE", "crypto.feed_events partition 0: 1 message unaccounted for"),
    ],
)
def test_a_lost_message_fails(lake: AuditLake, table: Any, where: str, said: str, recent: bool) -> None:
    batch = [*messages(trade(1), trade(2), trade(2), trade(2, price="9")), *messages(event(), topic=EVENTS)]
    lake.batch(batch, lambda broken: broken.delete(table, where))
    result = evaluate(lake, "conserved_by_lineage", recent)
    assert not result.passed
    assert said in result.detail


@BOTH
def test_a_row_of_no_message_and_a_second_row_of_one_fail(lake: AuditLake, recent: bool) -> None:
    def invent(broken: AuditLake) -> None:
        broken.append(SILVER_TRADES, trade_row(8, lake.at, kafka_offset=0), trade_row(9, lake.at, kafka_offset=77))

    lake.batch(messages(trade(1)), invent)
    result = evaluate(lake, "conserved_by_lineage", recent)
    assert not result.passed
    assert "crypto.trades partition 0: 1 row of Silver's tables beyond one a message" in result.detail
    assert "rows of Silver's tables name 1 offset that Bronze does not have: 77" in result.detail


def test_recent_looks_at_the_last_minutes_and_finds_duplicates_of_old_trades(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2)), lambda broken: broken.delete(SILVER_TRADES, "trade_id = 1"))
    lake.at += HOUR_US
    lake.batch(messages(trade(3), trade(2)))
    result = evaluate(lake, "conserved_by_lineage", recent=True)
    assert result.passed
    assert result.detail.startswith("2 messages in 1 Kafka partition = 1 trades + 1 proved duplicates")
    assert not evaluate(lake, "conserved_by_lineage").passed


def test_a_stream_behind_its_source_and_one_that_reads_again_are_no_losses(lake: AuditLake) -> None:
    """Silver's newest batch ended at an old version of Bronze: what later messages brought in is not foreign."""
    lake.batch(messages(trade(1)))
    old = {"version": lake.version(BRONZE_MESSAGES), "complete": True}
    lake.batch(messages(trade(2)))
    lake.batch([], edit=lambda row: row.update(source_end=old) if row["query"] == "silver" else None)
    for recent in (True, False):
        result = evaluate(lake, "conserved_by_lineage", recent)
        assert result.passed, result
        assert result.figures["messages"] == 1


def test_many_duplicates_go_through_in_chunks(lake: AuditLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CHUNK", 3)
    monkeypatch.setattr(duplicates, "LISTED", 2)
    batch = [*messages(*(trade(n) for n in range(10))), *messages(*(trade(n) for n in range(10)), partition=1)]
    lake.batch(batch)
    lake.batch(batch, lambda broken: broken.delete(SILVER_TRADES, "trade_id = 4"))
    result = evaluate(lake, "conserved_by_lineage")
    assert (result.figures["duplicates"], result.figures["unaccounted"]) == (27, 4)


# ------------------------------------------------------------------------------------------------ bronze's end


@BOTH
def test_what_bronze_lacks_at_the_end_is_seen_by_the_books(lake: AuditLake, recent: bool) -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
    lake.at = now
    lake.batch(messages(trade(1), trade(2), trade(3)), lambda broken: broken.delete(BRONZE_MESSAGES, "offset = 2"))
    result = evaluate(lake, "offsets_contiguous", recent)
    assert not result.passed
    assert (result.figures["rows"], result.figures["missing_offsets"]) == (2, 1)


def test_messages_of_a_batch_that_is_under_way_do_not_count(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2)))
    append_rows(lake.settings, BRONZE_MESSAGES, [message_row(2), message_row(3)])
    result = evaluate(lake, "offsets_contiguous")
    assert result.passed
    assert result.figures["rows"] == 2


# ------------------------------------------------------------------------------------------------ the ledger of ids


@BOTH
def test_the_ledger_matches_also_while_trades_are_ahead_of_it(lake: AuditLake, recent: bool) -> None:
    lake.batch(messages(trade(1), trade(2), trade(5), trade(9, symbol="ETH/USDT")))
    append_rows(lake.settings, SILVER_TRADES, [trade_row(700)])  # of a batch that is under way
    result = evaluate(lake, "ledger_matches", recent)
    assert result.passed, result
    assert result.detail == "4 ranges say of every id what silver/trades says at version 1: 4 ids present."


LEDGER_FAULTS = {
    "too long": ("symbol = 'BTC/USDT' AND first_id = 5", {"last_id": "last_id + 1"}),
    "too short": ("symbol = 'BTC/USDT' AND first_id = 1", {"first_id": "first_id + 1"}),
    "a gap that is none": ("symbol = 'BTC/USDT' AND first_id = 1", {"state": "'open'"}),
    "no gap that is one": ("symbol = 'BTC/USDT' AND first_id = 3", {"state": "'present'"}),
    "an unknown state": ("symbol = 'BTC/USDT' AND first_id = 3", {"state": "'lost'"}),
    "reversed": ("symbol = 'BTC/USDT' AND first_id = 3", {"last_id": "CAST(2 AS BIGINT)"}),
}


@BOTH
@pytest.mark.parametrize("fault", LEDGER_FAULTS)
def test_a_ledger_that_says_something_else_fails(lake: AuditLake, fault: str, recent: bool) -> None:
    where, changes = LEDGER_FAULTS[fault]
    lake.batch(messages(trade(1), trade(2), trade(5)))
    lake.update(SILVER_CONTINUITY, where, **changes)
    result = evaluate(lake, "ledger_matches", recent)
    assert not result.passed, result
    if not (recent and fault == "too long"):  # which the count alone tells there
        assert "binance BTC/USDT" in result.detail


def test_rows_of_different_versions_fail(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(2, symbol="ETH/USDT")))
    lake.batch(messages(trade(2)))
    lake.update(SILVER_CONTINUITY, "symbol = 'ETH/USDT'", trades_version="CAST(1 AS BIGINT)")
    assert "different versions of silver/trades: 1, 2" in evaluate(lake, "ledger_matches").detail


@BOTH
def test_an_empty_ledger_beside_trades_fails(lake: AuditLake, recent: bool) -> None:
    lake.batch(messages(trade(1)), lambda broken: broken.overwrite(SILVER_CONTINUITY, []))
    assert not evaluate(lake, "ledger_matches", recent).passed


def test_a_trade_twice_is_seen_by_the_ledgers_check_too(lake: AuditLake) -> None:
    lake.batch(messages(trade(1)))
    append_rows(lake.settings, SILVER_TRADES, [trade_row(1)])
    lake.overwrite(SILVER_CONTINUITY, lake.ledger())
    assert "1 row of silver/trades beyond one an id" in evaluate(lake, "ledger_matches").detail
    assert not evaluate(lake, "ledger_matches", recent=True).passed


@pytest.mark.parametrize(("seconds", "passed"), [(90, True), (150, False)])
def test_a_gap_is_old_after_two_minutes(lake: AuditLake, seconds: int, passed: bool) -> None:
    lake.at = int(dt.datetime.now(dt.UTC).timestamp() - seconds) * 1_000_000
    lake.batch(messages(trade(1), trade(4)))
    result = evaluate(lake, "no_old_holes")
    assert result.passed is passed
    assert result.figures["open_ids"] == 2
    if not passed:
        assert "2 minutes: 1 gap with 2 ids, the oldest binance BTC/USDT 2–3; `lakehouse repair`" in result.detail


def test_what_the_venue_no_longer_has_is_no_gap(lake: AuditLake) -> None:
    gone = event(event="gap_unavailable", symbol="BTC/USDT", first_id=2, last_id=3)
    lake.batch([*messages(trade(1), trade(4)), *messages(gone, topic=EVENTS)])
    assert evaluate(lake, "no_old_holes").passed
    assert evaluate(lake, "ledger_matches").passed


# ------------------------------------------------------------------------------------------------ quarantine


def test_quarantine_is_settled_once_a_replay_has_seen_each_message(lake: AuditLake) -> None:
    lake.batch([*messages(b"junk", b"more", trade(1)), *messages(rejected(), topic=REJECTED)])
    result = evaluate(lake, "quarantine_settled")
    assert not result.passed
    assert "3 messages: not_json 2, rejected:not_json 1; `lakehouse replay`" in result.detail
    for topic, offset in (("crypto.trades", 0), ("crypto.trades", 1), (REJECTED, 0)):
        place = {"kafka_topic": topic, "kafka_partition": 0, "kafka_offset": offset}
        settled = {"rule": "not_json", "outcome": "noise", "trades": 0, "replayed_at": utc(lake.at)}
        assert not evaluate(lake, "quarantine_settled").passed
        append_rows(lake.settings, OPS_REPLAYS, [place | settled])
    assert evaluate(lake, "quarantine_settled").passed
