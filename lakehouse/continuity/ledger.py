"""Write the ledger silver/continuity: which trade ids are present, missing (open) or unavailable. By the Silver stream.

Guarantee: after every batch the table describes silver/trades at exactly one version, which its column `trades_version`
names. It is written after the trades, so it never has ids that are not there; a crash in between leaves an older
ledger, which the next start brings up to date from the files that came since.
Limit: a gap is known by the trades around it or by an event of ingest. The ledger says nothing about trades before the
first id or after the last id in Silver or in such an event.
Cost for each batch: the table is rewritten as a whole. In memory and in the table it is one row for each range, so a
symbol without gaps is one row, however long its history.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from lakehouse.continuity.id_states import Arrival, News, Segment, cut, ranges_of, tried
from lakehouse.continuity.known_ids import KnownRange, ranges_between
from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES


class Ledger:
    """The ledger silver/continuity in the memory of its only writer, the Silver stream or a rebuild of Silver.

    `trades_version` is the version of silver/trades that it describes.
    """

    def __init__(self, settings: Settings, anew: bool = False) -> None:
        """Read the table, and bring it up to date with the newest version of silver/trades; if `anew`, know no id."""
        self._settings = settings
        self._segments: dict[MarketKey, list[Segment]] = {}
        self._present: dict[MarketKey, IdRanges] = {}
        self.trades_version = -1
        if not anew:
            self._read()
            self._catch_up()

    def present(self, key: MarketKey) -> IdRanges:
        """Return the trade ids of a (venue, symbol) that are in silver/trades."""
        found = self._present.get(key)
        if found is None:
            found = self._present[key] = ranges_of(self._segments.get(key, ()), "present")
        return found

    def all_present(self) -> Iterator[tuple[MarketKey, IdRanges]]:
        """Yield each (venue, symbol) with its trade ids that are in silver/trades."""
        for key in self._segments:
            yield key, self.present(key)

    def take(self, news: Mapping[MarketKey, News], trades_version: int) -> int:
        """Apply a batch's news and write the table; return the table's version.

        Call it after the batch's trades are in silver/trades, whose version is then `trades_version`.
        """
        if self.add(news) or trades_version != self.trades_version:
            self.write(trades_version)
        return table_io.open_table(self._settings, SILVER_CONTINUITY).version()

    def add(self, news: Mapping[MarketKey, News]) -> bool:
        """Apply a batch's news in memory alone; return True if they change anything."""
        now = dt.datetime.now(dt.UTC)
        changed = False
        for key, item in news.items():
            before = self._segments.get(key, [])
            after = cut(before, item, now)
            if after != before:
                changed = True
                self._segments[key] = after
                self._present.pop(key, None)
        return changed

    def write(self, trades_version: int) -> None:
        """Write the table as a whole; the ledger describes `trades_version` of silver/trades."""
        self.trades_version = trades_version
        _write(self._settings, self._segments, trades_version)

    def _read(self) -> None:
        rows = table_io.sql(
            self._settings, "SELECT * FROM ledger ORDER BY venue, symbol, first_id", ledger=SILVER_CONTINUITY
        ).to_pylist()
        for row in rows:
            key = row.pop("venue"), row.pop("symbol")
            self.trades_version = row.pop("trades_version")
            self._segments.setdefault(key, []).append(Segment(**row))

    def _catch_up(self) -> None:
        """Trades that the ledger does not know: those of a batch that was cut off, or all if it is new or lost."""
        version = table_io.open_table(self._settings, SILVER_TRADES).version()
        if self.trades_version > version:  # the table was restored to an older state
            self.trades_version = -1
        since = self.trades_version if self.trades_version >= 0 else None
        islands, of_all = ranges_between(self._settings, since, version)
        news: dict[MarketKey, News] = {}
        if of_all:  # what is there comes anew, with its counts; what was claimed or gone is known from here alone
            for key, segments in self._segments.items():
                news[key] = News(
                    claimed=[(one.first_id, one.last_id) for one in segments],
                    gone=tried(segments),
                )
            self._segments.clear()
            self._present.clear()
        _add_arrivals(news, islands)
        if news:
            self.take(news, version)
        self.trades_version = version


def _write(settings: Settings, segments: Mapping[MarketKey, Sequence[Segment]], trades_version: int) -> None:
    rows = [
        {"venue": venue, "symbol": symbol, **vars(segment), "trades_version": trades_version}
        for (venue, symbol), ranges in sorted(segments.items())
        for segment in ranges
    ]
    data = pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_CONTINUITY))
    table_io.overwrite(settings, SILVER_CONTINUITY, data)


def _add_arrivals(news: dict[MarketKey, News], islands: Iterable[KnownRange]) -> None:
    for island in islands:
        arrival = Arrival(island.first_id, island.last_id, island.ts_first, island.ts_last, island.repaired)
        news.setdefault(island.key, News()).arrived.append(arrival)
