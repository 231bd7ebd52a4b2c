"""The audit finds and names what is wrong in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakehouse.audit import conservation
from lakehouse.audit.conservation import KafkaOffsets
from lakehouse.audit.run import audit
from lakehouse.quality.message_account import account
from lakehouse.quality.message_lineage import Versions
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from tests.support.audit_lake import AuditLake, Breaking
from tests.support.audit_messages import ETH, EVENTS, event, messages, mixed, more, printed, trade
from tests.support.rows import message_row, trade_row


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def found(lake: AuditLake, breaking: Breaking) -> list[str]:
    lake.batch(mixed(), breaking)
    report = audit(lake.settings)
    assert not report.exact
    return report.faults


def drop(table: Any, where: str) -> Breaking:
    return lambda broken: broken.delete(table, where)


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        pytest.param(
            drop(BRONZE_MESSAGES, "topic = 'crypto.trades' AND partition = 1 AND offset = 2"),
            "crypto.trades partition 1: 1 offset missing in bronze/messages: 2",
            id="a missing offset",
        ),
        pytest.param(
            drop(BRONZE_MESSAGES, "topic = 'crypto.trades' AND partition = 1 AND offset = 5"),
            "crypto.trades partition 1: ops/batches has 1 message that bronze/messages lacks: 5",
            id="the last offset is missing",
        ),
        pytest.param(
            lambda broken: broken.append(BRONZE_MESSAGES, message_row(1, partition=1)),
            "crypto.trades partition 1: 1 row of bronze/messages beyond one an offset",
            id="a doubled row of bronze",
        ),
        pytest.param(
            drop(SILVER_TRADES, "trade_id = 72"),
            "crypto.trades partition 1: 1 message unaccounted for: offset 2: "
            "binance ETH/USDT trade 72 is not in silver/trades",
            id="a lost trade",
        ),
        pytest.param(
            drop(SILVER_QUARANTINE, "rule = 'not_json'"),
            "crypto.trades partition 0: 1 message unaccounted for: offset 11: no readable trade",
            id="a lost quarantine row",
        ),
        pytest.param(
            drop(SILVER_QUARANTINE, "rule LIKE 'rejected%'"),
            "crypto.trades.rejected partition 0: 1 message unaccounted for: offset 0: no trade",
            id="a lost rejected frame",
        ),
        pytest.param(
            drop(SILVER_FEED_EVENTS, "event = 'disconnected'"),
            "crypto.feed_events partition 0: 1 message unaccounted for: offset 1: no trade",
            id="a lost event",
        ),
        pytest.param(
            drop(SILVER_QUARANTINE, "rule = 'conflict'"),
            "offset 10: binance BTC/USDT trade 5 is in silver/trades with another price (105.5",
            id="a fake duplicate",
        ),
        pytest.param(
            lambda broken: broken.append(SILVER_TRADES, trade_row(900, kafka_partition=1, kafka_offset=50)),
            "crypto.trades partition 1: rows of Silver's tables name 1 offset that Bronze does not have: 50",
            id="a trade without lineage",
        ),
        pytest.param(
            lambda broken: broken.append(SILVER_TRADES, trade_row(900, kafka_topic="nowhere", kafka_offset=0)),
            "nowhere partition 0: rows of Silver's tables name 1 offset that Bronze does not have: 0",
            id="a trade of an unknown topic",
        ),
        pytest.param(
            lambda broken: broken.append(SILVER_TRADES, trade_row(900, kafka_partition=1, kafka_offset=1)),
            "crypto.trades partition 1: 1 row of Silver's tables beyond one a message",
            id="two trades of one message",
        ),
        pytest.param(
            lambda broken: broken.update(SILVER_QUARANTINE, "rule = 'conflict'", kafka_offset="CAST(3 AS BIGINT)"),
            "crypto.trades partition 0: 1 row of Silver's tables beyond one a message, at or near offsets 3",
            id="a message in two tables",
        ),
        pytest.param(
            lambda broken: broken.append(
                SILVER_TRADES, trade_row(71, symbol="ETH/USDT", kafka_partition=1, kafka_offset=5)
            ),
            "silver/trades: 1 row beyond one a trade: binance ETH/USDT near id 70",
            id="a trade twice",
        ),
        pytest.param(
            lambda broken: broken.update(GOLD_BARS_1M, "first_trade_id = 1", trades="trades + 1"),
            "gold/bars_1m: the bars hold 14 trades, silver/trades 13",
            id="a bar off by one",
        ),
        pytest.param(
            lambda broken: broken.update(
                GOLD_BARS_5M, "TRUE", trades="CASE WHEN first_trade_id = 1 THEN trades + 1 ELSE trades - 1 END"
            ),
            "gold/bars_5m: the bar binance BTC/USDT 2026-11-01 12:00 holds 9 trades, silver/trades has 8",
            id="two bars off, the sum right",
        ),
        pytest.param(
            drop(GOLD_BARS_5M, "symbol = 'ETH/USDT'"),
            "gold/bars_5m: the bar binance ETH/USDT 2026-11-01 12:10 holds 0 trades, silver/trades has 5",
            id="a lost bar",
        ),
        pytest.param(
            lambda broken: broken.update(GOLD_BARS_1M, "first_trade_id = 1", complete="true"),
            "gold/bars_1m: 1 flag `complete` not as the ids say, first the bar binance BTC/USDT 2026-11-01 12:00",
            id="a bar that calls itself complete",
        ),
        pytest.param(
            lambda broken: broken.update(GOLD_BARS_1M, "symbol = 'ETH/USDT'", open="close"),
            "gold/bars_1m: open or close of 2 bars not the price of first_trade_id or last_trade_id, among them "
            "binance ETH/USDT; bars from before that rule, or changed by another hand: `lakehouse rebuild gold --from "
            "2026-11-01 --to 2026-11-01` makes them anew",
            id="bars that another trade opens",
        ),
        pytest.param(
            lambda broken: broken.update(GOLD_BARS_5M, "TRUE", close="high"),
            "gold/bars_5m: open or close of 2 bars not the price of first_trade_id or last_trade_id",
            id="bars that another trade closes",
        ),
        pytest.param(
            lambda broken: broken.update(SILVER_CONTINUITY, "symbol = 'ETH/USDT'", last_id="last_id + 1"),
            "silver/continuity: binance ETH/USDT id 75: present by the ledger, not in silver/trades",
            id="a range too long",
        ),
        pytest.param(
            lambda broken: broken.update(SILVER_CONTINUITY, "symbol = 'ETH/USDT'", first_id="first_id + 2"),
            "silver/continuity: binance ETH/USDT ids 70–71: in silver/trades, not present by the ledger",
            id="a range too short",
        ),
        pytest.param(
            drop(SILVER_CONTINUITY, "symbol = 'ETH/USDT'"),
            "silver/continuity: binance ETH/USDT ids 70–74: in silver/trades, not present by the ledger",
            id="a symbol that the ledger does not know",
        ),
        pytest.param(
            lambda broken: broken.append(SILVER_CONTINUITY, broken.ledger_row("binance", "ETH/USDT", 74, 80, "open")),
            "silver/continuity: binance ETH/USDT ids 74–80 (open): overlaps ids 70–74 (present)",
            id="ranges that overlap",
        ),
        pytest.param(
            lambda broken: broken.append(SILVER_CONTINUITY, broken.ledger_row("binance", "ETH/USDT", 77, 80, "open")),
            "silver/continuity: binance ETH/USDT ids 77–80 (open): nothing is said of ids 75–76 before it",
            id="ids of which nothing is said",
        ),
        pytest.param(
            lambda broken: broken.update(SILVER_CONTINUITY, "symbol = 'ETH/USDT'", repaired="CAST(2 AS BIGINT)"),
            "silver/continuity: binance ETH/USDT has 2 repaired ids, silver/trades 0 rows with source repair",
            id="repairs that were none",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_found_and_named(lake: AuditLake, breaking: Breaking, said: str) -> None:
    faults = found(lake, breaking)
    assert any(said in fault for fault in faults), faults
    assert "WRONG:" in printed(audit(lake.settings))


@pytest.mark.parametrize("changes", [{"size": "0.26"}, {"side": "sell"}, {"ts_event": trade(1)["ts_event"] + 1_000}])
def test_a_repeat_with_other_content_is_no_duplicate(lake: AuditLake, changes: dict[str, Any]) -> None:
    lake.batch(messages(trade(1), trade(1, **changes)), drop(SILVER_QUARANTINE, "rule = 'conflict'"))
    (fault, *_) = audit(lake.settings).faults
    assert f"offset 1: binance BTC/USDT trade 1 is in silver/trades with another {next(iter(changes))}" in fault


def test_a_range_cut_in_two_is_not_the_run_that_it_should_be(lake: AuditLake) -> None:
    def cut(broken: AuditLake) -> None:
        broken.update(SILVER_CONTINUITY, "symbol = 'BTC/USDT'", last_id="CAST(4 AS BIGINT)")
        broken.append(SILVER_CONTINUITY, broken.ledger_row("binance", "BTC/USDT", 5, 8, "present"))

    assert found(lake, cut) == [
        "silver/continuity: binance BTC/USDT ids 5–8 (present): is one range with ids 1–4 before it"
    ]


def test_a_ledger_that_describes_an_older_version_is_found(lake: AuditLake) -> None:
    lake.batch(mixed())
    lake.batch(more(), lambda broken: broken.update(SILVER_CONTINUITY, "TRUE", trades_version="CAST(1 AS BIGINT)"))
    assert audit(lake.settings).faults == [
        "silver/continuity describes silver/trades at version 1 with 13 rows, not at 2 with 17"
    ]


def test_every_single_row_is_needed(tmp_path: Path) -> None:
    """Take any one row out of any table, and the audit fails."""
    small = [
        *messages(trade(1), trade(2), trade(2), b"junk"),
        *messages(event(), topic=EVENTS),
        *messages(trade(7, **ETH), partition=1),
    ]
    wheres: list[tuple[Any, str]] = [
        *((BRONZE_MESSAGES, f"topic = 'crypto.trades' AND partition = 0 AND offset = {n}") for n in range(4)),
        (BRONZE_MESSAGES, "topic = 'crypto.feed_events'"),
        (BRONZE_MESSAGES, "partition = 1"),
        *((SILVER_TRADES, f"trade_id = {n}") for n in (1, 2, 7)),
        (SILVER_QUARANTINE, "TRUE"),
        (SILVER_FEED_EVENTS, "TRUE"),
        *((table, f"symbol = '{symbol}'") for table in (SILVER_CONTINUITY, GOLD_BARS_1M, GOLD_BARS_5M)
          for symbol in ("BTC/USDT", "ETH/USDT")),
    ]  # fmt: skip
    for number, (table, where) in enumerate(wheres):
        lake = AuditLake.empty(tmp_path / str(number))
        lake.batch(small, drop(table, where))
        assert not audit(lake.settings).exact, (table.path, where)


@pytest.mark.parametrize(
    ("kafka", "starting", "not_yet", "said"),
    [
        (KafkaOffsets(5, 7), "earliest", 0, None),
        (KafkaOffsets(0, 7), "latest", 0, None),
        (KafkaOffsets(6, 11), "earliest", 4, None),  # retention has begun to take what Bronze has
        (KafkaOffsets(9, 11), "earliest", 2, None),
        (KafkaOffsets(5, 6), "earliest", 0, "has offsets up to 6, Kafka only up to 5: Kafka lost messages"),
        (KafkaOffsets(3, 7), "earliest", 0, "Kafka still has offsets from 3, bronze/messages begins at 5"),
    ],
)
def test_kafkas_own_offsets_are_held_against_bronze(
    lake: AuditLake, kafka: KafkaOffsets, starting: str, not_yet: int, said: str | None
) -> None:
    lake.offsets["crypto.trades", 0] = 5
    lake.batch(messages(trade(1), trade(2)))
    settings = lake.settings.model_copy(update={"starting_offsets": starting})
    (one,) = account(settings, Versions(1, 1, 0, 0))
    proof = conservation.prove(one, kafka)
    found = list(conservation.faults(settings, one, proof))
    assert proof.not_yet == not_yet
    assert [said in fault for fault in found] == [True] if said else found == []
