"""Gold by trade ids: batches of a stream and rebuilds agree, and a lake of the rule before gets the new one. No Spark.

The rule before was an order by (event time, id): `rule_of_before` writes such a lake.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import Transaction
from typer.testing import CliRunner

from lakehouse.cli import build_app
from lakehouse.lake import table_io
from lakehouse.rebuild.gold import rebuild_days
from lakehouse.settings import Settings
from lakehouse.streams import gold_write
from lakehouse.streams.gold import app_id
from lakehouse.streams.gold_bars import KeptParts, Since
from lakehouse.streams.gold_complete import Completeness
from lakehouse.streams.gold_final import Finality
from lakehouse.streams.gold_rows import RowChanges, places_of
from lakehouse.streams.gold_write import GoldWriter
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from lakehouse.transforms.bars import TRADE_COLUMNS, finished, fold, roll_up
from tests.support.gold_verdict import assert_gold_equals_reference, gold_tables
from tests.support.rows import NOON_US, empty_lake, trade_row, utc
from tests.support.silver_stream import tasks_of
from tests.support.truth import assert_bars_equal_fold

MINUTE_US = 60_000_000
MICROSECOND = dt.timedelta(microseconds=1)
DAY = utc(NOON_US).date()
#: Microseconds within a minute, and prices, of its three trades, by id. The first two share a millisecond. Every fifth
#: minute a repair brings the second with no more than that, so that by time it would be the first, and a move down.
TIMES = (400, 900, 30_000_000)
PRICES = (100, 104, 101)
MARKETS = (("binance", "BTC/USDT"), ("kraken", "BTC/USDT"))


class Stream:
    """The Gold of a stream that has just started, batch by batch."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.kept = settings, KeptParts()
        self.completeness = Completeness.at(settings, self.version())
        self.finality = Finality.of_tables(settings)
        self.changes: dict[str, RowChanges] = {}

    def version(self) -> int:
        return table_io.open_table(self.settings, SILVER_TRADES).version()

    def batch(self, rows: Sequence[dict[str, Any]]) -> None:
        before = self.version()
        table_io.append_rows(self.settings, SILVER_TRADES, list(rows))
        schema = table_io.arrow_schema(SILVER_TRADES)
        parts = fold(pa.Table.from_pylist(list(rows), schema=schema).select(TRADE_COLUMNS))
        for row in rows:
            self.finality.saw((row["venue"], row["symbol"]), (row["ts_event"] - utc(0)) // MICROSECOND)
        self.completeness.read_up_to(self.settings, self.version())
        of_silver = Transaction(app_id(self.settings), self.version())
        tasks = tasks_of(self.settings)
        writer = GoldWriter(self.settings, self.completeness, self.finality, of_silver, tasks, self.kept)
        due = self.completeness.take_due()
        writer.minutes(places_of(GOLD_BARS_1M, parts), due, Since(before, parts))
        self.finality.write()
        self.changes = writer.changes


def trade(venue: str, symbol: str, minute: int, place: int, by_rest: bool = False) -> dict[str, Any]:
    at = NOON_US + minute * MINUTE_US + TIMES[place]
    at -= at % 1_000 if by_rest else 0
    source = "repair" if by_rest else "live"
    price = Decimal(PRICES[place] + minute % 3)
    return trade_row(3 * minute + place + 1, at, venue=venue, symbol=symbol, price=price, source=source)


def markets(minutes: range) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trades of the socket, and those of a repair: the second trade of every fifth minute."""
    places = [(*key, minute, place) for key in MARKETS for minute in minutes for place in range(3)]
    missed = [place for place in places if place[2] % 5 == 0 and place[3] == 1]
    live = [trade(*place) for place in places if place not in missed]
    return live, [trade(*place, by_rest=True) for place in missed]


def gold(settings: Settings) -> dict[str, dict[Any, dict[str, Any]]]:
    found = {}
    for table in gold_tables(settings):
        rows = table_io.sql(settings, "SELECT * FROM t", t=table)
        found[table.path] = dict(zip(places_of(table, rows).tuples(), rows.to_pylist(), strict=True))
    return found


@contextmanager
def rule_of_before(trades: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Let Gold's writer make bars whose open and close are the first and last of these trades by (event time, id)."""

    def prices(bars: pa.Table, minutes: int) -> pa.Table:
        found: dict[str, list[Decimal]] = {"open": [], "close": []}
        for bar in bars.select(["venue", "symbol", "bar_start"]).to_pylist():
            end = bar["bar_start"] + dt.timedelta(minutes=minutes)
            within = sorted(
                (row["ts_event"], row["trade_id"], row["price"])
                for row in trades
                if (row["venue"], row["symbol"]) == (bar["venue"], bar["symbol"])
                and bar["bar_start"] <= row["ts_event"] < end
            )
            found["open"].append(within[0][2])
            found["close"].append(within[-1][2])
        for name, values in found.items():
            place = bars.schema.get_field_index(name)
            bars = bars.set_column(place, bars.schema.field(name), pa.array(values, bars.schema.field(name).type))
        return bars

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gold_write, "finished", lambda parts: prices(finished(parts), 1))
        patch.setattr(gold_write, "roll_up", lambda bars, minutes: prices(roll_up(bars, minutes), minutes))
        yield


