"""The options with which a simulator is started, checked and normalised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.errors import SettingError
from lakehouse.settings import DEFAULT_SYMBOLS, VENUES, canonical_symbols
from lakehouse.simulator.faults.model import Faults
from lakehouse.simulator.faults.schedule import Planned, plan
from lakehouse.simulator.limits import Limits
from lakehouse.simulator.timings import Timings

#: Trades per second over all venues. docs/venues.md, "Rates", has the reason of the upper end.
LOWEST_RATE, HIGHEST_RATE = 1.0, 20_000.0
#: Moves beyond 2 % in a minute, per hour over all assets: if none are asked for (3 a day), and at most.
DEFAULT_MOVES_PER_HOUR, HIGHEST_MOVES_PER_HOUR = 0.125, 60.0
#: Scheduled faults per minute: if only a seed is given, and at most.
DEFAULT_FAULT_RATE, HIGHEST_FAULT_RATE = 6.0, 600.0


@dataclass(frozen=True)
class SimulatorOptions:
    """The options of one simulator. Raises SettingError if one cannot be used.

    `record` is the folder of the record of true trades; `port` 0 takes a free one. `rate` is trades per second over all
    markets; each has a fixed share and trades from its first subscription on. `moves_per_hour` counts moves beyond 2 %
    within a minute, over all assets; a move shows on each venue. `replays` are recorded files to play; `speed`
    multiplies their pace, 0 is as fast as the client reads.
    """

    record: Path
    port: int = 0
    rate: float = 100.0
    seed: int = 1
    venues: tuple[str, ...] = VENUES
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    moves_per_hour: float = DEFAULT_MOVES_PER_HOUR
    replays: tuple[Path, ...] = ()
    speed: float = 1.0
    timings: Timings = field(default_factory=Timings)
    limits: Limits = field(default_factory=Limits)
    #: Seed and faults a minute of the random schedule of faults, which is on if either is given; see `schedule`.
    fault_seed: int | None = None
    fault_rate: float = 0.0
    #: (venue, symbol) pairs that the venue does not list, although `symbols` has the symbol.
    delisted: tuple[tuple[str, str], ...] = ()
    #: The faults of a test; they replace the injector that `/admin/faults` controls.
    faults: Faults | None = None

    def __post_init__(self) -> None:
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise SettingError(f"rate {self.rate:g} trades/s", f"{LOWEST_RATE:g} to {HIGHEST_RATE:g}")
        if not 0 <= self.moves_per_hour <= HIGHEST_MOVES_PER_HOUR:
            raise SettingError(f"{self.moves_per_hour:g} moves an hour", f"0 to {HIGHEST_MOVES_PER_HOUR:g}")
        if not 0 <= self.fault_rate <= HIGHEST_FAULT_RATE:
            raise SettingError(f"fault rate {self.fault_rate:g} a minute", f"0 to {HIGHEST_FAULT_RATE:g}")
        if self.speed < 0:
            raise SettingError(
                f"speed {self.speed:g}", "0 (as fast as possible) or a positive factor, 1 being the original pace"
            )
        if not 0 <= self.port <= 65535:
            raise SettingError(f"port {self.port}", "0 (a free one) to 65535")
        for venue in self.venues:
            if venue not in VENUES:
                raise SettingError(f"unknown venue {venue!r}", f"one of {', '.join(VENUES)}")
        if not self.symbols:
            raise SettingError("no symbols", "at least one such as BTC/USDT")
        # The frozen way to normalise: a symbol listed twice would be two markets with one record.
        object.__setattr__(self, "symbols", canonical_symbols(self.symbols))
        delisted = tuple((venue, canonical_symbols([symbol])[0]) for venue, symbol in self.delisted)
        object.__setattr__(self, "venues", tuple(dict.fromkeys(self.venues)))
        object.__setattr__(self, "delisted", delisted)
        for venue, symbol in delisted:
            if venue not in self.venues or symbol not in self.symbols:
                markets = f"a venue of {', '.join(self.venues)} and a symbol of {', '.join(self.symbols)}"
                raise SettingError(f"delisted {venue}:{symbol}", markets)

    def all_venues(self, replayed: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the names of all venues that are served: those with markets, then `replayed`, each once."""
        return tuple(dict.fromkeys((*self.venues, *replayed)))

    @property
    def faults_planned(self) -> tuple[int, float] | None:
        """(seed, faults a minute) of the random schedule of faults; None if neither option was given."""
        if self.fault_seed is None and not self.fault_rate:
            return None
        return self.seed if self.fault_seed is None else self.fault_seed, self.fault_rate or DEFAULT_FAULT_RATE

    def schedule(self, replayed: Iterable[str] = ()) -> Iterator[Planned] | None:
        """Return the endless random schedule of faults for all venues; None if no schedule was asked for.

        `replayed` are the venues whose recorded files are played.
        """
        planned = self.faults_planned
        return plan(*planned, self.all_venues(replayed), self.symbols) if planned else None


def read_delisted(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parse each text of the form `binance:FOO/USDT` into (venue, symbol). Raises SettingError for another form."""
    pairs = [text.partition(":") for text in texts]
    for venue, colon, symbol in pairs:
        if not (venue and colon and symbol):
            raise SettingError(f"delisted {venue + colon + symbol!r}", "VENUE:BASE/QUOTE such as binance:FOO/USDT")
    return tuple((venue, symbol) for venue, _, symbol in pairs)
