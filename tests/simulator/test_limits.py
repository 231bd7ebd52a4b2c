"""The venues' limits of REST calls: windows, buckets, bans and the published figures."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lakehouse.errors import SettingError
from lakehouse.simulator.limits import FORGIVEN_CALLS, Bucket, Gate, Limit, Limits, Window
from lakehouse.simulator.venues.registry import VENUES as VENUE_TABLE
from tests.support.rest_calls import ask, ids, traded
from tests.support.simulator_support import (
    SYMBOL,
    Pool,
)


def test_a_window_and_a_bucket() -> None:
    window = Window(Limit(100, 60.0))
    assert [window.take(25, float(second)) for second in range(4)] == [0.0] * 4
    assert window.take(25, 10.0) == 50.0  # the first of them leaves at 60
    assert window.take(50, 10.0) == 51.0
    assert window.take(25, 60.0) == 0.0
    assert window.take(25, 60.5) == 0.5
    assert window.peak == 1.0
    bucket = Bucket(Limit(3, 3.0, sliding=False))
    assert [bucket.take(1, 0.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(1, 0.5) == 0.5
    assert bucket.take(1, 1.0) == 0.0
    steady = Bucket(Limit(3, 3.0, sliding=False))
    assert all(steady.take(1, 100 + second) == 0.0 for second in range(100))
    assert steady.peak == pytest.approx(1 / 3)


def test_going_on_within_the_penalty_is_banned() -> None:
    gate = Gate(Limit(1, 10.0, ban=120.0))
    assert gate.take(1, 0.0) == (0.0, False)
    assert [gate.take(1, 1.0) for _ in range(FORGIVEN_CALLS + 1)] == [(9.0, False)] * (FORGIVEN_CALLS + 1)
    assert gate.take(1, 2.0) == (120.0, True)
    assert gate.take(1, 62.0) == (60.0, True)  # also when the budget would have room
    assert gate.take(1, 122.0) == (0.0, False)
    assert (gate.calls, gate.limited, gate.banned, gate.weight) == (15, 12, 1, 2)


@pytest.mark.parametrize(("venue", "admitted"), [("binance", 240), ("kraken", 3), ("coinbase", 15)])
def test_the_limits_of_the_venues(tmp_path: Path, venue: str, admitted: int) -> None:
    # A tenth for Binance, so that the test is short; the figures themselves are looked at below.
    defaults = Limits()
    limits = defaults.times(0.1) if venue == "binance" else defaults
    with Pool(tmp_path, limits=limits) as own, traded(own, venue, 1) as server:
        calls, reply = 0, ask(server, venue, "&limit=1")
        while reply.status_code == 200 and "Rate limit" not in reply.text:
            calls += 1
            assert calls <= 3 * admitted
            reply = ask(server, venue, "&limit=1")
        status = server.status()["rest"][venue]
        assert status["limited"] == 1
        assert status["banned"] == 0
        assert status["peak_share"] == pytest.approx(1.0, abs=0.3)
        if venue == "binance":
            assert calls == admitted / 10
            assert reply.status_code == 429
            assert 50 <= int(reply.headers["retry-after"]) <= 60
            assert status["weight"] == 600
            for _ in range(FORGIVEN_CALLS):
                assert ask(server, venue).status_code == 429
            reply = ask(server, venue)
            assert (reply.status_code, reply.headers["retry-after"]) == (418, "120")
            assert ask(server, venue).status_code == 418
            assert server.status()["rest"][venue]["banned"] == 1
        elif venue == "kraken":
            assert reply.json() == {"error": ["EAPI:Rate limit exceeded"]}
        else:
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert calls >= admitted / (10 if venue == "binance" else 1)
        # The market's pace is nobody's budget.
        count = server.record.count(venue, SYMBOL)
        time.sleep(0.2)
        assert server.record.count(venue, SYMBOL) > count
        if venue != "binance":
            limit = VENUE_TABLE[venue].profile.limits.rest
            assert limit
            time.sleep(limit.seconds / limit.amount)
            assert ids(venue, ask(server, venue))


def test_the_published_figures() -> None:
    own = {venue: one.profile.limits for venue, one in VENUE_TABLE.items()}
    rest = {venue: one.rest for venue, one in own.items() if one.rest}
    assert {venue: (one.amount, one.seconds) for venue, one in rest.items()} == {
        "binance": (6000, 60.0),
        "kraken": (3, 3.0),
        "coinbase": (15, 1.5),
    }
    attempts = {venue: one.attempts for venue, one in own.items() if one.attempts}
    assert {venue: (one.amount, one.seconds) for venue, one in attempts.items()} == {
        "binance": (300, 300.0),
        "kraken": (150, 600.0),
    }
    limits = Limits()
    assert limits.in_force(rest, limits.rest) == rest
    assert limits.times(2).in_force(rest, None)["binance"].amount == 12_000
    assert limits.times(0).in_force(rest, None) == {}
    assert limits.in_force(rest, {"kraken": Limit(1, 1.0)}) == {"kraken": Limit(1, 1.0)}
    with pytest.raises(SettingError, match="limits times -1; expected 0"):
        limits.times(-1)
