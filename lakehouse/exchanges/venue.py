"""The interface of every exchange: addresses, names, subscribe messages and a parser that never raises.

A venue is a value without state: the same object may serve any number of sockets and threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.history import Budget, History, IdWalk, Reply, Request, newest_of
from lakehouse.exchanges.model import Parsed
from lakehouse.exchanges.parse_errors import Fault
from lakehouse.market.symbols import canonical_symbol


class Venue(Protocol):
    """One exchange. Symbols are canonical (`BTC/USDT`) unless called native."""

    @property
    def name(self) -> str:
        """The venue's name in settings, topics and tables."""

    @property
    def silence_seconds(self) -> float:
        """A socket without any frame for this many seconds is stale. WebSocket ping frames count as frames."""

    @property
    def ping(self) -> bytes | None:
        """Application-level ping to send every `ping_seconds`; None if the venue needs none."""

    @property
    def ping_seconds(self) -> float:
        """Seconds between two application-level pings; 0 if there are none."""

    @property
    def lifetime_seconds(self) -> float | None:
        """Seconds after which we change a socket before the venue closes it; None if the venue names no lifetime."""

    @property
    def joins_names(self) -> bool:
        """True if its names run base and quote together, so that only the known symbols tell what a name means."""

    @property
    def time_micros(self) -> int:
        """The unit of the coarsest times that the venue sends for a trade, over the socket or REST, in microseconds."""

    @property
    def subscribe_pause_seconds(self) -> float:
        """Least pause between two messages of `subscribe`, so that the venue does not cut us for flooding."""

    def websocket_url(self, base: str | None, symbols: Sequence[str]) -> str:
        """The address to connect to: the live host if `base` is None, else below `base`, a simulator's root."""

    def rest_url(self, base: str | None) -> str:
        """Root of the REST API, without trailing slash. `base` as in `websocket_url`."""

    def native(self, symbol: str) -> str:
        """The venue's own spelling of a canonical symbol. Raises ValueError if it is not BASE/QUOTE."""

    def canonical(self, native: str) -> str:
        """The canonical symbol of the venue's own spelling. Raises ValueError if that is not known."""

    def for_symbols(self, symbols: Sequence[str]) -> Venue:
        """This venue, for the subscribed symbols: Binance's `canonical` knows no others."""

    def subscribe(self, symbols: Sequence[str], number: int = 1) -> list[bytes]:
        """Messages that subscribe, in order, within the venue's limits.

        They are numbered from `number` on, if the venue's replies name the request that they answer. Raises
        SettingError if one connection cannot carry so many symbols.
        """

    def parse(self, frame: bytes, ts_ingest: int) -> list[Parsed]:
        """Read a frame; `ts_ingest` (microseconds) is when our socket received it.

        Never raises. Every trade object in the frame gives exactly one Trade or Rejected, in the frame's order. A
        frame that cannot be read at all gives one Rejected, one that a trade feed ignores gives an empty list.
        """

    @property
    def rest_budget(self) -> Budget:
        """The limit of the venue's REST API; the weights of `Request` count against it."""

    def history(self, symbol: str, first_id: int, last_id: int, ts_before: int | None, ts_after: int | None) -> History:
        """A walk over the trades `first_id`..`last_id` (inclusive) of a canonical symbol.

        `ts_before` and `ts_after` are the times (µs) of the trades known before and behind the range; a venue that
        finds trades by time only (Kraken) is quicker with them. Raises ValueError if the range is reversed.
        """

    def newest(self, symbol: str) -> Request:
        """The request for the newest trade of a canonical symbol."""

    def newest_id(self, reply: Reply) -> int | None:
        """The newest trade id in the reply to `newest`; None if there is none. Raises like `History.take`."""


class VenueDefaults:
    """The values that most venues share; a venue overrides what differs. See `Venue` for each."""

    #: None is the default, because a pong would hide that the venue's heartbeats have stopped.
    ping: bytes | None = None
    ping_seconds: float = 0.0
    subscribe_pause_seconds: float = 0.0
    lifetime_seconds: float | None = None
    joins_names: bool = False


class VenueById(VenueDefaults, ABC):
    """Base of the venues that are asked for trades by id."""

    #: The venue's walk, which also asks for the newest trade.
    walk: ClassVar[type[IdWalk]]

    @abstractmethod
    def native(self, symbol: str) -> str:
        """See `Venue.native`."""

    def history(
        self,
        symbol: str,
        first_id: int,
        last_id: int,
        ts_before: int | None,  # noqa: ARG002 - asked by id
        ts_after: int | None,  # noqa: ARG002
    ) -> History:
        """Return a walk over the trades `first_id`..`last_id` of a canonical symbol. The two times are not used."""
        return self.walk(canonical_symbol(symbol), self.native(symbol), first_id, last_id)

    def newest(self, symbol: str) -> Request:
        """Return the request for the newest trade of a canonical symbol."""
        return self.walk.newest(self.native(symbol))

    def newest_id(self, reply: Reply) -> int | None:
        """Return the newest trade id in the reply to `newest`; None if it has none. Raises like `History.take`."""
        return newest_of(self.walk.read(reply, None, ""))


def known_symbol(canonical: Callable[[str], str], native: str | None) -> str | None:
    """The canonical symbol that a control message names; None if it names none that can be read."""
    try:
        return None if native is None else canonical(native)
    except ValueError:
        return None


def request_number(literal: str | None) -> int | None:
    """The number of the request that a reply answers, from its JSON literal; None if it names none of ours."""
    return (
        int(literal)
        if literal is not None and literal.isascii() and literal.isdecimal() and len(literal) < 10
        else None
    )


def symbol_in(raw: str, field: str, canonical: Callable[[str], str]) -> str | None:
    """The canonical symbol that a field of a JSON object names, if it can be read."""
    fields = parse_errors.object_fields(raw)
    return None if isinstance(fields, Fault) else known_symbol(canonical, parse_errors.string(fields.get(field)))


def websocket_root(base: str) -> str:
    """The simulator's root for sockets: `http://h:p/` → `ws://h:p`."""
    return base.rstrip("/").replace("http", "ws", 1) if base.startswith("http") else base.rstrip("/")


def http_root(base: str) -> str:
    """The simulator's root for REST: `ws://h:p/` → `http://h:p`."""
    return base.rstrip("/").replace("ws", "http", 1) if base.startswith("ws") else base.rstrip("/")
