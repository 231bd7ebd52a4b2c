"""Trade history over REST without IO: requests out, replies in. The caller sends and waits.

A `History` is one walk over one inclusive id range of one symbol:

    while (request := history.request()) is not None:
        page = history.take(send(request))

Guarantee: each id of the range is delivered once at most, and none outside it. At the end of a walk each id is
delivered, or `unavailable`, or above `newest_seen` (REST lags behind the socket; ask again later). Limit: if the venue
contradicts itself, a walk ends with ids that are merely `missing`; ask for them again later, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

import msgspec

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Rejected, Trade
from lakehouse.exchanges.parse_errors import Check, Fault
from lakehouse.exchanges.retry_after import retry_after
from lakehouse.id_ranges import IdRanges

#: All three venues give 1,000 trades a page at most.
PAGE_TRADES = 1000

#: HTTP statuses that say: too many requests, or banned for them (Binance's 418); 403 is a firewall's way to say it, 451
#: that the venue serves nobody at this place. Each may go away: another address, another place, another day.
_LIMITED = (403, 418, 429, 451)
#: Statuses of the 400s that may go away by themselves: request timeout, too early.
_PASSING = (408, 425)


class UnknownSymbolError(TerminalError):
    """The venue does not list the symbol. `words` are the venue's own."""

    def __init__(self, venue: str, symbol: str | None, words: str) -> None:
        self.words = words
        super().__init__(
            f"{venue} knows no symbol {symbol or 'of this name'} ({words})",
            "a symbol that it lists",
            "correct LAKEHOUSE_SYMBOLS or LAKEHOUSE_VENUES",
        )


class Request(msgspec.Struct, frozen=True):
    """One GET.

    `path` is below `Venue.rest_url(base)`, with a leading slash; `weight` counts against the venue's budget.
    """

    path: str
    params: dict[str, str]
    headers: dict[str, str]
    weight: float


class Reply(msgspec.Struct, frozen=True):
    """A reply, whatever its status. Header names are lower-case; `ts_ingest` (µs) is when it was received."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ts_ingest: int


class Page(msgspec.Struct, frozen=True):
    """The content of one reply: trades of the asked range (`source="repair"`, ids ascending) and unusable rows."""

    trades: tuple[Trade, ...] = ()
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class Budget:
    """The venue's published limit: `weight` in any `seconds`, for all requests of one IP address."""

    weight: float
    seconds: float


class History(Protocol):
    """One walk over one inclusive id range of one symbol. A value with state; not thread-safe."""

    def request(self) -> Request | None:
        """The next request; the same until `take` has accepted its reply. None if the walk has ended."""

    def take(self, reply: Reply) -> Page:
        """Take the reply to `request` and return its trades.

        Raises VenueError (with `retry_after` if the venue named it) for a limit, a failure of the venue or a reply
        that cannot be read: ask the same request again later. Raises TerminalError for what the venue will refuse
        again, such as an unknown symbol. Raises nothing else, whatever the reply is.
        """

    @property
    def missing(self) -> IdRanges:
        """Ids of the range that were not delivered so far, the unavailable ones included."""

    @property
    def unavailable(self) -> IdRanges:
        """Missing ids that the venue has shown not to have: older than its history, skipped in it, or unreadable.

        Final at the end of the walk. A later walk may find them: some venues publish skipped rows minutes later.
        """

    @property
    def newest_seen(self) -> int | None:
        """The newest id that REST has shown in this walk; None if it showed none.

        If it is below the last id of the range, REST lags behind the socket.
        """


class Row(NamedTuple):
    """A row of a page: its trade id, None if that cannot be read, and what the row says."""

    trade_id: int | None
    value: Trade | Rejected


class Walk:
    """Base of the venues' walks: keeps which ids came, which ones the venue does not have, and the newest id seen.

    Raises ValueError if the range is reversed or begins below 0.
    """

    def __init__(self, first_id: int, last_id: int) -> None:
        if not 0 <= first_id <= last_id:
            raise ValueError(f"id range {first_id}..{last_id}; expected ids from 0 on, the first not above the last")
        self._first = first_id
        self._last = last_id
        self._missing = IdRanges([(first_id, last_id)])
        self._covered = IdRanges()
        self._newest: int | None = None
        self._ended = False
        # Kraken's pages overlap, and Coinbase's first may be asked twice: a bad row is told once all the same.
        self._refused: set[str] = set()

    @property
    def missing(self) -> IdRanges:
        """Ids of the range that were not delivered so far, the unavailable ones included."""
        return IdRanges(self._missing)

    @property
    def unavailable(self) -> IdRanges:
        """Missing ids that the venue has shown not to have. Final at the end of the walk."""
        return IdRanges(part for first, last in self._covered for part in self._missing.within(first, last))

    @property
    def newest_seen(self) -> int | None:
        """The newest id that REST has shown in this walk; None if it showed none."""
        return self._newest

    def _keep(self, rows: Iterable[Row]) -> Page:
        """The rows as a page: those of the range that were not delivered yet; bad rows that no earlier page had."""
        trades: dict[int, Trade] = {}
        rejected: list[Rejected] = []
        for trade_id, value in rows:
            if trade_id is not None:
                self._saw(trade_id)
            if isinstance(value, Trade):
                if value.trade_id in self._missing and value.trade_id not in trades:
                    trades[value.trade_id] = value
            elif (trade_id is None or trade_id in self._missing) and value.raw not in self._refused:
                rejected.append(value)
        self._refused.update(bad.raw for bad in rejected)
        for trade_id in trades:
            self._missing.remove(trade_id, trade_id)
        if not self._missing:
            self._ended = True
        return Page(tuple(trades[trade_id] for trade_id in sorted(trades)), tuple(rejected))

    def _saw(self, trade_id: int) -> None:
        """Note that REST has this id."""
        self._newest = trade_id if self._newest is None else max(self._newest, trade_id)

    def _cover(self, first: int, last: int) -> None:
        """Note that the venue has shown all that it has from `first` to `last`; the other ids are unavailable."""
        first, last = max(first, self._first), min(last, self._last)
        if first <= last:
            self._covered.add(first, last)


