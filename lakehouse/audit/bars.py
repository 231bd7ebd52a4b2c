"""Proof of the bars: every trade of Silver is in exactly one bar, and `complete` agrees with the trade ids.

Open and close must be the prices of the trades with the bar's lowest and highest id. Bars that were written before this
rule may have other prices; they are reported as faults.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from deltalake import DeltaTable

from lakehouse.audit.snapshot import Snapshot
from lakehouse.lake.table_io import open_table, sql, sql_batches
from lakehouse.quality.id_coverage import TradeIds
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES, Table

#: Microseconds of a minute. Times are binned as whole microseconds since the epoch, because DataFusion's own binning
#: ends in the year 2262.
MINUTE_US = 60_000_000
_NAMED = 3
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass
class BarsProof:
    """One table of bars at a version, compared with silver/trades.

    `trades` is the sum over the bars, `complete` the number of bars with this flag, `silver_rows` the rows of Silver;
    `wrong` counts bars whose number of trades differs from Silver's. `faults` has a sentence for each fault.
    """

    table_path: str
    version: int
    bars: int
    trades: int
    complete: int
    silver_rows: int
    wrong: int
    faults: list[str] = field(default_factory=list)


def prove_bars(settings: Settings, snapshot: Snapshot, ids: TradeIds, table: Table, minutes: int) -> BarsProof:
    """Compare one table of bars of `minutes` with silver/trades at the snapshot.

    Compared are the number of trades of each bar, `complete`, open and close. `ids` are the ids of Silver's rows at the
    snapshot.
    """
    version = snapshot.gold.version_of(table.path)
    bars = open_table(settings, table, version)
    trades = open_table(settings, SILVER_TRADES, snapshot.trades_version)
    row = sql(
        settings,
        """
        SELECT count(*) AS bars, CAST(coalesce(sum(trades), 0) AS BIGINT) AS trades,
               count(*) FILTER (WHERE complete) AS complete
        FROM bars
        """,
        bars=bars,
    ).to_pylist()[0]
    silver_rows = int(sql(settings, "SELECT count(*) AS n FROM trades", trades=trades)["n"][0].as_py())
    wrong = sql(
        settings,
        f"""
        SELECT coalesce(b.venue, t.venue) AS venue, coalesce(b.symbol, t.symbol) AS symbol,
               coalesce(b.start, t.start) AS start, coalesce(b.n, 0) AS of_bars, coalesce(t.n, 0) AS of_trades
        FROM (SELECT venue, symbol, CAST(bar_start AS BIGINT) AS start, sum(trades) AS n FROM bars
              GROUP BY venue, symbol, bar_start) b
        FULL JOIN (SELECT venue, symbol, start, count(*) AS n
                   FROM (SELECT venue, symbol,
                                CAST(ts_event AS BIGINT) - CAST(ts_event AS BIGINT) % {minutes * MINUTE_US} AS start
                         FROM trades)
                   GROUP BY venue, symbol, start) t
        ON b.venue = t.venue AND b.symbol = t.symbol AND b.start = t.start
        WHERE b.n IS NULL OR t.n IS NULL OR b.n <> t.n ORDER BY venue, symbol, start
        """,
        bars=bars,
        trades=trades,
    )
    proof = BarsProof(table.path, version, row["bars"], row["trades"], row["complete"], silver_rows, wrong.num_rows)
    for one in wrong.slice(0, _NAMED).to_pylist():
        proof.faults.append(
            f"{table.path}: the bar {one['venue']} {one['symbol']} {_utc(one['start']):%Y-%m-%d %H:%M} holds "
            f"{one['of_bars']:,} trades, silver/trades has {one['of_trades']:,}"
        )
    if wrong.num_rows > _NAMED:
        proof.faults.append(f"{table.path}: {wrong.num_rows:,} bars are wrong")
    proof.faults += _flag_faults(settings, table, version, ids)
    proof.faults += _price_faults(settings, table, bars, trades)
    if row["trades"] != silver_rows:
        proof.faults.append(f"{table.path}: the bars hold {row['trades']:,} trades, silver/trades {silver_rows:,}")
    return proof


def _flag_faults(settings: Settings, table: Table, version: int, ids: TradeIds) -> list[str]:
    """Name bars whose flag `complete` disagrees with the ids in and around them."""
    found: list[str] = []
    columns = "venue, symbol, bar_start, first_trade_id, last_trade_id, complete"
    for batch in sql_batches(settings, f"SELECT {columns} FROM bars", bars=open_table(settings, table, version)):
        for bar in batch.to_pylist():
            there = ids.of((bar["venue"], bar["symbol"]))
            if there.covers(bar["first_trade_id"] - 1, bar["last_trade_id"] + 1) != bar["complete"]:
                found.append(f"the bar {bar['venue']} {bar['symbol']} {bar['bar_start']:%Y-%m-%d %H:%M}")
    if not found:
        return []
    return [f"{table.path}: {count_of(len(found), 'flag')} `complete` not as the ids say, first {min(found)}"]


def _price_faults(settings: Settings, table: Table, bars: DeltaTable, trades: DeltaTable) -> list[str]:
    """Count bars whose open or close is not the price of their first or last id."""
    row = sql(
        settings,
        """
        SELECT count(DISTINCT (venue, symbol, bar_start)) AS wrong, min(concat(venue, ' ', symbol)) AS market,
               min(bar_date) AS first_day, max(bar_date) AS last_day
        FROM (SELECT venue, symbol, bar_start, bar_date, first_trade_id AS id, open AS price FROM bars
              UNION ALL
              SELECT venue, symbol, bar_start, bar_date, last_trade_id AS id, close AS price FROM bars) b
        LEFT ANTI JOIN trades t
        ON b.venue = t.venue AND b.symbol = t.symbol AND b.id = t.trade_id AND b.price = t.price
        """,
        bars=bars,
        trades=trades,
    ).to_pylist()[0]
    if not row["wrong"]:
        return []
    return [
        f"{table.path}: open or close of {count_of(row['wrong'], 'bar')} not the price of first_trade_id or "
        f"last_trade_id, among them {row['market']}; bars from before that rule, or changed by another hand: "
        f"`lakehouse rebuild gold --from {row['first_day']} --to {row['last_day']}` makes them anew"
    ]


def _utc(microseconds: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=microseconds)
