"""When a successor may take over; sockets that are told what they have brought."""

from __future__ import annotations

from dataclasses import dataclass, field

from lakehouse.ingest.rotation import OVERLAP_SECONDS, SUCCESSOR_SECONDS, Trial

BOTH = frozenset({"BTC/USDT", "ETH/USDT"})


@dataclass
class Wire:
    settled: bool = True
    ended: bool = False
    error: str = ""
    subscribed: frozenset[str] = BOTH
    waiting: frozenset[str] = frozenset()
    delivered: dict[str, int] = field(default_factory=dict)


def trial(old: Wire, new: Wire, marks: dict[str, int] | None = None) -> Trial:
    return Trial(old, new, (marks or {"BTC/USDT": 100, "ETH/USDT": 100}).get)


def test_it_takes_over_with_the_first_newer_trade_of_every_symbol() -> None:
    old, new = Wire(delivered={"BTC/USDT": 100, "ETH/USDT": 100}), Wire(settled=False)
    under = trial(old, new)
    assert under.verdict(0.0) is None
    new.settled = True
    assert under.verdict(1.0) is None
    new.delivered |= {"BTC/USDT": 101, "ETH/USDT": 100}  # the latter from a snapshot
    assert under.verdict(1.1) is None
    new.delivered["ETH/USDT"] = 101
    assert under.verdict(1.2) == ""


def test_a_symbol_that_is_quiet_on_both_holds_nothing_up() -> None:
    new = Wire(delivered={"BTC/USDT": 101})
    under = trial(Wire(delivered={"BTC/USDT": 105}), new)
    assert under.verdict(0.0) is None
    assert under.verdict(OVERLAP_SECONDS - 0.1) is None
    assert under.verdict(OVERLAP_SECONDS) == ""


def test_a_successor_that_brings_less_than_the_old_one_fails() -> None:
    new = Wire(delivered={"BTC/USDT": 101})
    under = trial(Wire(delivered={"BTC/USDT": 105, "ETH/USDT": 102}), new)
    assert under.verdict(0.0) is None
    assert under.verdict(OVERLAP_SECONDS) == "the successor brought no trade of ETH/USDT"


def test_a_successor_that_ends_or_is_never_subscribed_fails_and_an_old_one_that_ends_is_replaced() -> None:
    assert trial(Wire(), Wire(ended=True, error="closed by the venue")).verdict(0.0) == "closed by the venue"
    under = trial(Wire(), Wire(settled=False))
    assert under.verdict(0.0) is None
    assert "not subscribed within" in (under.verdict(SUCCESSOR_SECONDS) or "")
    assert trial(Wire(ended=True), Wire(settled=False)).verdict(0.0) == ""


def test_a_refused_symbol_is_not_waited_for() -> None:
    new = Wire(subscribed=frozenset({"BTC/USDT"}), delivered={"BTC/USDT": 101})
    assert trial(Wire(delivered={"ETH/USDT": 200}), new).verdict(0.0) == ""


def test_a_successor_that_lacks_a_symbol_of_the_old_one_is_not_taken() -> None:
    new = Wire(delivered={"BTC/USDT": 101}, subscribed=frozenset({"BTC/USDT"}), waiting=frozenset({"ETH/USDT"}))
    under = trial(Wire(delivered={"BTC/USDT": 101}), new)
    assert under.verdict(0.0) is None
    assert under.verdict(SUCCESSOR_SECONDS) == f"the successor was not subscribed within {SUCCESSOR_SECONDS:g} s"
    # Refused on both, it keeps nobody from changing.
    assert trial(Wire(subscribed=frozenset({"BTC/USDT"})), new).verdict(0.0) == ""
