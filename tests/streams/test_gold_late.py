"""A trade hours late changes exactly the rows that it should, and reads only the files around it; when bars are final.

Over a Silver whose files the test itself writes, on real Spark.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from lakehouse.lake.table_io import active_tables, append_rows, ensure_tables, open_table, sql
from lakehouse.rebuild.gold import rebuild_days
from lakehouse.settings import BAR_SIZES, Settings
from lakehouse.streams.gold_rows import places_of
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamRunner
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.conftest import SettingsFactory
from tests.support.rows import NOON_US, trade_row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

MINUTE_US = 60_000_000
MINUTES = 300
LATE = 60
NOON = dt.datetime.fromtimestamp(NOON_US / 1_000_000, dt.UTC)
SYMBOLS = (("binance", "BTC/USDT"), ("kraken", "BTC/USDT"), ("binance", "ETH/USDT"))
Rows = dict[tuple[str, str, int], dict[str, Any]]


def market(venue: str, symbol: str, first: int, minutes: int) -> list[dict[str, Any]]:
    """Two trades a minute, with the ids 2n and 2n + 1, but for the one that comes late."""
    rows = []
    for minute in range(first, first + minutes):
        for place in (0, 1):
            at = NOON_US + minute * MINUTE_US + place * 20_000_000
            price = Decimal(100 + minute % 7 + place)
            rows.append(trade_row(2 * minute + place, at, venue=venue, symbol=symbol, price=price))
    return [row for row in rows if not is_late(row)]


def is_late(row: dict[str, Any]) -> bool:
    return (row["venue"], row["symbol"], row["trade_id"]) == ("binance", "BTC/USDT", 2 * LATE + 1)


def late_trade() -> dict[str, Any]:
    """The last trade of its minute, 20 % above the others."""
    at = NOON_US + LATE * MINUTE_US + 20_000_000
    return trade_row(2 * LATE + 1, at, venue="binance", symbol="BTC/USDT", price=Decimal(130))


def gold(settings: Settings) -> dict[str, Rows]:
    found = {}
    for table in active_tables(settings):
        if table.layer == "gold":
            rows = sql(settings, "SELECT * FROM t", t=table)
            found[table.path] = dict(zip(places_of(table, rows).tuples(), rows.to_pylist(), strict=True))
    return found


def wait_for(look: Callable[[], bool], runner: StreamRunner, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        runner.check()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def has_read_all(settings: Settings) -> bool:
    newest = open_table(settings, SILVER_TRADES).version()
    gold_batch = sql(settings, "SELECT max(source_end) AS at FROM t WHERE query = 'gold'", t=batches()).to_pylist()
    return f'"version": {newest}' in (gold_batch[0]["at"] or "")


def batches() -> Any:
    from lakehouse.tables import OPS_BATCHES

    return OPS_BATCHES


@pytest.fixture
def lake(spark: SparkSession, settings_factory: SettingsFactory) -> Settings:
    settings = settings_factory(trigger="1 second", bar_sizes=BAR_SIZES)
    ensure_tables(settings)
    return settings


def hide(settings: Settings, table: Any, unless: Callable[[dt.datetime, dt.datetime], bool], column: str) -> int:
    """Move the files away whose times are not wanted; how many."""
    opened = open_table(settings, table)
    files = pa.table(opened.get_add_actions(flatten=True)).to_pylist()
    folder, moved = Path(settings.lake) / table.path, 0
    for file in files:
        if not unless(file[f"min.{column}"], file[f"max.{column}"]):
            path = folder / file["path"]
            path.rename(path.with_suffix(".hidden"))
            moved += 1
    return moved


def test_a_late_trade_changes_exactly_its_rows_and_reads_only_around_it(lake: Settings) -> None:
    for key in SYMBOLS:
        for hour in range(MINUTES // 60):
            append_rows(lake, SILVER_TRADES, market(*key, hour * 60, 60))
        append_rows(lake, SILVER_TRADES, market(*key, 3 * 1440, 60))  # another day
    with StreamRunner(lake, ("gold",)) as runner:
        wait_for(lambda: has_read_all(lake), runner)
        before = gold(lake)

        def around(first: dt.datetime, last: dt.datetime) -> bool:
            return first < NOON + dt.timedelta(minutes=LATE + 1) and last >= NOON + dt.timedelta(minutes=LATE)

        # Files of other hours of Silver, and of other days of Gold, are not there to be read.
        assert hide(lake, SILVER_TRADES, around, "ts_event") == 3 * (MINUTES // 60 + 1) - 3
        assert hide(lake, GOLD_BARS_1M, lambda first, _: first < NOON + dt.timedelta(days=1), "bar_start") > 0
        append_rows(lake, SILVER_TRADES, [late_trade()])
        wait_for(lambda: has_read_all(lake), runner)
    for hidden in Path(lake.lake).rglob("*.hidden"):
        hidden.rename(hidden.with_suffix(".parquet"))
    after = gold(lake)

    minute = NOON_US + LATE * MINUTE_US
    binance = ("binance", "BTC/USDT")
    day = NOON_US - NOON_US % (1440 * MINUTE_US)
    expected = {
        # The minute after it begins with the id after the late one: now it is proved to be complete.
        "gold/bars_1m": {(*binance, minute), (*binance, minute + MINUTE_US)},
        "gold/bars_5m": {(*binance, minute)},
        "gold/bars_15m": {(*binance, minute)},
        "gold/bars_1h": {(*binance, minute)},
        "gold/bars_1d": {(*binance, day)},
        "gold/indicators_1m": {(*binance, minute + number * MINUTE_US) for number in range(60)},
        "gold/moves": {(*binance, minute)},
        "gold/spreads_1m": {("BTC", "USDT", minute)},
    }
    changed = {
        path: {place for place in {*before[path], *rows} if before[path].get(place) != rows.get(place)}
        for path, rows in after.items()
    }
    assert changed == expected
    for path, places in expected.items():
        for place in places:
            was, now = before[path].get(place), after[path][place]
            assert now["revision"] == (was["revision"] + 1 if was else 1), (path, place)
    assert (len(before["gold/moves"]), len(after["gold/moves"])) == (0, 1)
    assert after["gold/bars_1m"][*binance, minute]["complete"]
    assert not before["gold/bars_1m"][*binance, minute]["complete"]
    behind = [rows["gold/bars_1m"][*binance, minute + MINUTE_US] for rows in (before, after)]
    assert {name for name in behind[0] if behind[0][name] != behind[1][name]} == {"complete", "revision", "updated_at"}


def test_a_rebuild_repairs_what_is_wrong_and_touches_nothing_else(lake: Settings) -> None:
    for key in SYMBOLS:
        append_rows(lake, SILVER_TRADES, market(*key, 0, MINUTES))
        append_rows(lake, SILVER_TRADES, market(*key, 3 * 1440, 60))
    append_rows(lake, SILVER_TRADES, [late_trade()])
    materialize(lake, ("gold",), timeout=120)
    before = gold(lake)
    day = NOON.date()

    unchanged = rebuild_days(lake, day, day + dt.timedelta(days=3))
    assert gold(lake) == before
    assert not any(changes.any for changes in unchanged.rows.values())
    assert unchanged.rows["gold/bars_1m"].rows == len(before["gold/bars_1m"])

    for path, rows in before.items():
        table = next(table for table in active_tables(lake) if table.path == path)
        first = "venue" if "venue" in table.column_names else "base"
        opened = open_table(lake, table)
        if path in ("gold/bars_1d", "gold/moves"):
            opened.delete()
            continue
        opened.delete(f"{first} IN ('kraken', 'ETH')")
        surplus = dict(next(iter(rows.values())))
        append_rows(lake, table, [surplus | {first: "nobody"}])
        price = next(name for name in ("close", "price_binance") if name in table.column_names)
        opened = open_table(lake, table)
        opened.update({price: f"{price} + 1"}, predicate=f"{first} <> 'nobody'")
    assert gold(lake) != before
    repaired = rebuild_days(lake, day, day + dt.timedelta(days=3), run_id="by hand")

    content = {
        path: {
            place: {name: value for name, value in row.items() if name not in ("revision", "updated_at", "is_final")}
            for place, row in rows.items()
        }
        for path, rows in gold(lake).items()
    }
    for path, rows in before.items():
        assert content[path].keys() == rows.keys()
        for place, row in rows.items():
            assert content[path][place] == {name: row[name] for name in content[path][place]}, (path, place)
    assert all(changes.any for changes in repaired.rows.values())
    recorded = sql(lake, "SELECT * FROM t WHERE run_id = 'by hand'", t=batches()).to_pylist()
    assert [(row["query"], row["rows_in"], row["batch_id"] < 0) for row in recorded] == [
        ("gold", 0, True)
    ] * 2  # a day each

    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[0], MINUTES, 2))
    materialize(lake, ("gold",), timeout=120)  # the stream goes on where it was
    assert len(gold(lake)["gold/bars_1m"]) == len(before["gold/bars_1m"]) + 2


def test_a_rebuild_in_many_slices_leaves_bars_alone_that_lie_across_them(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars of a day whose symbols trade at noon, one in the evening only, and none in most of the slices."""
    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[0], 0, 10))
    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[1], 600, 10))
    materialize(lake, ("gold",), timeout=120)
    before = gold(lake)
    monkeypatch.setattr("lakehouse.rebuild.gold.SLICE_TRADES", 6)
    rebuilt = rebuild_days(lake, NOON.date(), NOON.date())
    assert rebuilt.slices == 8
    assert gold(lake) == before
    assert not any(changes.any for changes in rebuilt.rows.values())


