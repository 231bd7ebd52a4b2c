"""Look up a venue by its name. A venue is a package beside this module and a name in `market.venues.VENUES`."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.errors import SettingError
from lakehouse.exchanges.venue import Venue
from lakehouse.market.venues import declared

#: Name → venue, in the order of `market.venues.VENUES`.
VENUES: dict[str, Venue] = declared("lakehouse.exchanges", "stream")

#: The unit of the coarsest times that any venue sends, in microseconds: times of one trade may differ by less.
COARSEST_TIME_MICROS = max(one.time_micros for one in VENUES.values())


def venue(name: str, symbols: Sequence[str] = ()) -> Venue:
    """Return the venue called `name`, for the canonical `symbols` that will be subscribed.

    Binance reads only the names of these symbols. Raises SettingError if there is no such venue, or if the venue writes
    two of the symbols alike; ValueError if a symbol is not BASE/QUOTE.
    """
    try:
        found = VENUES[name]
    except KeyError:
        raise SettingError(f"unknown venue {name!r}", f"one of {', '.join(VENUES)}") from None
    names: dict[str, str] = {}
    for symbol in dict.fromkeys(symbols):
        native = found.native(symbol)
        if (other := names.setdefault(native, symbol)) != symbol:
            raise SettingError(f"{name} writes {other} and {symbol} alike, {native}", "one of the two")
    return found.for_symbols(symbols)
