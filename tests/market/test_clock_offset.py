"""This machine's clock beside those of the venues: the words for it, and when ingest says them."""

from __future__ import annotations

import pytest

from lakehouse.ingest.clock_skew import WINDOW_SECONDS, Clocks
from lakehouse.market.clock_offset import FEWEST, Offset, cause, offset_of

SECOND = 1_000_000


class Time:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def a_window(clocks: Clocks, time: Time, venue: str, *delays: float, count: int = 20) -> list[str]:
    """Return the lines of a window in which trades come with these delays in seconds, by turns."""
    said = []
    time.now += WINDOW_SECONDS / 2
    for number in range(count):
        said.append(clocks.of(venue).saw(round(delays[number % len(delays)] * SECOND)))
    time.now += WINDOW_SECONDS / 2
    said.append(clocks.of(venue).saw(round(delays[0] * SECOND)))
    return [words for words in said if words]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clocks(time: Time) -> Clocks:
    made = Clocks(time)
    for venue in ("binance", "kraken", "coinbase"):
        made.of(venue)
    return made


def test_a_slow_clock_is_told_once_and_its_end(clocks: Clocks, time: Time) -> None:
    assert a_window(clocks, time, "binance", -60.9, -60.4, -59.0) == [
        "trades of binance are received 60 s before their own time: this machine's clock is about 60 s slow; "
        "set it by NTP"
    ]
    assert clocks.of("binance").ahead == 60.4 * SECOND
    assert a_window(clocks, time, "binance", -61.2, -60.4, -58.0) == []
    assert a_window(clocks, time, "kraken", -60.9) == [
        "trades of kraken and binance are received 61 s before their own time: this machine's clock is about 61 s "
        "slow; set it by NTP"
    ]
    assert a_window(clocks, time, "binance", 0.1) == ["the times of binance and this machine's clock agree again"]
    assert clocks.of("binance").ahead == 0
    assert a_window(clocks, time, "binance", 0.1) == []


def test_a_fast_clock_is_told_apart_from_a_feed_that_lags(clocks: Clocks, time: Time) -> None:
    """One's own input: a clock that is fast by 90 s."""
    assert a_window(clocks, time, "binance", 90.1) == [
        "trades of binance are received 90 s after their own time: this machine's clock is about 90 s fast "
        "(set it by NTP), or the feed of binance lags"
    ]
    alike = "are received 90 s after their own time: this machine's clock is about 90 s fast; set it by NTP"
    assert a_window(clocks, time, "kraken", 90.3) == [f"trades of kraken and binance {alike}"]
    assert a_window(clocks, time, "binance", 90.1) == [f"trades of binance and kraken {alike}"]  # more is known
    assert clocks.of("binance").ahead == 0


@pytest.mark.parametrize("delay", [90_000.0, 2 * 86_400.0, 30 * 86_400.0])
def test_a_clock_that_is_fast_by_more_than_a_day_is_told_as_soon_as_two_venues_agree(
    clocks: Clocks, time: Time, delay: float
) -> None:
    assert a_window(clocks, time, "binance", delay) == []
    assert clocks.offsets() == {}
    words = f"are received {delay:.0f} s after their own time: this machine's clock is about {delay:.0f} s fast; set "
    words += "it by NTP"
    assert a_window(clocks, time, "kraken", delay) == [f"trades of kraken and binance {words}"]
    assert a_window(clocks, time, "coinbase", delay) == [f"trades of coinbase, binance and kraken {words}"]
    said = [words for _ in range(3) for words in a_window(clocks, time, "kraken", 0.1)]
    assert said == ["the times of kraken and this machine's clock agree again"]


def test_recordings_are_no_clock(clocks: Clocks, time: Time) -> None:
    for venue, days in (("binance", 2), ("kraken", 3), ("coinbase", 700)):
        assert a_window(clocks, time, venue, days * 86_400.0) == []
    assert clocks.offsets() == {}
    clocks.is_simulated = True
    for venue in ("binance", "kraken", "coinbase"):  # of one time, played together
        assert a_window(clocks, time, venue, 2 * 86_400.0) == []
    assert clocks.offsets() == {}
    assert len([words for _ in range(3) for words in a_window(clocks, time, "binance", -61.0)]) == 1


def test_a_clock_that_is_set_in_the_middle(clocks: Clocks, time: Time) -> None:
    assert len(a_window(clocks, time, "binance", -61.0)) == 1
    assert a_window(clocks, time, "binance", -61.0, 0.1) == [
        "the times of binance and this machine's clock agree again"
    ]
    assert a_window(clocks, time, "binance", 0.1) == []
    (words,) = a_window(clocks, time, "binance", -600.0)  # set wrong by hand
    assert "about 600 s slow" in words
    (words,) = a_window(clocks, time, "binance", -3600.0)
    assert "about 3600 s slow" in words


def test_one_venue_alone_has_a_wrong_clock(clocks: Clocks, time: Time) -> None:
    assert a_window(clocks, time, "kraken", 0.1) == []
    assert a_window(clocks, time, "coinbase", 0.2) == []
    assert a_window(clocks, time, "binance", -300.0) == [
        "trades of binance are received 300 s before their own time, those of coinbase and kraken are not: the clock "
        "of binance is about 300 s fast, and this machine's clock is right"
    ]
    assert a_window(clocks, time, "kraken", 45.0) == [
        "trades of kraken are received 45 s after their own time, those of coinbase are not: the feed of kraken lags, "
        "and this machine's clock is right"
    ]


def test_a_venue_that_has_fallen_silent_says_nothing_of_now(clocks: Clocks, time: Time) -> None:
    assert a_window(clocks, time, "kraken", 0.1) == []
    time.now += 3_600
    (words,) = a_window(clocks, time, "binance", -61.0)
    assert "this machine's clock is about 61 s slow" in words


@pytest.mark.parametrize(
    "delays",
    [
        [0.1] * 19 + [-300.0],  # one bad time of the venue's
        [0.1] * 15 + [-4e9] * 5,  # a frame of 2099
        [0.1] * 15 + [86_400.0] * 5,  # what came late
        [-4.9, 4.9],  # within the bounds
        [29.0],
        [-61.0, 0.2],  # half and half
        [90_000.0],  # a recording of yesterday
    ],
)
def test_what_says_nothing_of_our_clock(clocks: Clocks, time: Time, delays: list[float]) -> None:
    assert a_window(clocks, time, "binance", *delays) == []


def test_too_few_trades_wait_for_more(clocks: Clocks, time: Time) -> None:
    assert offset_of([-61 * SECOND] * (FEWEST - 1)) is None
    for _ in range(2):
        assert a_window(clocks, time, "binance", -61.0, count=3) == []
    (words,) = a_window(clocks, time, "binance", -61.0, count=3)
    assert "61 s slow" in words


def test_two_sockets_of_a_venue_tell_it_once(time: Time) -> None:
    """The feed of many symbols has several sockets; each hands its trades to the same clock."""
    clocks = Clocks(time)
    assert clocks.of("kraken") is clocks.of("kraken")


def test_a_growing_lag_is_not_told_with_each_window(clocks: Clocks, time: Time) -> None:
    said = [a_window(clocks, time, "binance", float(delay)) for delay in range(40, 200, 4)]
    assert 2 <= sum(map(len, said)) <= 12


def test_different_lags_of_two_venues_are_no_clock() -> None:
    offsets = {"binance": Offset(40.0, True), "kraken": Offset(95.0, True)}
    assert cause("binance", offsets).endswith("(set it by NTP), or the feed of binance lags")