def test_a_bar_is_final_when_its_symbol_has_traded_past_it(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[0], 0, 3))
    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[1], 0, 1))
    materialize(lake, ("gold",), timeout=120)
    final = {place: row["is_final"] for place, row in gold(lake)["gold/bars_1m"].items()}
    # The newest trade of Binance is at 2:20, thirty seconds past no bar's end but the first two's.
    assert [final[(*SYMBOLS[0], NOON_US + n * MINUTE_US)] for n in range(3)] == [True, False, False]
    assert not final[(*SYMBOLS[1], NOON_US)]

    append_rows(lake, SILVER_TRADES, market(*SYMBOLS[0], 3, 4))
    materialize(lake, ("gold",), timeout=120)
    rows = gold(lake)
    final = {place: row["is_final"] for place, row in rows["gold/bars_1m"].items()}
    assert [final[(*SYMBOLS[0], NOON_US + n * MINUTE_US)] for n in range(7)] == [True] * 5 + [False] * 2
    assert rows["gold/bars_5m"][*SYMBOLS[0], NOON_US]["is_final"]
    assert rows["gold/bars_1m"][*SYMBOLS[0], NOON_US]["revision"] == 1


def test_the_clock_makes_the_last_bar_of_an_idle_market_final(spark: SparkSession, kafka_settings: Settings) -> None:
    """No trade comes any more, and everything received has been read: by the clock, without a new revision."""
    from tests.support.messages import send, trade

    settings = kafka_settings.model_copy(update={"trigger": "1 second", "final_after_seconds": 2.0})
    now = time.time_ns() // 1_000
    send(settings, settings.topic_trades, [trade(trade_id=1, ts_event=now - 50_000_000, ts_ingest=now)])
    with StreamRunner(settings) as runner:
        wait_for(lambda: bool(gold(settings)["gold/bars_1m"]), runner)
        wait_for(lambda: all(row["is_final"] for row in gold(settings)["gold/bars_1m"].values()), runner)
        (row,) = gold(settings)["gold/bars_1m"].values()
        assert dt.datetime.now(dt.UTC) >= row["bar_start"] + dt.timedelta(seconds=62)
        assert (row["revision"], row["complete"]) == (1, False)
