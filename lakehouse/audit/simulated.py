"""Compare silver/trades with the record of the simulated exchange, id by id and value by value, over its admin API.

Record and Silver are read together in pages, in id order, so that memory does not grow with their size. While the
exchange trades on, recorded trades above Silver's highest id are not in Silver yet; all others must be there and equal.
Recorded trades with ids below Silver's first one are counted separately.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
from deltalake import DeltaTable

from lakehouse.audit.snapshot import Snapshot
from lakehouse.errors import TerminalError
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import open_table, sql_batches
from lakehouse.quality.id_coverage import LedgerRange, TradeIds
from lakehouse.quality.message_account import named
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES

#: Seconds that the simulator has to answer one question.
ANSWER_SECONDS = 20.0
#: Trades a page, the most that the simulator gives, and pages that are compared at once.
PAGE_TRADES, PAGES = 10_000, 5
#: A market whose first trade is this much older than the snapshot, in seconds, should be in Silver.
LATE_SECONDS = 120.0
_NAMED = 3
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

#: Price, size, taker side, and event time in microseconds since the epoch.
Content = tuple[Decimal, Decimal, str, int]


@dataclass
class MarketProof:
    """One market: numbers of trades by how Silver's rows and the record compare.

    `equal` and `unlike`: in both, with the same or with other content. `missing`: recorded, from Silver's lowest to its
    highest id, and not in Silver, open gaps included. `not_recorded`: only in Silver. `before_first` and `not_yet`:
    recorded with ids below Silver's lowest or above its highest.
    """

    venue: str
    symbol: str
    equal: int = 0
    unlike: int = 0
    missing: int = 0
    not_recorded: int = 0
    before_first: int = 0
    not_yet: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class SimulatedProof:
    """All markets of the simulator at `url`; `notes` name what could not be compared."""

    url: str
    markets: list[MarketProof]
    notes: list[str] = field(default_factory=list)

    def total(self, figure: str) -> int:
        """Return the sum of a figure of MarketProof, such as `missing`, over all markets."""
        return sum(getattr(market, figure) for market in self.markets)


class Recorded:
    """Client of one simulator's admin API.

    Every request raises TerminalError if the address does not answer as a simulator.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Plain HTTP on this machine, without a proxy or certificates.
        self._client = httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, trust_env=False, verify=False)

    def status(self) -> dict[str, Any]:
        """Read `/admin/status`: the markets, each with its first id and number of recorded trades, and the replays."""
        found = self._get("/admin/status", {})
        if found.get("simulated") is not True or "markets" not in found:
            raise TerminalError(f"{self.url} is no simulated exchange", "a running `lakehouse simulate`")
        return found

    def pages(self, venue: str, symbol: str, first_id: int) -> Iterator[list[tuple[int, Content]]]:
        """Yield the recorded trades (id, content) from an id on, ascending, PAGES pages at a time, up to the newest."""
        following: int | None = first_id
        path = f"/admin/record/{venue}/{symbol.replace('/', '-')}"
        while following is not None:
            trades: list[tuple[int, Content]] = []
            for _ in range(PAGES):
                page = self._get(path, {"from_id": following, "limit": PAGE_TRADES})
                trades += [
                    (one["trade_id"], (Decimal(one["price"]), Decimal(one["size"]), one["side"], one["ts_event"]))
                    for one in page["trades"]
                ]
                following = page["next_id"]
                if following is None:
                    break
            yield trades

    def close(self) -> None:
        """Close the connections to the simulator."""
        self._client.close()

    def _get(self, path: str, query: dict[str, int]) -> dict[str, Any]:
        try:
            reply = self._client.get(path, params=query)
            reply.raise_for_status()
            found = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise TerminalError(
                f"no answer of a simulator at {self.url}{path}: {error or type(error).__name__}",
                "a running `lakehouse simulate` or `lakehouse demo`",
                "give its --simulator-url",
            ) from None
        return dict(found)


def compare(
    settings: Settings,
    snapshot: Snapshot,
    url: str,
    ledger: list[LedgerRange],
    trades: TradeIds,
    progress: Callable[[str], None],
) -> SimulatedProof:
    """Compare silver/trades at the snapshot with the record of the simulator at `url`, market by market.

    `ledger` and `trades` are silver/continuity and the ids of silver/trades at the snapshot. `progress` gets a line
    after each part of a market.
    """
    recorded = Recorded(url)
    try:
        status = recorded.status()
        replayed = {line.get("venue") for line in status.get("replays", [])}
        proof = SimulatedProof(recorded.url, [])
        keys = {(market["venue"], market["symbol"]) for market in status["markets"]}
        for key in sorted(trades.ids):
            if key in keys:
                continue
            if key[0] in replayed:
                proof.notes.append(f"{key[0]} {key[1]} is a replay of recorded frames, which are its only record")
                continue
            market = MarketProof(*key, not_recorded=trades.of(key).count())
            market.faults.append(f"{key[0]} {key[1]}: in silver/trades, and no market of the simulated exchange")
            proof.markets.append(market)
        silver = open_table(settings, SILVER_TRADES, snapshot.trades_version)
        for market_status in status["markets"]:
            if market_status["recorded"]:
                ranges = [row for row in ledger if row.key == (market_status["venue"], market_status["symbol"])]
                tell = partial(_tell, progress, len(proof.markets) + 1, len(status["markets"]))
                walk = _Walk(settings, recorded, silver, trades, ranges, snapshot.silver.committed_at, tell)
                proof.markets.append(walk.compare(market_status))
        _count_not_yet(proof, recorded.status())
        return proof
    finally:
        recorded.close()


