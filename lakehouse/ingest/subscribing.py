"""Decide which symbols a connection requests in which message, and when it requests them again. No I/O, no clock.

Guarantee: a symbol is requested again, with growing pauses and on every new connection, until the venue acknowledges it
or says that there is no such symbol. A refused symbol does not keep the others from being subscribed: if a refusal
names no symbol, the symbols of the request are requested again in halves, until each refused symbol is alone.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec

from lakehouse.exchanges.model import Refused, Subscribed
from lakehouse.ingest.backoff import delays
from lakehouse.ingest.subscriptions import Subscriptions

#: Seconds to wait for the venue's answer: far more than a round trip. Coinbase closes a connection without a
#: subscription after 5 s.
ANSWER_SECONDS = 2.0
#: Seconds to wait for the other symbols' replies after one of them was refused: they are on their way already.
OTHERS_SECONDS = 0.5
#: Seconds of the first pause before a symbol is asked for again, and of the longest: a message a minute is harmless.
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 60.0
#: Seconds from the connection on after which a symbol that is not subscribed is reported as such; a refusal that passes
#: at once, or one of others that were asked for together, is over by then.
TELL_SECONDS = 2.0
#: A request that fails in words about the venue or our rate is repeated whole this many times before it is halved.
PATIENT_TRIES = 3

#: Words of a refusal that is not about a symbol; to ask one by one would only make more requests.
_is_about_the_venue = re.compile(
    r"rate|limit|too many|throttl|unavailable|busy|overload|maintenance|internal|time[d-]? ?out|no answer", re.I
).search


@dataclass(slots=True)
class _Group:
    """Symbols that are asked for together, from `due` on. Times are monotonic seconds."""

    symbols: tuple[str, ...]
    due: float
    pauses: Iterator[float]
    is_apart: bool = False  #: it has failed before
    tries: int = 0  #: in a row that brought nothing


@dataclass(slots=True)
class Ask:
    """One subscribe request of a connection: its number, its symbols, and the replies to it so far.

    Times are monotonic seconds.
    """

    number: int
    symbols: tuple[str, ...]
    group: _Group
    until: float  #: symbols that are not answered by then are asked for again
    named: set[str] = field(default_factory=set)  #: symbols refused by name, to be asked for again
    words: str = ""  #: the text of a refusal that names no symbol
    nameless: int = 0  #: replies that name no symbol; each is about one of the symbols or about all
    is_over: bool = False  #: no more replies will come


class Subscriber:
    """Subscribes one connection to the wanted symbols: decides each next request and takes the venue's replies.

    Only one request is open at a time, so that a reply without a name is known to answer it. Belongs to the socket's
    thread; any thread may read the public attributes.
    """

    def __init__(self, shared: Subscriptions, now: float, rng: random.Random, most: int, pause: float = 0.0) -> None:
        """Put at most `most` symbols into a request, with at least `pause` seconds between two requests."""
        self.since: dict[str, float] = {}  #: symbol → when it was acknowledged, in monotonic seconds
        self.waiting: frozenset[str] = frozenset(shared.wanted)  #: wanted symbols that are not acknowledged
        self.words: dict[str, str] = {}  #: waiting symbol → why the last request for it failed
        self._shared = shared
        self._rng = rng
        self._pause = pause
        self._tell_at = now + TELL_SECONDS
        self._free_at = now
        self._current: Ask | None = None
        self._numbers: dict[int, tuple[str, ...]] = {}
        apart = [tuple(symbol for symbol in group if symbol in self.waiting) for group in shared.apart]
        alone = {symbol for group in apart for symbol in group}
        others = [symbol for symbol in shared.wanted if symbol not in alone]
        # Those that gave no trouble come first: Coinbase cuts who has no subscription at all.
        parts = [tuple(others[first : first + most]) for first in range(0, len(others), most)]
        self._queue = deque(self._group(part, now) for part in parts)
        self._queue += (self._group(part, now, is_apart=True) for part in apart if part)
        self._taken: set[str] = set()  # subscribed once on this connection
        self._may_be_late = False  # a request of this connection was not answered in time: its reply may come any time

    @property
    def settled(self) -> bool:
        """True if every symbol was acknowledged on this connection, or a request for it was refused or not answered."""
        return self.waiting <= self.words.keys()

    # Replies.

    def acknowledged(self, reply: Subscribed, now: float) -> list[str]:
        """Take the venue's acknowledgement; return the symbols that are now subscribed and were not before.

        Empty if the reply is about one symbol, and it may be any of several: they are then requested one by one. `now`
        is in monotonic seconds.
        """
        if reply.symbols:
            return self._subscribed([symbol for symbol in reply.symbols if symbol in self.waiting], now, is_listed=True)
        asked = self._numbers.get(reply.request or 0, self._current.symbols if self._current else tuple(self.waiting))
        waiting = [symbol for symbol in asked if symbol in self.waiting]
        if reply.is_one and len(waiting) > 1:  # nobody knows which: to be asked one by one
            if self._current is not None:
                self._current.nameless += 1
                self._current.words = "a reply names no symbol"
                self._current.until = min(self._current.until, now + OTHERS_SECONDS)
            return []
        return self._subscribed(waiting, now, is_listed=reply.is_one)

    def brought(self, symbols: Collection[str], now: float) -> list[str]:
        """Take note that trades of these symbols came, which proves their subscription even without a reply.

        Returns the symbols that did not count as subscribed before.
        """
        if not self.waiting:
            return []
        fresh = self.waiting - self._taken
        return self._subscribed([one for one in symbols if one in fresh], now, is_listed=True)

    def refused(self, reply: Refused, now: float) -> tuple[bool, str | None]:
        """Take a refusal of the venue.

        Returns (True if it is about a request or subscription of this connection, the symbol refused for good or None).
        """
        ask, symbol = self._current, reply.symbol if reply.symbol in self._shared.symbols else None
        if ask is not None and reply.request not in (None, ask.number):
            ask = None  # a late answer to an earlier one
        if ask is not None and symbol is None and len(ask.symbols) == 1:
            symbol = ask.symbols[0]
            if reply.symbol is not None or (reply.request is None and self._may_be_late):
                # Nothing proves that it is about this symbol: it is asked for again.
                reply = msgspec.structs.replace(reply, is_final=False)
        if ask is not None and (symbol is None or symbol in ask.symbols):
            ask.is_over |= reply.is_whole
            ask.until = min(ask.until, now + OTHERS_SECONDS)
            if symbol is None:
                ask.nameless += 1
                ask.words = reply.message
                return True, None
        if symbol is None or symbol not in self._shared.wanted:
            return False, None
        return self._named(reply, symbol, now)

    def _named(self, reply: Refused, symbol: str, now: float) -> tuple[bool, str | None]:
        if reply.is_final and symbol not in self._shared.listed:
            self._shared.refuse(symbol, reply.message)
            self.waiting -= {symbol}
            return True, symbol
        if symbol in self.waiting:
            self.words[symbol] = reply.message
            if self._current is not None and symbol in self._current.symbols:
                self._current.named.add(symbol)
            return True, None
        if not reply.is_final:
            return False, None  # it is subscribed: a late answer to an earlier request
        # It was there, and the venue has it no more: a halt may pass, so it is asked for again.
        self.since = {key: at for key, at in self.since.items() if key != symbol}
        self.waiting |= {symbol}
        self.words[symbol] = reply.message
        self._again((symbol,), now)
        return True, None

    # The next request.

    def step(self, now: float) -> Ask | None:
        """Return the request to send now; None if none is due, or if the open one still waits for replies.

        `now` is in monotonic seconds.
        """
        if not self.waiting:
            self._current = None
            return None
        self.waiting = self.waiting.intersection(self._shared.wanted)  # REST may have refused one meanwhile
        ask = self._current
        if ask is not None:
            unanswered = self.waiting.intersection(ask.symbols) - ask.named
            if unanswered and now < ask.until and not ask.is_over:
                return None
            self._current = None
            self._close(ask, now)
        while self._queue and now >= self._free_at:
            group = min(self._queue, key=lambda one: one.due)
            if group.due > now:
                break
            self._queue.remove(group)
            symbols = tuple(symbol for symbol in group.symbols if symbol in self.waiting)
            if symbols:
                number = len(self._numbers) + 1
                self._numbers[number] = symbols
                self._free_at = now + self._pause
                self._current = Ask(number, symbols, group, now + ANSWER_SECONDS)
                return self._current
        return None

    def untold(self, now: float, is_over: bool = False) -> list[tuple[str, str]]:
        """Return (symbol, why) for each symbol whose request has failed and that is still not subscribed.

        Returns none before TELL_SECONDS have passed since the connection began, unless the connection `is_over`. Each
        symbol is returned once, until it has been subscribed again.
        """
        if not self.words or not self.waiting or (now < self._tell_at and not is_over):
            return []
        missed = [(symbol, self.words[symbol]) for symbol in sorted(self.waiting) if symbol in self.words]
        return [(symbol, words) for symbol, words in missed if self._shared.miss(symbol, words)]

    # How a request ended.

    def _subscribed(self, symbols: list[str], now: float, is_listed: bool) -> list[str]:
        for symbol in symbols:
            self._shared.take(symbol, is_listed)
            self.words.pop(symbol, None)
        self.waiting = self.waiting.difference(symbols)
        self.since = self.since | dict.fromkeys(symbols, now)
        self._taken.update(symbols)
        if self._shared.apart:
            self._remember()
        return sorted(symbols)

    def _close(self, ask: Ask, now: float) -> None:
        """Put the symbols that were not subscribed back into the queue."""
        rest = tuple(symbol for symbol in ask.symbols if symbol in self.waiting and symbol not in ask.named)
        self._may_be_late |= not ask.is_over and len(rest) > ask.nameless
        for symbol in ask.named & self.waiting:
            self._again((symbol,), now, ask.group if len(ask.symbols) == 1 else None)
        if not rest:
            return
        has_progress = len(rest) < len(ask.symbols)
        words = ask.words or f"no answer within {ANSWER_SECONDS:g} s"
        if has_progress and not ask.words:
            # Only those that were named are in the way of these: Coinbase refuses all for one.
            self._queue.append(self._group(rest, now))
            return
        self.words |= dict.fromkeys(rest, words)
        group = ask.group if not has_progress else self._group(rest, now)
        group.symbols, group.tries = rest, group.tries + 1
        is_patient = _is_about_the_venue(words) and group.tries < PATIENT_TRIES
        if len(rest) > 1 and not has_progress and not is_patient:
            middle = len(rest) // 2
            for half in (rest[:middle], rest[middle:]):
                self._again(half, now)
        else:
            self._again(rest, now, group)
            if _is_about_the_venue(words):
                self._free_at = max(self._free_at, group.due)  # for the other groups, too

    def _again(self, symbols: tuple[str, ...], now: float, group: _Group | None = None) -> None:
        """Ask for symbols later: after the next of a group's growing pauses, or the first of a new one."""
        group = group or self._group(symbols, now)
        group.due, group.is_apart = now + next(group.pauses), True
        self._queue.append(group)
        self._remember()

    def _group(self, symbols: tuple[str, ...], due: float, is_apart: bool = False) -> _Group:
        return _Group(symbols, due, delays(self._rng, FIRST_SECONDS, LONGEST_SECONDS), is_apart)

    def _remember(self) -> None:
        """Remember for the next connection which symbols gave trouble, so that it asks for them apart."""
        current = [self._current.group] if self._current is not None else []
        groups = (group.symbols for group in [*current, *self._queue] if group.is_apart)
        apart = (tuple(symbol for symbol in group if symbol in self.waiting) for group in groups)
        self._shared.apart = tuple(group for group in apart if group)
