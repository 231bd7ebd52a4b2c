"""Which symbol is looked at when, and what its looks prove; with a clock of its own."""

from __future__ import annotations

from lakehouse.ingest.id_tracker import Gap, IdTracker
from lakehouse.ingest.silence_probe import AGAIN_SECONDS, FRESH_SECONDS, QUIET_SECONDS, QuietSymbols


class Symbol:
    """One symbol with its ids, as the repair's thread drives it."""

    def __init__(self, mark: int | None = None, subscribed: float | None = 0.0) -> None:
        self.quiet, self.tracker = QuietSymbols(), IdTracker()
        if mark is not None:
            self.tracker.resume_at(mark)
        self.received, self.subscribed = 0, subscribed
        self.lost = 0

    def sample(self, now: float) -> None:
        self.quiet.sample("BTC/USDT", self.received, self.subscribed, now)

    def trade(self, trade_id: int, now: float) -> None:
        self.received += 1
        self.tracker.observe(trade_id)
        self.sample(now)

    def look(self, newest: int | None, now: float) -> bool:
        """True where the subscription is found silent."""
        self.sample(now)
        assert self.quiet.due(now) is not None, "a look that is not due"
        mark = self.tracker.mark
        gap = None if newest is None else self.tracker.look(newest)
        self.lost += len(gap) if gap else 0
        return self.quiet.looked("BTC/USDT", newest, mark, gap is not None, now)

    def next(self, now: float) -> float:
        """Seconds until it is due."""
        self.sample(now)
        waited = 0.0
        while self.quiet.due(now + waited) is None:
            waited += 0.5
        return waited


def test_a_symbol_is_looked_at_soon_after_a_connection_and_then_when_it_is_quiet() -> None:
    symbol = Symbol(mark=10)
    assert symbol.next(0.0) == FRESH_SECONDS
    assert not symbol.look(10, 5.0)
    assert symbol.next(5.0) == QUIET_SECONDS
    symbol.trade(11, 20.0)
    assert symbol.next(20.0) == QUIET_SECONDS
    symbol.subscribed = 21.0  # a new connection
    assert symbol.next(21.0) == FRESH_SECONDS
    symbol.trade(12, 22.0)  # which delivers
    assert symbol.next(22.0) == QUIET_SECONDS


def test_a_lost_tail_is_certain_at_the_second_look_and_no_reason_to_reconnect() -> None:
    symbol = Symbol(mark=10)
    assert not symbol.look(12, 5.0)
    assert symbol.lost == 0
    assert symbol.next(5.0) == AGAIN_SECONDS
    assert not symbol.look(12, 10.0)
    assert symbol.lost == 2
    assert symbol.next(10.0) == QUIET_SECONDS


def test_a_trade_between_two_looks_clears_the_subscription() -> None:
    symbol = Symbol(mark=10)
    assert not symbol.look(12, 5.0)
    symbol.trade(13, 8.0)
    assert not symbol.look(14, 40.0)
    assert not symbol.look(14, 46.0)
    assert symbol.lost == 1


def test_ids_that_move_on_while_nothing_comes_prove_a_silent_subscription() -> None:
    symbol = Symbol(mark=10)
    assert not symbol.look(12, 5.0)
    assert symbol.look(15, 10.0)
    assert symbol.lost == 2
    # The verdict starts anew: the next one needs evidence of its own.
    assert not symbol.look(16, 60.0)


def test_heartbeats_that_show_the_losses_first_do_not_hide_a_silent_subscription() -> None:
    """Coinbase's name the newest id every second, so REST is never ahead of the mark."""
    symbol = Symbol(mark=10)
    symbol.sample(0.0)
    for newest in (12, 12):
        symbol.tracker.heartbeat(newest)
    assert symbol.tracker.mark == 12
    assert not symbol.look(12, 5.0)
    for newest in (20, 20):
        symbol.tracker.heartbeat(newest)
    assert symbol.look(20, 5.0 + QUIET_SECONDS)
    assert symbol.lost == 0  # told by the heartbeats


def test_one_trade_a_minute_is_enough_to_prove_it() -> None:
    symbol = Symbol(mark=10)
    assert not symbol.look(11, 5.0)
    assert not symbol.look(11, 10.0)
    assert not symbol.look(12, 40.0)
    assert symbol.look(12, 45.0)
    assert symbol.lost == 2


def test_a_subscription_that_began_between_the_looks_is_not_silent() -> None:
    symbol = Symbol(mark=10)
    assert not symbol.look(12, 5.0)
    symbol.subscribed = 9.0
    assert not symbol.look(15, 14.0)
    assert symbol.lost == 2  # but what REST had shown before it is lost
    unsubscribed = Symbol(mark=10, subscribed=None)
    unsubscribed.sample(0.0)
    assert not unsubscribed.look(12, 30.0)
    assert not unsubscribed.look(15, 35.0)


def test_a_symbol_without_a_mark_begins_at_the_first_look_and_can_be_silent() -> None:
    symbol = Symbol()
    assert not symbol.look(100, 5.0)
    assert not symbol.look(105, 35.0)
    assert symbol.next(35.0) == AGAIN_SECONDS
    assert symbol.look(107, 40.0)
    assert symbol.lost == 5
    assert symbol.tracker.mark == 105
    assert [(gap.first_id, gap.last_id) for gap in symbol.tracker.missing()] == [(101, 105)]
    halted = Symbol()
    assert not any(halted.look(100, 5.0 + number * QUIET_SECONDS) for number in range(5))
    assert not halted.look(None, 155.0)
    assert halted.tracker.mark is None
    assert halted.lost == 0


def test_a_symbol_that_was_never_subscribed_is_looked_at_soon_and_its_trades_since_are_a_gap() -> None:
    symbol = Symbol(subscribed=None)
    assert symbol.next(0.0) == FRESH_SECONDS
    assert not symbol.look(100, 5.0)
    # Refused for a while; then the subscription comes, and its first trade is far above.
    symbol.subscribed = 20.0
    assert symbol.tracker.observe(131).gap == Gap(101, 130)
    fresh, below = Symbol(subscribed=None), Symbol()
    fresh.sample(0.0)
    assert not fresh.look(100, 5.0)
    assert fresh.tracker.observe(60).gap is None  # a snapshot reaches further back than the look
    assert [fresh.tracker.observe(trade_id).gap for trade_id in range(61, 103)] == [None] * 42
    assert fresh.tracker.missing() == ()
    below.sample(0.0)
    assert not below.look(100, 5.0)
    assert below.tracker.observe(101).gap is None
    assert below.tracker.observe(99).gap == Gap(100, 100)


def test_many_symbols_share_the_looks_fairly_and_the_suspects_come_first() -> None:
    quiet = QuietSymbols()
    symbols = [f"A{number}/USDT" for number in range(50)]
    for symbol in symbols:
        quiet.sample(symbol, 0, 0.0, 0.0)
    looked: list[str] = []
    now = 100.0
    for _ in range(100):
        due = quiet.due(now)
        assert due is not None
        looked.append(due[0])
        quiet.looked(due[0], 10, 10, False, now)
        now += 1.0  # so much that all are due again and again
    assert sorted(looked[:50]) == sorted(symbols)
    assert looked[50:] == looked[:50]
    quiet.looked("A7/USDT", 12, 10, False, now)
    now += AGAIN_SECONDS
    due = quiet.due(now)
    assert due is not None
    assert due[0] == "A7/USDT"
    quiet.failed("A7/USDT", now + 30)
    due = quiet.due(now)
    assert due is not None
    assert due[0] != "A7/USDT"