def _count_not_yet(proof: SimulatedProof, status: dict[str, Any]) -> None:
    """Count the rest of the record as it is now; its part up to Silver's highest id does not change."""
    now = {(market["venue"], market["symbol"]): market["recorded"] for market in status["markets"]}
    for market in proof.markets:
        walked = market.before_first + market.equal + market.unlike + market.missing
        market.not_yet = max(0, now.get((market.venue, market.symbol), 0) - walked)


class _Walk:
    """Walk through one market's record and Silver together, by id."""

    def __init__(
        self,
        settings: Settings,
        recorded: Recorded,
        silver: DeltaTable,
        trades: TradeIds,
        ledger: list[LedgerRange],
        snapshot_at: dt.datetime,
        tell: Callable[[MarketProof], None],
    ) -> None:
        self._settings = settings
        self._recorded = recorded
        self._silver = silver
        self._trades = trades
        self._ledger = ledger
        self._snapshot_at = snapshot_at
        self._tell = tell

    def compare(self, status: dict[str, Any]) -> MarketProof:
        """Compare one market."""
        market = MarketProof(status["venue"], status["symbol"])
        key = (market.venue, market.symbol)
        lowest, highest = self._trades.of(key).lowest, self._trades.of(key).highest
        if lowest is None or highest is None:
            self._absent(market, status)
            return market
        missing = IdRanges()
        done = lowest - 1  # the last id up to which Silver was compared
        for page in self._recorded.pages(*key, status["first_id"]):
            market.before_first += sum(trade_id < lowest for trade_id, _ in page)
            page = [(trade_id, content) for trade_id, content in page if lowest <= trade_id <= highest]
            if page:
                self._compare_page(market, page, done, missing)
                done = page[-1][0]
                self._tell(market)
            if done == highest:
                break
        self._not_recorded(market, done + 1, highest)
        if missing:
            market.missing, said = missing.count(), self._states(missing)
            market.faults.append(f"{_name(market)}: {count_of(market.missing, 'recorded trade')} missing: {said}")
        if market.unlike:
            market.faults.append(f"{_name(market)}: {count_of(market.unlike, 'trade')} with other content in all")
        return market

    def _compare_page(self, market: MarketProof, page: list[tuple[int, Content]], done: int, missing: IdRanges) -> None:
        there = self._rows(market, done + 1, page[-1][0])
        for trade_id, content in page:
            found = there.pop(trade_id, None)
            if found is None:
                missing.add(trade_id, trade_id)
            elif found == content:
                market.equal += 1
            else:
                market.unlike += 1
                if market.unlike <= _NAMED:
                    both = f"{_text(found)} in Silver, {_text(content)} recorded"
                    market.faults.append(f"{_name(market)} trade {trade_id}: {both}")
        self._surplus(market, there)

    def _not_recorded(self, market: MarketProof, first: int, last: int) -> None:
        """Count Silver's rows after the end of the record."""
        if first <= last:
            self._surplus(market, self._rows(market, first, last))

    def _surplus(self, market: MarketProof, rows: dict[int, Content]) -> None:
        if rows and not market.not_recorded:
            market.faults.append(f"{_name(market)} trade {min(rows)}: in silver/trades, never recorded")
        market.not_recorded += len(rows)

    def _rows(self, market: MarketProof, first: int, last: int) -> dict[int, Content]:
        query = f"""
            SELECT trade_id, price, size, side, ts_event FROM trades
            WHERE venue = '{market.venue}' AND symbol = '{market.symbol}' AND trade_id BETWEEN {first} AND {last}
        """
        rows: dict[int, Content] = {}
        for batch in sql_batches(self._settings, query, trades=self._silver):
            columns = [batch.column(name).to_pylist() for name in ("trade_id", "price", "size", "side", "ts_event")]
            for trade_id, price, size, side, ts_event in zip(*columns, strict=True):
                rows[trade_id] = (price, size, side, (ts_event - _EPOCH) // _MICROSECOND)
        return rows

    def _absent(self, market: MarketProof, status: dict[str, Any]) -> None:
        """Judge a market that Silver has no trade of: it is too young, or its trades were lost."""
        first = next(iter(self._recorded.pages(market.venue, market.symbol, status["first_id"])))[0][1]
        made_at = _EPOCH + first[3] * _MICROSECOND
        if (self._snapshot_at - made_at).total_seconds() > LATE_SECONDS:
            market.missing = int(status["recorded"])
            made = f"{count_of(market.missing, 'trade')} recorded since {made_at:%Y-%m-%d %H:%M:%S}"
            market.faults.append(f"{_name(market)}: {made}, none in Silver")

    def _states(self, missing: IdRanges) -> str:
        """Write missing ids by their state in the ledger: `2 open by the ledger: 5–6; 1 not in the ledger: 9`."""
        found: dict[str, IdRanges] = {}
        for first, last in missing:
            left = IdRanges([(first, last)])
            for row in self._ledger:
                for part in left.within(row.first_id, row.last_id) if row.last_id >= row.first_id else ():
                    found.setdefault(f"{row.state} by the ledger", IdRanges()).add(*part)
                    left.remove(*part)
            for part in left:
                found.setdefault("not in the ledger", IdRanges()).add(*part)
        return "; ".join(f"{ids.count():,} {state}: {named(ids)}" for state, ids in sorted(found.items()))


def _tell(progress: Callable[[str], None], number: int, markets: int, market: MarketProof) -> None:
    progress(f"market {number} of {markets}, {_name(market)}: {market.equal:,} trades equal")


def _name(market: MarketProof) -> str:
    return f"{market.venue} {market.symbol}"


def _text(content: Content) -> str:
    price, size, side, ts_event = content
    return f"{side} {size.normalize():f} at {price.normalize():f}, {ts_event}"
