"""Trades of one market from the lake, for streams: by id, in pages, so that a long past is never in memory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from lakehouse.client.filters import Filter, where
from lakehouse.id_ranges import IdRange
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.serving.cursor import micros
from lakehouse.serving.opened import OpenTables
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_TRADES

#: Rows of a page: some 10 MB in memory.
PAGE_ROWS = 50_000
#: Most ranges of ids in one query.
MOST_RANGES = 100
#: A trade with a higher id may be this much older, so that files of the day before are read too.
EARLIER = dt.timedelta(days=1)
#: Ids before the first trade of a range among which the one before it is looked for.
_NEAR = 1_000
_FIRST = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)

#: Columns that a client gets; `ts_ingest` is for the age of a hole.
COLUMNS = ("venue", "symbol", "trade_id", "price", "size", "side", "ts_event", "source")


class Past(NamedTuple):
    """The trades of one market in one version of silver/trades.

    Methods raise UnreadableVersionError if a file of it is gone, Problem if the version cannot be opened any more.
    """

    settings: Settings
    tables: OpenTables
    market: MarketKey
    version: int

    def first_id(self, start: dt.datetime) -> int | None:
        """Return the id after the last trade before a time; None if no trade at or after the time is known.

        A missing id at the beginning may be that of a trade after the time, so it is part of the range.
        """
        found = self._rows(start, "TRUE", 1, [("ts_event", ">=", start)])
        if not found.num_rows:
            return None
        first: int = found.column("trade_id")[0].as_py()
        before = self._rows(start, f"trade_id BETWEEN {first - _NEAR} AND {first - 1}", _NEAR)
        return int(before.column("trade_id")[-1].as_py()) + 1 if before.num_rows else first

    def page(self, since: dt.datetime, behind: int) -> pa.Table:
        """Return at most PAGE_ROWS rows with ids above `behind`, by id; days before `since` − EARLIER are not read."""
        return self._rows(since, f"trade_id > {behind}", PAGE_ROWS)

    def of_ids(self, since: dt.datetime, ranges: Sequence[IdRange]) -> Iterator[pa.Table]:
        """Yield pages of the rows with ids in `ranges`, by id; days before `since` − EARLIER are not read."""
        for at in range(0, len(ranges), MOST_RANGES):
            parts = (f"trade_id BETWEEN {first} AND {last}" for first, last in ranges[at : at + MOST_RANGES])
            condition, behind = " OR ".join(parts), -1
            while True:
                found = self._rows(since, f"({condition}) AND trade_id > {behind}", PAGE_ROWS)
                yield found
                if found.num_rows < PAGE_ROWS:
                    break
                behind = found.column("trade_id")[-1].as_py()

    def _rows(self, since: dt.datetime, condition: str, limit: int, more: Sequence[Filter] = ()) -> pa.Table:
        first = max(since, _FIRST) - EARLIER
        venue, symbol = self.market
        filters: list[Filter] = [("venue", "=", venue), ("symbol", "=", symbol), ("event_date", ">=", first.date())]
        query = (
            f"SELECT {', '.join(COLUMNS)}, ts_ingest FROM trades{where([*filters, *more], condition)} "
            f"ORDER BY trade_id LIMIT {limit}"
        )
        opened = self.tables.at(SILVER_TRADES, self.version).delta
        return table_io.sql(self.settings, query, trades=opened)


def age(row: dict[str, Any]) -> float:
    """Return the seconds since a row was received; at least 0."""
    return max(0.0, (micros(dt.datetime.now(dt.UTC)) - micros(row["ts_ingest"])) / 1_000_000)


def unavailable(settings: Settings, tables: OpenTables, market: MarketKey) -> list[IdRange]:
    """Read the ranges of ids of a market that its venue does not have, from the ledger."""
    opened = tables.newest(SILVER_CONTINUITY).delta
    filters: list[Filter] = [("venue", "=", market[0]), ("symbol", "=", market[1]), ("state", "=", "unavailable")]
    rows = table_io.sql(settings, f"SELECT first_id, last_id FROM ledger{where(filters)}", ledger=opened).to_pylist()
    return [(row["first_id"], row["last_id"]) for row in rows]
