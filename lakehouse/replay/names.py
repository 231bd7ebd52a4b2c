"""Which symbols a venue's native names stand for, as far as it is known: never by a guess."""

from __future__ import annotations

from deltalake import DeltaTable

from lakehouse.exchanges.registry import VENUES
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES


class KnownSymbols:
    """The symbols that are subscribed today, and those of which silver/trades has trades. For one replay."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stored: dict[str, tuple[str, ...]] = {}

    def of(self, venue: str) -> tuple[str, ...]:
        """Of a venue, each once. If two have the same native name, the venue's reader takes neither."""
        if venue in VENUES and VENUES[venue].joins_names and venue not in self._stored:
            self._stored[venue] = self._read(venue)
        return tuple(dict.fromkeys((*self._settings.symbols, *self._stored.get(venue, ()))))

    def _read(self, venue: str) -> tuple[str, ...]:
        if not DeltaTable.is_deltatable(table_io.table_uri(self._settings, SILVER_TRADES)):
            return ()
        query = f"SELECT DISTINCT symbol FROM trades WHERE venue = '{venue}' ORDER BY symbol"
        return tuple(row["symbol"] for row in table_io.sql(self._settings, query, trades=SILVER_TRADES).to_pylist())
