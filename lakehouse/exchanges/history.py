"""Fetch a range of trades from a venue's REST API, without I/O: the caller sends each request and hands in the reply.

A `History` is one walk (request after request, page after page) over one inclusive id range of one symbol:

    while (request := history.request()) is not None:
        page = history.take(send(request))

Guarantee: each id of the range is delivered as a trade at most once, and no id outside it is. At the end of a walk each
id is delivered, or `unavailable`, or above `newest_seen` (REST lags behind the socket; ask again later). Limit: if the
venue contradicts itself, a walk may end with ids that are only `missing`; ask for these again later, too.
"""

from __future__ import annotations

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
    """Raised if the venue does not list the symbol. Not retriable. `words` is the venue's own message."""

    def __init__(self, venue: str, symbol: str | None, words: str) -> None:
        self.words = words
        super().__init__(
            f"{venue} knows no symbol {symbol or 'of this name'} ({words})",
            "a symbol that it lists",
            "correct LAKEHOUSE_SYMBOLS or LAKEHOUSE_VENUES",
        )


class Request(msgspec.Struct, frozen=True):
    """One GET request to a venue's REST API, for the caller to send.

    `path` is below `Venue.rest_url(base)`, with a leading slash; `weight` is its cost, counted against the venue's
    `Budget`.
    """

    path: str
    params: dict[str, str]
    headers: dict[str, str]
    weight: float


class Reply(msgspec.Struct, frozen=True):
    """The HTTP reply to a `Request`, of any status. Header names are lower-case; `ts_ingest` (µs): when it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ts_ingest: int


class Page(msgspec.Struct, frozen=True):
    """The content of one reply: the new trades of the walk's range, ids ascending, and the rows that could not be read.

    The trades have `source="repair"`. Trades and bad rows of earlier pages of the walk are not repeated.
    """

    trades: tuple[Trade, ...] = ()
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class Budget:
    """A venue's REST rate limit: the requests of one IP address may weigh `weight` in total in any `seconds`."""

    weight: float
    seconds: float


class History(Protocol):
    """One walk over the trades of one symbol in an inclusive id range.

    Call `request` and `take` in turn until `request` returns None. A History keeps the state of the walk and sends
    nothing itself. Not thread-safe.
    """

    def request(self) -> Request | None:
        """Return the next request: the same one until `take` has accepted its reply. None if the walk has ended."""

    def take(self, reply: Reply) -> Page:
        """Parse the reply to `request`, return its new trades and bad rows, and move the walk on.

        Raises VenueError (with `retry_after` if the venue named it) for a limit, a failure of the venue or a reply that
        cannot be read: send the same request again later. Raises TerminalError if the venue would refuse it again, such
        as for an unknown symbol. Raises nothing else, whatever the reply is.
        """

    @property
    def missing(self) -> IdRanges:
        """A copy of the ids of the range for which `take` has returned no trade so far.

        These are the ids not asked for yet, the unavailable ones, and those whose row was bad.
        """

    @property
    def unavailable(self) -> IdRanges:
        """Missing ids that the replies prove the venue lacks: older than its history, skipped in it, or unreadable.

        Final at the end of the walk. A later walk may find them: some venues publish skipped rows minutes later.
        """

    @property
    def newest_seen(self) -> int | None:
        """The highest trade id in any reply of this walk; None if none had an id.

        If it is below the last id of the range, REST lags behind the WebSocket: ask again later.
        """


class Row(NamedTuple):
    """A parsed row of a REST page: its trade id (None if unreadable), and `value`, a Trade or the Rejected for it."""

    trade_id: int | None
    value: Trade | Rejected


class Walk:
    """Base of each venue's `History`: records which ids were delivered, which the venue lacks, and the newest seen.

    Subclasses implement `request` and `take`. Raises ValueError if the id range is reversed or begins below 0.
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
        """A copy of the ids of the range for which `take` has returned no trade so far.

        These are the ids not asked for yet, the unavailable ones, and those whose row was bad.
        """
        return IdRanges(self._missing)

    @property
    def unavailable(self) -> IdRanges:
        """Ids of the range that the replies prove the venue lacks. Final at the end of the walk."""
        return IdRanges(part for first, last in self._covered for part in self._missing.within(first, last))

    @property
    def newest_seen(self) -> int | None:
        """The highest trade id in any reply of this walk; None if none had an id."""
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


def newest_of(rows: Iterable[Row]) -> int | None:
    """Return the highest trade id among a page's rows; None if there are no rows.

    Raises VenueError if there are rows but none has a readable id.
    """
    found = list(rows)
    ids = [row.trade_id for row in found if row.trade_id is not None]
    if found and not ids:
        bad = found[0].value
        raise VenueError(f"{bad.venue}'s newest trade {shown(bad.raw)}", "a row with a trade id")
    return max(ids, default=None)


def unreadable_row(
    venue: str, raw: str, id_field: str, checks: tuple[tuple[str, Check], ...], ts_ingest: int, symbol: str
) -> Row:
    """Build the `Row` for a JSON object that is not a valid trade: its id if readable, and a Rejected that says why.

    `id_field` is the name of the field with the id; the reason is the first of `checks` (field name, check) that fails.
    """
    fields = parse_errors.object_fields(raw)
    trade_id = None if isinstance(fields, Fault) else readable_id(fields.get(id_field))
    return Row(trade_id, parse_errors.rejected(venue, parse_errors.explain(raw, checks), raw, ts_ingest, symbol))


def readable_id(literal: str | None) -> int | None:
    """Parse a JSON literal (the field's JSON text) as a trade id; None if it is missing or not a valid id."""
    return None if literal is None or parse_errors.trade_id("", literal) is not None else int(literal)


def body_text(venue: str, reply: Reply) -> str:
    """Return the reply's body decoded from UTF-8.

    If it is not UTF-8, raises the error of `raise_for_status`, or VenueError if the status is 200.
    """
    try:
        return reply.body.decode()
    except UnicodeDecodeError as error:
        raise_for_status(venue, reply)
        raise VenueError(f"{venue}'s REST reply: byte {error.start} is no text", "JSON in UTF-8") from None


def array_rows(venue: str, reply: Reply, text: str) -> list[str]:
    """Split the JSON array in a reply's body (`text`) into its items, each as its own JSON text.

    Raises the error of `raise_for_status` if the status is not 200, and VenueError if `text` is not an array.
    """
    raise_for_status(venue, reply)
    rows = parse_errors.array_items(text)
    if isinstance(rows, Fault):
        raise_unreadable(venue, text, "an array of trades")
    return rows


def raise_unreadable(venue: str, text: str, expected: str) -> NoReturn:
    """Raise VenueError, quoting `text`, for a reply that is not `expected` (cut off, or a proxy's page). Retriable."""
    raise VenueError(f"{venue}'s REST reply {shown(text)}", expected)


def raise_for_status(venue: str, reply: Reply, message: str | None = None) -> None:
    """Return if the HTTP status is 200; else raise.

    VenueError, which means ask again later, for a limit (403, 418, 429, 451), 408, 425 and any status outside the
    400s; TerminalError for the other 400s. `message` is the venue's message; None: the body is quoted.
    """
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
    """Return `text` for an error message: on one line, cut after 120 characters; `(nothing)` if it is empty."""
    return parse_errors.shorten(" ".join(text[:400].split()), 120) or "(nothing)"
