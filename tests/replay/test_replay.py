"""Open messages in quarantine, and what today's rules say of them; all that needs no Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli.homes import settings_as_started
from lakehouse.cli.replay import lines
from lakehouse.errors import LeaseHeldError, SettingError
from lakehouse.exchanges.model import Rejected, encode
from lakehouse.lake.lease import Lease
from lakehouse.lake.quarantine import BATCH_ROWS, open_messages, open_quarantine
from lakehouse.lake.table_io import append_rows, sql, table_uri
from lakehouse.local_stack import home_folder
from lakehouse.replay.judge import BAD, NOISE, Produced, Verdict, judge, judge_rejected
from lakehouse.replay.run import ReplayReport, RuleReport, _Outbox, replay
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import OPS_REPLAYS, SILVER_QUARANTINE
from tests.status.test_snapshot import lakehouse
from tests.support.exchange_samples import BINANCE, KRAKEN, TS_INGEST
from tests.support.rows import NOON_US, empty_lake, utc

KRAKEN_FRAME = KRAKEN.frame().decode()


def rejected(raw: str, venue: str = "kraken") -> bytes:
    return encode(Rejected(venue, "unknown_frame", "of an older parser", raw, TS_INGEST))


def quarantined(offset: int, rule: str = "bad_price", **columns: Any) -> dict[str, Any]:
    row = {
        "rule": rule,
        "detail": "of that day",
        "venue": None,
        "symbol": None,
        "trade_id": None,
        "key": b"BTC/USDT",
        "value_raw": b"{}",
        "kafka_topic": "crypto.trades",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "ts_kafka": utc(NOON_US),
        "ingest_date": utc(NOON_US).date(),
    }
    return row | columns


def settle(settings: Settings, offset: int, outcome: str = "sent") -> None:
    place = {"kafka_topic": "crypto.trades", "kafka_partition": 0, "kafka_offset": offset}
    append_rows(
        settings,
        OPS_REPLAYS,
        [place | {"rule": "bad_price", "outcome": outcome, "trades": 1, "replayed_at": utc(NOON_US)}],
    )


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Three messages that failed a rule of Silver, two frames that ingest could not read, one of them still junk."""
    settings = empty_lake(tmp_path / ".lakehouse" / "demo")
    rows = [quarantined(0), quarantined(1), quarantined(2, "conflict")]
    topic = {"kafka_topic": "crypto.trades.rejected"}
    rows.append(quarantined(0, "rejected:unknown_frame", value_raw=rejected('{"channel":"heartbeat"}'), **topic))
    rows.append(quarantined(1, "rejected:not_json", value_raw=rejected("junk"), **topic))
    append_rows(settings, SILVER_QUARANTINE, rows)
    return settings


def test_what_no_replay_has_settled_is_open(lake: Settings) -> None:
    assert open_quarantine(lake) == {
        "bad_price": 2,
        "conflict": 1,
        "rejected:not_json": 1,
        "rejected:unknown_frame": 1,
    }
    settle(lake, 1)
    settle(lake, 1)  # told twice: two replays at once
    settle(lake, 2, "noise")
    assert open_quarantine(lake) == {"bad_price": 1, "rejected:not_json": 1, "rejected:unknown_frame": 1}


def test_without_a_lake_nothing_is_open(tmp_path: Path) -> None:
    assert open_quarantine(load_settings(home=tmp_path)) == {}
    assert list(open_messages(load_settings(home=tmp_path))) == []


def test_a_lake_of_an_older_release_has_settled_nothing(lake: Settings) -> None:
    (Path(table_uri(lake, OPS_REPLAYS)) / "_delta_log").rename(lake.home / "gone")
    assert sum(open_quarantine(lake).values()) == 5


def test_open_messages_come_in_large_batches_of_whole_rows(lake: Settings) -> None:
    append_rows(lake, SILVER_QUARANTINE, [quarantined(offset) for offset in range(10, 10 + 3 * BATCH_ROWS)])
    for offset in range(5000, 5003):  # a file each
        append_rows(lake, SILVER_QUARANTINE, [quarantined(offset)])
    settle(lake, 10)
    tables = list(open_messages(lake, "bad_price"))
    assert all(table.num_rows >= BATCH_ROWS for table in tables[:-1])
    offsets: list[Any] = [offset for table in tables for offset in table["kafka_offset"].to_pylist()]
    assert sorted(offsets) == [0, 1, *range(11, 10 + 3 * BATCH_ROWS), 5000, 5001, 5002]
    for table in tables:
        assert (
            table["kafka_offset"]
            .combine_chunks()
            .equals(table.sort_by("kafka_offset")["kafka_offset"].combine_chunks())
        )
        assert table.column_names == list(SILVER_QUARANTINE.column_names)
    others: list[Any] = [
        rule for table in open_messages(lake, without=("bad_price",)) for rule in table["rule"].to_pylist()
    ]
    assert sorted(others) == ["conflict", "rejected:not_json", "rejected:unknown_frame"]


def test_a_frame_that_reads_well_today_is_sent_as_its_trades() -> None:
    settings = load_settings()
    verdict = judge_rejected(rejected(KRAKEN_FRAME), settings)
    assert (verdict.outcome, verdict.trades) == ("sent", 1)
    (message,) = verdict.produce
    trade = json.loads(message.value)
    assert (message.topic, message.key) == (settings.topic_trades, trade["symbol"].encode())
    assert trade["ts_ingest"] == TS_INGEST
    assert (trade["venue"], trade["raw"]) == ("kraken", KRAKEN.payload())