class IdWalk(Walk, ABC):
    """Base of the walks that ask for trades by id. Subclasses also ask for the newest trade, and read its reply."""

    def __init__(self, symbol: str, native: str, first_id: int, last_id: int, page: int = PAGE_TRADES) -> None:
        super().__init__(first_id, last_id)
        self._symbol = symbol
        self._native = native
        self._page = page

    @abstractmethod
    def request(self) -> Request | None:
        """See `History.request`."""

    @abstractmethod
    def take(self, reply: Reply) -> Page:
        """See `History.take`."""

    @staticmethod
    @abstractmethod
    def newest(native: str) -> Request:
        """Return the request for the newest trade of a symbol, by its native name."""

    @staticmethod
    @abstractmethod
    def read(reply: Reply, symbol: str | None, native: str) -> list[Row]:
        """Return the rows of a reply. Raises like `History.take`.

        `symbol` is the canonical one, for the rows and the error; None if the caller does not know it.
        """


def newest_of(rows: Iterable[Row]) -> int | None:
    """The highest id of a page, None if it is empty. Raises VenueError if no row can be read."""
    found = list(rows)
    ids = [row.trade_id for row in found if row.trade_id is not None]
    if found and not ids:
        bad = found[0].value
        raise VenueError(f"{bad.venue}'s newest trade {shown(bad.raw)}", "a row with a trade id")
    return max(ids, default=None)


def unreadable_row(
    venue: str, raw: str, id_field: str, checks: tuple[tuple[str, Check], ...], ts_ingest: int, symbol: str
) -> Row:
    """Build the row for JSON that is no trade: its id, if readable, and a Rejected with the first check that fails."""
    fields = parse_errors.object_fields(raw)
    trade_id = None if isinstance(fields, Fault) else readable_id(fields.get(id_field))
    return Row(trade_id, parse_errors.rejected(venue, parse_errors.explain(raw, checks), raw, ts_ingest, symbol))


def readable_id(literal: str | None) -> int | None:
    """The trade id that a JSON literal writes; None if it writes none."""
    return None if literal is None or parse_errors.trade_id("", literal) is not None else int(literal)


def body_text(venue: str, reply: Reply) -> str:
    """Return the body as text.

    If it is not UTF-8, raises what `raise_for_status` raises for the status, or VenueError if the status is 200.
    """
    try:
        return reply.body.decode()
    except UnicodeDecodeError as error:
        raise_for_status(venue, reply)
        raise VenueError(f"{venue}'s REST reply: byte {error.start} is no text", "JSON in UTF-8") from None


def array_rows(venue: str, reply: Reply, text: str) -> list[str]:
    """Return the rows of a body that is a JSON array, each as its own JSON text.

    Raises what `raise_for_status` raises for the status, and VenueError if the body is not an array.
    """
    raise_for_status(venue, reply)
    rows = parse_errors.array_items(text)
    if isinstance(rows, Fault):
        raise_unreadable(venue, text, "an array of trades")
    return rows


def raise_unreadable(venue: str, text: str, expected: str) -> NoReturn:
    """Raise VenueError for a reply that is not `expected`: cut off, or a proxy's page. Asking again may help."""
    raise VenueError(f"{venue}'s REST reply {shown(text)}", expected)


def raise_for_status(venue: str, reply: Reply, message: str | None = None) -> None:
    """Raise VenueError or TerminalError unless the status is 200; `message` is what the venue said, if it is known."""
    status = reply.status
    if status == 200:
        return
    said = shown(message if message is not None else reply.body.decode("utf-8", "replace"))
    if status in _LIMITED:
        raise VenueError(
            f"{venue} limits our REST requests: HTTP {status} {said}", retry_after=retry_after(reply.headers)
        )
    if 400 <= status < 500 and status not in _PASSING:
        raise TerminalError(f"{venue} refused a REST request: HTTP {status} {said}", "HTTP 200")
    raise VenueError(f"{venue}'s REST failed: HTTP {status} {said}", "HTTP 200", retry_after=retry_after(reply.headers))


def raise_unknown_symbol(venue: str, symbol: str | None, said: str) -> NoReturn:
    """Raise UnknownSymbolError: the venue does not list `symbol` (None if the caller does not know it).

    Not retriable. `said` is the venue's message; it is shortened for the error.
    """
    raise UnknownSymbolError(venue, symbol, shown(said))


def shown(text: str) -> str:
    """Return `text` in one line, shortened, for an error message."""
    return parse_errors.shorten(" ".join(text[:400].split()), 120) or "(nothing)"
