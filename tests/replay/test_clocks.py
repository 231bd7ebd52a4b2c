"""Replay finds messages that a slow clock put into quarantine, by the tables alone."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.continuity.gaps import open_gaps
from lakehouse.lake.table_io import append_rows
from lakehouse.tables import SILVER_CONTINUITY
from tests.support.host_clock import QUOTED, QUOTED_KAFKA, SECOND, Host
from tests.support.rows import NOON_US, empty_lake, range_row, utc


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(empty_lake(tmp_path))


# ------------------------------------------------------------------------------------------------ what replay takes


def test_the_message_of_the_slow_host(host: Host) -> None:
    row: dict[str, Any] = {"rule": "event_in_the_future", "detail": "", "key": b"BTC/USDT", "value_raw": QUOTED}
    row |= {"kafka_topic": "crypto.trades", "kafka_partition": 0, "kafka_offset": 0, "ts_kafka": utc(QUOTED_KAFKA)}
    host.refused.append(row | {"ingest_date": utc(QUOTED_KAFKA).date()})
    assert host.explained() == [True]


def test_all_trades_of_a_slow_host_and_what_is_late_among_them(host: Host) -> None:
    for second in range(100):
        host.gets(second, slow=600)
        host.gets(second, slow=600, delay=20)  # a socket that was busy
        host.gets(second, slow=600, delay=500, source="repair")
    assert host.explained() == [True] * 300


def test_a_bad_time_of_the_venue_stays(host: Host) -> None:
    for second in range(600):
        host.gets(second)
    host.gets(100, ahead=300)
    host.gets(100, ahead=300)  # by another socket
    host.gets(599, ahead=300)  # nothing has been received of that time
    assert host.explained() == [False, False, False]


@pytest.mark.parametrize("pause", [90, 400, 3_000, 40_000])
@pytest.mark.parametrize("ahead", [90, 3_600, 86_400])
def test_a_lone_trade_with_a_bad_time_stays_in_a_quiet_market(host: Host, pause: float, ahead: float) -> None:
    """One trade agrees with nobody."""
    for second in range(20):
        host.gets(second)
    host.gets(20 + pause, ahead=ahead)
    host.gets(20 + 2 * pause)
    assert host.explained() == [False]


def test_a_lone_trade_with_a_bad_time_stays_if_only_another_venue_traded_that_hour(host: Host) -> None:
    host.gets(0, venue="kraken")
    host.gets(600, ahead=300)
    host.gets(1_200, venue="kraken")
    assert host.explained() == [False]


def test_a_slow_host_in_a_quiet_market(host: Host) -> None:
    for number in range(6):
        host.gets(number * 400, slow=61)
    assert host.explained() == [True] * 6


def test_a_bad_time_on_a_slow_host_stays_among_good_ones(host: Host) -> None:
    for second in range(600):
        host.gets(second, slow=61)
    host.gets(100, slow=61, ahead=300)
    assert host.explained() == [True] * 600 + [False]


def test_a_quiet_venue_goes_by_the_others(host: Host) -> None:
    for second in range(600):
        host.gets(second)
    host.gets(100, ahead=300, venue="kraken")
    assert host.explained() == [False]


def test_one_venue_alone_ahead_stays(host: Host) -> None:
    """Its trades agree with one another, but another venue's say that our clock was right."""
    for second in range(400):
        host.gets(second, ahead=300)
        if second % 10 == 0:
            host.gets(second, venue="kraken")
    assert host.explained() == [False] * 400


def test_a_feed_that_lags_does_not_outvote_two(host: Host) -> None:
    for second in range(100):
        host.gets(second, slow=90)
        host.gets(second, slow=90, venue="kraken")
        host.gets(second, slow=90, delay=80, venue="coinbase")
    assert host.explained() == [True] * 200


@pytest.mark.parametrize("slow", [61, 600, 7_200])
def test_a_clock_that_is_set_in_the_middle_of_a_run(host: Host, slow: float) -> None:
    """Back and forth again: the trades of the time between are taken, to the first and the last."""
    for second in range(300):
        host.gets(second)
    for second in range(300, 400, 5):  # quieter than before and after
        host.gets(second, slow=slow)
    for second in range(400, 700):
        host.gets(second)
    assert host.explained() == [True] * 20


def test_what_was_replayed_already_does_not_speak_against_the_rest(host: Host) -> None:
    for second in range(30):
        host.gets(second, slow=61)
        host.has(NOON_US + second * SECOND, NOON_US + (second - 61) * SECOND, NOON_US + (second + 90) * SECOND)
    assert host.explained() == [True] * 30


def test_a_broker_with_a_slow_clock(host: Host) -> None:
    """Kafka's time may be the broker's own (`LogAppendTime`); feed events, with our time, are then refused too."""
    for second in range(30):
        event = NOON_US + second * SECOND
        host.has(event, event, event - 61 * SECOND)
    host.refused[0]["value_raw"] = json.dumps({"venue": "binance", "ts_event": NOON_US, "event": "connected"}).encode()
    assert host.explained() == [True] * 30


def test_scattered_over_months(host: Host) -> None:
    """More stretches than one query takes."""
    for day in range(60):
        host.gets(day * 86_400)
        host.gets(day * 86_400 + 1)
        host.gets(day * 86_400, ahead=300)
    assert host.explained() == [False] * 60


# ------------------------------------------------------------------------------------------------ the ledger


@pytest.mark.parametrize(("age", "is_old"), [(119, False), (121, True), (-60, False), (-600, True)])
def test_a_gap_that_was_opened_before_the_clock_was_set_back_is_repaired(host: Host, age: float, is_old: bool) -> None:
    """Not only when the clock has come to where it was."""
    since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    append_rows(host.settings, SILVER_CONTINUITY, [range_row(5, 9, "open", since=since)])
    assert bool(open_gaps(host.settings, 120)) is is_old
