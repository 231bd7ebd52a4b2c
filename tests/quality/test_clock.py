"""This machine's clock by what is in the tables: the check, and what replay takes for the work of a slow clock."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.continuity.gaps import open_gaps
from lakehouse.lake.table_io import append_rows, arrow_schema
from lakehouse.quality.checks import CHECKS, CheckResult
from lakehouse.quality.model import Look
from lakehouse.replay.clocks import Clocks
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_QUARANTINE, SILVER_TRADES
from tests.support.rows import NOON_US, empty_lake, trade_row, utc

SECOND = 1_000_000
#: The message that a host which was 61 s slow left in quarantine; Kafka's time is `ts_ingest`.
QUOTED = (
    b'{"venue":"binance","symbol":"BTC/USDT","native_symbol":"BTCUSDT","trade_id":161,"price":"0.15820000",'
    b'"size":"63.00000000","side":"sell","ts_event":1790649901913000,"ts_ingest":1790649840913000,"source":"live",'
    b'"raw":"{}"}'
)
QUOTED_KAFKA = 1_790_649_840_913_000


class Host:
    """Writes what a host with a clock of its own would have in its tables, message by message."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.offset = 0
        self.trades: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def gets(
        self, at: float, slow: float = 0.0, ahead: float = 0.0, delay: float = 0.1, **columns: Any
    ) -> dict[str, Any]:
        """A trade of the true second `at` after noon; the venue's clock is `ahead` and ours `slow` by seconds."""
        event = NOON_US + round((at + ahead) * SECOND)
        ingest = NOON_US + round((at + delay - slow) * SECOND)
        return self.has(event, ingest, ingest, **columns)

    def has(self, event: int, ingest: int, kafka: int, source: str = "live", venue: str = "binance") -> dict[str, Any]:
        self.offset += 1
        place = {"kafka_topic": "crypto.trades", "kafka_partition": 0, "kafka_offset": self.offset}
        place["ts_kafka"] = utc(kafka)
        if max(event, ingest) - kafka <= self.settings.future_tolerance_seconds * SECOND:
            self.trades.append(
                trade_row(self.offset, event, ts_ingest=utc(ingest), source=source, venue=venue, **place)
            )
            return self.trades[-1]
        value = {"venue": venue, "ts_event": event, "ts_ingest": ingest, "source": source}
        self.refused.append(
            {
                "rule": "event_in_the_future",
                "detail": "of that day",
                "key": b"BTC/USDT",
                "value_raw": json.dumps(value).encode(),
                "ingest_date": utc(kafka).date(),
                **place,
            }
        )
        return self.refused[-1]

    def write(self) -> None:
        append_rows(self.settings, SILVER_TRADES, self.trades)
        append_rows(self.settings, SILVER_QUARANTINE, self.refused)

    def explained(self) -> list[bool]:
        """Of each row in quarantine, whether replay takes it for the work of a slow clock."""
        self.write()
        rows = pa.Table.from_pylist(self.refused, arrow_schema(SILVER_QUARANTINE))
        return [bool(one) for one in Clocks(self.settings).explain(rows)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(empty_lake(tmp_path))


def check(settings: Settings, look: Look = Look.LATELY) -> CheckResult:
    found = next(one for one in CHECKS if one.name == "clock_agrees")
    assert not found.blocking
    return found.evaluate(settings, look)


# ------------------------------------------------------------------------------------------------ the check


@pytest.mark.parametrize("look", Look)
def test_a_slow_host_is_found_though_every_trade_is_in_quarantine(host: Host, look: Look) -> None:
    for second in range(20):
        host.gets(second, slow=61.2)
        host.gets(second, slow=61.2, venue="kraken", delay=0.15)
    host.write()
    assert not host.trades
    result = check(host.settings, look)
    assert not result.passed
    assert result.detail == (
        "trades of binance and kraken are received 61 s before their own time: this machine's clock is about 61 s "
        "slow; set it by NTP."
    )
    assert result.figures == {
        "trades": 40,
        "venues": 2,
        "offset_seconds_binance": -61.1,
        "offset_seconds_kraken": -61.05,
    }


def test_a_slow_host_within_the_tolerance_is_found_too(host: Host) -> None:
    for second in range(20):
        host.gets(second, slow=20)
    host.write()
    assert not host.refused
    assert "about 20 s slow" in check(host.settings).detail


def test_a_fast_host(host: Host) -> None:
    for second in range(20):
        host.gets(second, slow=-90)
        host.gets(second, slow=-90, venue="coinbase")
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert "this machine's clock is about 90 s fast" in result.detail


@pytest.mark.parametrize("venues", [("binance", "kraken"), ("binance", "kraken", "coinbase")])
@pytest.mark.parametrize("days", [1.1, 2, 9])
def test_a_host_that_is_fast_by_days(host: Host, venues: tuple[str, ...], days: float) -> None:
    for second in range(100):
        for venue in venues:
            host.gets(second, slow=-days * 86_400, venue=venue)
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert f"this machine's clock is about {days * 86_400:.0f} s fast; set it by NTP." in result.detail
    assert result.figures["venues"] == len(venues)
    played = host.settings.model_copy(update={"simulator_url": "http://127.0.0.1:1"})
    assert check(played).passed


def test_a_recording_is_named_as_what_it_may_be(host: Host) -> None:
    for second in range(200):
        now = NOON_US + second * SECOND
        host.has(now - 2 * 86_400 * SECOND, now, now)
        host.has(now - 9 * 86_400 * SECOND, now, now, venue="kraken")
    host.write()
    result = check(host.settings)
    assert result.passed
    note = "(a recording that is played, or this machine's clock: no other venue is as late)"
    assert result.detail == (
        "From event to receipt of 400 live trades of the last minutes, median: "
        f"binance 172800.0 s {note}, kraken 777600.0 s {note}."
    )
    assert result.figures == {"trades": 400, "venues": 0}


def test_one_venue_alone_wrong_by_five_minutes(host: Host) -> None:
    for second in range(20):
        host.gets(second, ahead=300)
        host.gets(second, venue="kraken")
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert result.detail.endswith("the clock of binance is about 300 s fast, and this machine's clock is right.")


def test_a_clock_that_was_corrected_passes_again(host: Host) -> None:
    for second in range(100):
        host.gets(second, slow=61)
    for second in range(100, 900):
        host.gets(second)
    host.write()
    assert check(host.settings).passed


def test_a_clock_that_was_set_back_is_found_at_once(host: Host) -> None:
    """What was received before it was set back has times that, by the clock of now, are yet to come."""
    now = (dt.datetime.now(dt.UTC) - utc(NOON_US)).total_seconds()
    for number in range(600):
        host.gets(now + number)
    for number in range(50):
        host.gets(now + 600 + number, slow=600 + 60)
    host.write()
    assert "this machine's clock is about 660 s slow" in check(host.settings).detail


def test_what_says_nothing_of_the_clock(host: Host) -> None:
    for second in range(20):
        host.gets(second)
        host.gets(second - 3_000, source="snapshot", delay=3_000)
        host.gets(second - 3_000, source="repair", delay=3_000)
        host.has(NOON_US, NOON_US - 61 * SECOND, NOON_US + 100 * SECOND)  # replayed after a fix
    host.gets(20, ahead=300)
    host.write()
    result = check(host.settings)
    assert result.passed
    assert result.detail == "From event to receipt of 21 live trades of the last minutes, median: binance 0.1 s."


def test_too_few_trades(host: Host) -> None:
    host.gets(0, slow=61)
    host.write()
    assert check(host.settings).passed
    assert "too few for a word" in check(host.settings).detail


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
    gap = {"venue": "binance", "symbol": "BTC/USDT", "first_id": 5, "last_id": 9, "state": "open"}
    columns = dict.fromkeys(SILVER_CONTINUITY.column_names) | gap
    columns |= {"repaired": 0, "trades_version": 0}
    columns["since"] = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    append_rows(host.settings, SILVER_CONTINUITY, [columns])
    assert bool(open_gaps(host.settings, 120)) is is_old
