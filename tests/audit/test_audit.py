"""The audit on small lakes: right ones are exact, with the right figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.audit.report import to_json
from lakehouse.audit.run import Options, audit
from lakehouse.cli import build_app
from lakehouse.errors import TerminalError
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    SILVER_CONTINUITY,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import messages, mixed, more, printed, trade
from tests.support.damage import lose


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def test_a_right_lake_is_exact_with_the_right_figures(lake: AuditLake) -> None:
    lake.batch(mixed())
    lake.batch(more())
    report = audit(lake.settings)
    assert report.faults == []
    assert report.notes == []
    found = {
        (one.topic, one.partition): (one.messages, one.trades, one.duplicates, one.quarantined, one.feed_events)
        for one in report.partitions
    }
    assert found == {
        ("crypto.feed_events", 0): (3, 0, 0, 0, 3),
        ("crypto.trades", 0): (16, 11, 3, 2, 0),
        ("crypto.trades", 1): (7, 6, 1, 0, 0),
        ("crypto.trades.rejected", 0): (1, 0, 0, 1, 0),
    }
    assert report.silver_rows == 17
    assert [(one.bars, one.trades, one.complete) for one in report.bars] == [(5, 17, 1), (2, 17, 0)]
    figures = ("present", "ranges", "repaired", "open", "open_holes", "unavailable")
    assert [report.holes.total(name) for name in figures] == [17, 3, 1, 1, 1, 1]
    assert [(one.rule, one.messages, one.open) for one in report.quarantine] == [
        ("conflict", 1, 1),
        ("not_json", 1, 1),
        ("rejected:not_json", 1, 1),
    ]
    assert [(one.query, one.batches, one.generations) for one in report.books] == [
        ("bronze", 2, 1),
        ("silver", 2, 1),
        ("gold", 2, 1),
    ]
    assert report.messages_not_yet is None
    assert report.kafka.startswith("no answer")


def test_the_proof_is_printed_and_given_as_json(lake: AuditLake) -> None:
    lake.batch(mixed())
    lake.batch(more())
    report = audit(lake.settings)
    text = " ".join(printed(report).split())
    for line in (
        "trades 0 – 0 15 16 0 0",
        "trades 0 16 11 3 2 0 0",
        "feed_events 0 3 0 0 0 3 0",
        "all 27 17 4 3 3 0",
        "gold/bars_1m 5 17 17 0 1 of 5",
        "binance BTC/USDT 1 13 11 2 1 1 1",
        "conflict 1 1",
        "silver 2 1 27 17 4 3 3",
        "EXACT: each of 27 messages is accounted for, each of 17 trades is there once; "
        "1 trade id still missing in open gaps",
    ):
        assert line in text, line
    figures = json.loads(to_json(report))
    assert figures["exact"] is True
    assert figures["partitions"][1]["topic"] == "crypto.trades"
    assert figures["partitions"][1]["duplicates"] == 3
    assert figures["books"][1]["counts"]["rows_in"] == 27
    assert figures["holes"]["symbols"][0]["unavailable"] == 1


def test_the_command_exits_0_only_where_all_is_exact(lake: AuditLake, tmp_path: Path) -> None:
    lake.batch(mixed())
    home = str(lake.settings.home)
    result = CliRunner().invoke(build_app(), ["audit", "--home", home])
    assert (result.exit_code, "EXACT: each of 21 messages" in result.stdout) == (0, True), result.output
    assert json.loads(CliRunner().invoke(build_app(), ["audit", "--home", home, "--json"]).stdout)["exact"] is True
    lake.batch(more(), lambda broken: broken.delete(SILVER_TRADES, "trade_id = 71"))
    result = CliRunner().invoke(build_app(), ["audit", "--home", home])
    assert result.exit_code == 1
    assert "NOT EXACT" in result.stdout
    assert "crypto.trades partition 1: 2 messages unaccounted for: offset 1" in " ".join(result.output.split())
    assert json.loads(CliRunner().invoke(build_app(), ["audit", "--home", home, "--json"]).stdout)["exact"] is False


def test_open_gaps_are_faults_only_where_asked(lake: AuditLake) -> None:
    lake.batch(messages(trade(1), trade(4)))
    assert audit(lake.settings).exact
    assert "1 gap open" in printed(audit(lake.settings))
    assert audit(lake.settings, Options(strict=True)).faults == ["silver/continuity: 2 ids in 1 gap open"]


def test_a_price_written_otherwise_and_a_number_as_text_are_still_duplicates(lake: AuditLake) -> None:
    lake.batch(messages(trade(1, price="7.10"), trade(1, price="7.1000"), trade(1, price="7.1")))
    assert audit(lake.settings).exact
    value = json.dumps(trade(2)).replace('"trade_id": 2', '"trade_id": "2"').encode()

    def as_text(broken: AuditLake) -> None:  # the stream's parser takes it for a trade, and so for a duplicate
        broken.delete(SILVER_QUARANTINE, "kafka_offset = 4")

    lake.batch(messages(trade(2), value), as_text)
    report = audit(lake.settings)
    assert not [fault for fault in report.faults if "unaccounted" in fault]
    assert report.total("duplicates") == 3


@pytest.mark.parametrize("table", [BRONZE_MESSAGES, SILVER_TRADES, SILVER_QUARANTINE, SILVER_CONTINUITY, GOLD_BARS_1M])
def test_a_lost_file_is_one_clear_line(lake: AuditLake, table: Table) -> None:
    lake.batch(mixed())
    lake.batch(more())
    lost = lose(lake.settings, table)
    words = rf"{table.path} cannot be read \(({'|'.join(lost)}) is gone\)"
    with pytest.raises(TerminalError, match=words) as caught:
        audit(lake.settings)
    assert "\n" not in str(caught.value)
