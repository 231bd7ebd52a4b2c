"""The interface of every exchange: addresses, names, subscribe messages and a parser that never raises.

A venue is a value without state: the same object may serve any number of sockets and threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.history import Budget, History, Reply, Request, newest_of
from lakehouse.exchanges.id_walk import IdWalk
from lakehouse.exchanges.model import Parsed, Rejected
from lakehouse.exchanges.parse_errors import Fault
from lakehouse.market.symbols import canonical_symbol


class Venue(Protocol):
    """One exchange: its addresses, names, messages, parser and REST history, behind one interface for all venues.

    Symbols are canonical (`BTC/USDT`) unless called native (the venue's own spelling).
    """

    @property
    def name(self) -> str:
        """The venue's name in settings, topics and tables."""

    @property
    def silence_seconds(self) -> float:
        """Seconds without a frame after which a socket counts as dead and is replaced. WebSocket pings are frames."""

    @property
    def ping(self) -> bytes | None:
        """The message to send every `ping_seconds` as an application-level ping; None if the venue needs none."""

    @property
    def ping_seconds(self) -> float:
        """Seconds between two application-level pings; 0 if there are none."""

    @property
    def lifetime_seconds(self) -> float | None:
        """Age in seconds at which ingest replaces a socket, before the venue closes it; None if the venue sets none."""

    @property
    def joins_names(self) -> bool:
        """True if native names join base and quote (`BTCUSDT`): only the subscribed symbols tell where to split."""

    @property
    def time_micros(self) -> int:
        """Coarsest resolution, in µs, of a trade's time over socket or REST: 1000 if either may send milliseconds."""

    @property
    def subscribe_pause_seconds(self) -> float:
        """Seconds to wait between two messages of `subscribe`, so that the venue does not close us for flooding."""

    def websocket_url(self, base: str | None, symbols: Sequence[str]) -> str:
        """Return the WebSocket address to connect to.

        It is on the venue's live host if `base` is None, else below `base`, the root address of a simulator. Only
        Binance's address contains the symbols.
        """

    def rest_url(self, base: str | None) -> str:
        """Return the root of the REST API, without trailing slash: the live host's, or the one below `base`.

        `base` is the root address of a simulator, None for the live venue.
        """

    def native(self, symbol: str) -> str:
        """Return the venue's own spelling of a canonical symbol. Raises ValueError if it is not BASE/QUOTE."""

    def canonical(self, native: str) -> str:
        """Return the canonical symbol (`BTC/USDT`) for the venue's own spelling. Raises ValueError if it is unknown."""

    def for_symbols(self, symbols: Sequence[str]) -> Venue:
        """Return the venue for these subscribed symbols: Binance reads only their names, others return themselves."""

    def subscribe(self, symbols: Sequence[str], number: int = 1) -> list[bytes]:
        """Return the messages that subscribe to the trades of the symbols, to be sent in order.

        They are numbered from `number` on, if the venue's replies repeat the number of the message that they answer.
        Raises SettingError if the symbols are too many for one connection.
        """

    def parse(self, frame: bytes, ts_ingest: int) -> list[Parsed]:
        """Parse a WebSocket frame that was received at `ts_ingest` (µs since the epoch).

        Never raises. Every trade object in the frame gives exactly one Trade or Rejected, in the frame's order. A
        frame that cannot be read at all gives one Rejected, one that a trade feed ignores gives an empty list.
        """

    def frame_of(self, rejected: Rejected) -> str:
        """Return a frame around a text that `parse` rejected, so that `parse` can read the text again.

        A text that was a whole frame, or is not JSON, is returned unchanged.
        """

    @property
    def rest_budget(self) -> Budget:
        """The rate limit of the venue's REST API; the weights of `Request` count against it."""

    def history(self, symbol: str, first_id: int, last_id: int, ts_before: int | None, ts_after: int | None) -> History:
        """Return a `History` that fetches the trades `first_id`..`last_id` (inclusive) of a canonical symbol over REST.

        `ts_before` and `ts_after` are the times (µs) of the trades known before and after the range, None if unknown;
        a venue that finds trades by time only (Kraken) is quicker with them. Raises ValueError if the range is
        reversed.
        """

    def newest(self, symbol: str) -> Request:
        """Return the REST request for the newest trade of a canonical symbol."""

    def newest_id(self, reply: Reply) -> int | None:
        """Return the newest trade id in the reply to `newest`, None if it has no trade. Raises like `History.take`."""


class VenueDefaults:
    """Default values of the attributes that most venues share; each venue overrides those that differ. See `Venue`."""

    #: No ping by default, because a pong would hide that the venue's heartbeats have stopped.
    ping: bytes | None = None
    ping_seconds: float = 0.0
    subscribe_pause_seconds: float = 0.0
    lifetime_seconds: float | None = None
    joins_names: bool = False

    def frame_of(self, rejected: Rejected) -> str:
        """Return the text itself, for parsers that reject only whole frames."""
        return rejected.raw


class VenueById(VenueDefaults, ABC):
    """Base of the venues whose REST history is asked for trades by id."""

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
        """Return the newest trade id in the reply to `newest`, None if it has no trade. Raises like `History.take`."""
        return newest_of(self.walk.read(reply, None, ""))


def known_symbol(canonical: Callable[[str], str], native: str | None) -> str | None:
    """Return `canonical(native)`; None if `native` is None or not a known name (`canonical` raises ValueError)."""
    try:
        return None if native is None else canonical(native)
    except ValueError:
        return None


def request_number(literal: str | None) -> int | None:
    """Parse the JSON literal of a reply's request number; None if it is missing or not a number of 1 to 9 digits."""
    return (
        int(literal)
        if literal is not None and literal.isascii() and literal.isdecimal() and len(literal) < 10
        else None
    )


def symbol_in(raw: str, field: str, canonical: Callable[[str], str]) -> str | None:
    """Return the canonical symbol for the venue's name in a field of the JSON object `raw`.

    None if `raw` has no such string, or `canonical` does not know the name.
    """
    fields = parse_errors.object_fields(raw)
    return None if isinstance(fields, Fault) else known_symbol(canonical, parse_errors.string(fields.get(field)))


def websocket_root(base: str) -> str:
    """Return a simulator's root address for WebSockets: `http://h:p/` → `ws://h:p`."""
    return base.rstrip("/").replace("http", "ws", 1) if base.startswith("http") else base.rstrip("/")


def http_root(base: str) -> str:
    """Return a simulator's root address for REST: `ws://h:p/` → `http://h:p`."""
    return base.rstrip("/").replace("ws", "http", 1) if base.startswith("ws") else base.rstrip("/")