def test_what_is_still_bad_of_a_frame_is_rejected_anew() -> None:
    """Otherwise it would vanish with the row of its frame."""
    bad = KRAKEN.payload(price="-1")
    frame = f'{{"channel":"trade","type":"update","data":[{KRAKEN.payload()},{bad}]}}'
    verdict = judge_rejected(rejected(frame), load_settings())
    assert (verdict.outcome, verdict.trades) == ("sent", 1)
    trade, part = verdict.produce
    assert (trade.topic, part.topic, part.key) == ("crypto.trades", "crypto.trades.rejected", b"kraken")
    assert json.loads(part.value)["raw"] == bad


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (rejected('{"channel":"heartbeat"}'), NOISE),
        (rejected("junk"), BAD),
        (rejected(KRAKEN.payload(price='"1.5"')), BAD),
        (rejected(KRAKEN_FRAME, venue="mtgox"), BAD),
        (b"junk", BAD),
        (b'{"venue":1}', BAD),
        (b"\xff", BAD),
        (None, BAD),
    ],
)
def test_what_is_no_trade_today(value: bytes | None, expected: Verdict) -> None:
    assert judge_rejected(value, load_settings()) == expected


def test_a_native_name_is_read_as_the_symbol_that_is_subscribed_today() -> None:
    raw = BINANCE.payload(symbol='"AAABBB"')
    message = rejected(raw, venue="binance")
    assert judge_rejected(message, load_settings()) == BAD
    verdict = judge_rejected(message, load_settings(symbols=("AAA/BBB",)))
    assert verdict.produce[0].key == b"AAA/BBB"


def test_rejected_frames_are_parsed_again(lake: Settings) -> None:
    (rows,) = open_messages(lake, without=("bad_price", "conflict"))
    by_rule = dict(zip(rows["rule"].to_pylist(), judge(rows, lake), strict=True))
    assert by_rule == {"rejected:unknown_frame": NOISE, "rejected:not_json": BAD}


def test_a_message_without_value_stays_bad(lake: Settings) -> None:
    append_rows(lake, SILVER_QUARANTINE, [quarantined(7, "no_value", value_raw=None)])
    (rows,) = open_messages(lake, "no_value")
    assert judge(rows, lake) == [BAD]


def test_a_dry_run_counts_and_changes_nothing(lake: Settings) -> None:
    report = replay(lake, "rejected:unknown_frame", dry_run=True)
    assert lines(report) == [
        "rejected:unknown_frame: 1 open, 0 would be sent, 1 noise, 0 still bad",
        "1 messages would be settled, 0 trades would be sent",
    ]
    assert sql(lake, "SELECT count(*) AS n FROM r", r=OPS_REPLAYS).to_pylist() == [{"n": 0}]


def test_a_rule_that_nothing_has_failed_is_a_slip_of_the_pen(lake: Settings) -> None:
    with pytest.raises(SettingError, match=r"the rule 'bad_prise'; expected one of bad_price, conflict, rejected:not_"):
        replay(lake, "bad_prise")
    with pytest.raises(SettingError, match="nothing has ever been quarantined here"):
        replay(empty_lake(lake.home.parent / "new"), "bad_price", dry_run=True)


def test_two_replays_do_not_run_at_once(lake: Settings) -> None:
    with Lease(lake, ("replay",), "somebody"), pytest.raises(LeaseHeldError, match="somebody"):
        replay(lake)


def test_a_message_that_kafka_would_not_take_stays_bad() -> None:
    """And does not end the replay of all the others."""
    outbox = _Outbox(load_settings(), "127.0.0.1:1", 1)
    huge = Verdict("sent", (Produced("crypto.trades", None, b"x" * 2_000_000),), 1)
    assert not outbox.takes(huge)
    assert outbox.takes(NOISE)
    outbox.flush()


def test_the_lines_for_people() -> None:
    report = ReplayReport(False, {"bad_price": RuleReport("bad_price", 1500, 3, 1, 2, 4)})
    assert lines(report) == [
        "bad_price: 1,500 open, 3 sent, 1 noise, 2 still bad, 1,494 not looked at",
        "4 messages settled, 4 trades sent",
    ]
    assert lines(ReplayReport(True)) == ["nothing is open in quarantine"]


def test_the_command_and_the_status_say_what_is_open(lake: Settings, tmp_path: Path) -> None:
    done = lakehouse(tmp_path, "replay", "--dry-run", "--rule", "rejected:not_json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("rejected:not_json: 1 open, 0 would be sent, 0 noise, 1 still bad\n")
    done = lakehouse(tmp_path, "replay", "--rule", "nonsense")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("lakehouse: no quarantined message has failed the rule 'nonsense'; expected one of ")
    done = lakehouse(tmp_path, "replay", "--rule", "rejected:not_json")
    assert done.returncode == 75
    assert done.stderr.startswith("lakehouse: no Kafka bootstrap servers are set and no embedded broker has run in ")
    shown = lakehouse(tmp_path, "status").stdout
    assert "no open gap; 5 open in quarantine (bad_price 2, conflict 1, rejected:not_json 1, …)" in shown


def test_a_command_goes_by_what_the_lakehouse_was_started_with(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_as_started(lake.home).simulator_url is None
    started = load_settings(home=lake.home, simulator_url="http://127.0.0.1:9", split_ingest=True, symbols=("A/B",))
    home_folder.save_environment(lake.home, started.environment() | {"DAGSTER_HOME": "somewhere"})
    found = settings_as_started(lake.home)
    assert (found.simulator_url, found.split_ingest, found.symbols) == ("http://127.0.0.1:9", True, ("A/B",))
    assert found.home == lake.home
    monkeypatch.setenv("LAKEHOUSE_SYMBOLS", "C/D")
    assert settings_as_started(lake.home).symbols == ("C/D",)