def silver(settings: Settings) -> pa.Table:
    return table_io.sql(settings, f"SELECT {', '.join(TRADE_COLUMNS)} FROM t", t=SILVER_TRADES)


@pytest.mark.parametrize("seed", range(4))
def test_a_repair_in_any_batch_gives_the_bars_of_the_socket_and_of_a_rebuild(tmp_path: Path, seed: int) -> None:
    settings, rng = empty_lake(tmp_path), Random(seed)
    stream = Stream(settings)
    waiting: list[dict[str, Any]] = []
    for first in range(0, 12, 3):
        live, repaired = markets(range(first, first + 3))
        waiting += repaired
        rng.shuffle(waiting)
        now = waiting[: rng.randrange(len(waiting) + 1)]
        waiting = waiting[len(now) :]
        stream.batch(rng.sample([*live, *now], len(live) + len(now)))
    if waiting:
        stream.batch(waiting)
    socket = [trade(*key, minute, place) for key in MARKETS for minute in range(12) for place in range(3)]
    as_sent = [row | {"ts_event": (row["ts_event"] - utc(0)) // MICROSECOND} for row in socket]
    for minutes in (1, 5):
        assert assert_bars_equal_fold(settings, minutes, as_sent) == 2 * -(-12 // minutes)
    assert_gold_equals_reference(settings, silver(settings), settled=False)
    written = gold(settings)
    assert not any(changes.any for changes in rebuild_days(settings, DAY, DAY).rows.values())
    assert gold(settings) == written


def test_a_lake_of_the_rule_before_goes_on_and_is_rebuilt_by_one_command(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    live, repaired = markets(range(12))
    last = trade(*MARKETS[0], 5, 1, by_rest=True)
    before = [row for row in repaired if row != last]
    with rule_of_before([*live, *before]):
        old = Stream(settings)
        old.batch(live)
        old.batch(before)
    was = gold(settings)

    # The streams of today begin with nothing but the tables. The minute that they touch is folded anew, whole.
    stream = Stream(settings)
    stream.batch([last])
    here, there = ((*key, NOON_US + 5 * MINUTE_US) for key in MARKETS)
    between = gold(settings)
    for path in ("gold/bars_1m", "gold/bars_5m"):
        assert (between[path][here]["open"], between[path][there]["open"]) == (102, 106)
        assert between[path][there] == was[path][there]

    command = ["rebuild", "gold", "--from", f"{DAY}", "--home", str(settings.home)]
    told = CliRunner().invoke(build_app(), command)
    assert told.exit_code == 0, told.output
    assert_gold_equals_reference(settings, silver(settings), settled=False)
    now = gold(settings)
    changed = {
        path: {place for place in {*rows, *between[path]} if rows.get(place) != between[path].get(place)}
        for path, rows in now.items()
    }
    wrong = {(*key, NOON_US + minute * MINUTE_US) for key in MARKETS for minute in (0, 5, 10)} - {here}
    # Closes were right, and so are indicators and spreads.
    nothing: set[Any] = set()
    assert changed == {
        "gold/bars_1m": wrong, "gold/bars_5m": wrong, "gold/indicators_1m": nothing, "gold/moves": wrong,
        "gold/spreads_1m": nothing,
    }  # fmt: skip
    for path in ("gold/bars_1m", "gold/bars_5m"):
        for place in wrong:
            assert now[path][place]["revision"] == between[path][place]["revision"] + 1, (path, place)
    assert now["gold/moves"] == {}
    assert "gold/bars_1m: 24 rows, of them 0 new and 5 changed; 0 deleted" in told.output
    assert "0 new and 0 changed" in CliRunner().invoke(build_app(), command).output
    assert gold(settings) == now
