"""Decide which rows of gold/moves are alerts. Pure: rows, earlier alerts and the time in, alerts out.

A move is identified by its key (venue, symbol, minute), so a row that a late trade or a rebuild writes again is not a
second alert.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

#: Most time from the start of a minute in which its move is still alerted.
ALERT_FOR = dt.timedelta(hours=1)
#: Time for which the keys of alerted moves are remembered: longer than moves are alerted, so that a clock that is set
#: back does not repeat alerts.
REMEMBER_FOR = 2 * ALERT_FOR

#: Venue, symbol, start of the minute.
Key = tuple[str, str, dt.datetime]


@dataclass(frozen=True)
class Move:
    """A row of gold/moves. Times are timezone-aware, in UTC."""

    venue: str
    symbol: str
    minute: dt.datetime
    direction: str
    from_price: Decimal
    to_price: Decimal
    change: Decimal
    trades: int
    updated_at: dt.datetime

    @property
    def key(self) -> Key:
        return (self.venue, self.symbol, self.minute)

    @property
    def text(self) -> str:
        """The move as one line for people."""
        return (
            f"{self.venue} {self.symbol} {self.direction} {self.change:+.2%} in {self.minute:%Y-%m-%d %H:%M} UTC: "
            f"{_plain(self.from_price)} to {_plain(self.to_price)}, {self.trades} trades"
        )

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the webhook gets for this move; `sensors.alerts` describes its fields."""
        return {
            "venue": self.venue,
            "symbol": self.symbol,
            "minute": self.minute.isoformat(),
            "direction": self.direction,
            "from_price": _plain(self.from_price),
            "to_price": _plain(self.to_price),
            "change": _plain(self.change),
            "trades": self.trades,
            "text": self.text,
        }


@dataclass(frozen=True)
class Cursor:
    """Memory of earlier alerts, which Dagster keeps from tick to tick: the keys of the moves that were logged.

    `seen` is the newest `updated_at` (UTC) of the rows that earlier ticks decided about; after a first tick, no earlier
    than that tick.
    """

    seen: dt.datetime
    logged: frozenset[Key] = field(default_factory=frozenset)
    #: Keys of the moves that were logged but not yet accepted by the webhook.
    unsent: frozenset[Key] = field(default_factory=frozenset)

    def with_logged(self, move: Move, to_send: bool) -> Cursor:
        """Return the cursor after a move's line was logged; if `to_send`, the move also waits for the webhook."""
        return replace(
            self, logged=self.logged | {move.key}, unsent=self.unsent | {move.key} if to_send else self.unsent
        )

    def with_sent(self, moves: Iterable[Move]) -> Cursor:
        """Return the cursor after the webhook accepted the moves: they no longer wait."""
        return replace(self, unsent=self.unsent - {move.key for move in moves})

    def dumps(self) -> str:
        """Write the cursor as JSON, the text that Dagster keeps as the sensor's cursor."""
        keys = {name: [_key_text(key) for key in sorted(getattr(self, name))] for name in ("logged", "unsent")}
        return json.dumps({"seen": self.seen.isoformat(), **keys})

    @classmethod
    def loads(cls, text: str) -> Cursor:
        """Read what `dumps` wrote. Raises ValueError, KeyError or TypeError for any other text."""
        raw = json.loads(text)
        logged, unsent = (frozenset(map(_key, raw[name])) for name in ("logged", "unsent"))
        return cls(dt.datetime.fromisoformat(raw["seen"]), logged, unsent)


@dataclass(frozen=True)
class Decision:
    """Moves to log and moves to send to the webhook, each ordered by minute.

    `cursor` is the new memory, in which these moves are not yet marked as logged or sent.
    """

    to_log: tuple[Move, ...]
    to_send: tuple[Move, ...]
    too_old: int  #: new rows whose minutes are too old for an alert
    given_up: int  #: logged moves that the webhook did not accept in time
    cursor: Cursor


def decide_alerts(rows: Iterable[Move], cursor: Cursor | None, now: dt.datetime) -> Decision:
    """Decide which rows of gold/moves to log and to send at the time `now`, UTC.

    Moves to log began at most ALERT_FOR ago and were not logged before. Moves to send are these, and logged moves of
    the same age that the webhook has not accepted. Without a cursor, at the first look at a lake, there are none: all
    existing moves count as known.
    """
    by_key = {move.key: move for move in rows}
    moves = sorted(by_key.values(), key=lambda move: (move.minute, move.venue, move.symbol))
    seen = max((move.updated_at for move in moves), default=now)
    if cursor is None:
        recent = frozenset(move.key for move in moves if now - move.minute <= REMEMBER_FOR)
        return Decision((), (), len(moves), 0, Cursor(max(seen, now), recent))
    young = [move for move in moves if now - move.minute <= ALERT_FOR]
    to_log = tuple(move for move in young if move.key not in cursor.logged)
    to_send = tuple(move for move in young if move.key not in cursor.logged or move.key in cursor.unsent)
    old = [move for move in moves if now - move.minute > ALERT_FOR]
    too_old = sum(move.updated_at > cursor.seen and move.key not in cursor.logged for move in old)
    there = {move.key for move in young}
    # A move that late trades have undone is not sent after all.
    unsent = frozenset(key for key in cursor.unsent if key in there)
    given_up = sum(now - key[2] > ALERT_FOR for key in cursor.unsent)
    logged = frozenset(key for key in cursor.logged if now - key[2] <= REMEMBER_FOR)
    kept = Cursor(max(cursor.seen, seen) if moves else cursor.seen, logged, unsent)
    return Decision(to_log, to_send, too_old, given_up, kept)


def _plain(number: Decimal) -> str:
    """Format without exponent and trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _key_text(key: Key) -> list[str]:
    return [key[0], key[1], key[2].isoformat()]


def _key(parts: list[str]) -> Key:
    return (parts[0], parts[1], dt.datetime.fromisoformat(parts[2]))
