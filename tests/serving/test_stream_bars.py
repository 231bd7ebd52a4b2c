"""The stream of bars beside a Gold that changes as the streams change it, and what a look reads."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.client import Lake
from lakehouse.lake.table_io import append_rows, arrow_schema, open_table, overwrite, table_uri
from lakehouse.serving import opened, stream_bars
from lakehouse.serving.answers import Api
from lakehouse.serving.bar_changes import changed_days
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M
from tests.support.changing_bars import Bar, Gold, as_client
from tests.support.damage import lose
from tests.support.files_read import AccessTimes, are_kept
from tests.support.rows import NOON_US, bar_row, empty_lake, utc

MINUTE, DAY = 60_000_000, 86_400_000_000
KRAKEN = {"venue": "kraken", "symbol": "ETH/USD"}
FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SECONDS = 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_bars, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(opened, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(opened, "STALE_SECONDS", 0.0)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(empty_lake(tmp_path))
    yield made
    made.pool.close()
    made.tables.close()


class Client:
    """The newest state of each bar that a client has got, and all states in the order in which they came."""

    def __init__(self, stream: AsyncGenerator[dict[str, Any], None]) -> None:
        self.bars: dict[str, Bar] = {}
        self.came: list[Bar] = []
        self.is_live = False
        self._stream = stream

    async def take(self) -> None:
        """Take one message."""
        message = await asyncio.wait_for(anext(self._stream), SECONDS)
        assert message["type"] == ("live" if "rows" not in message else "bars")
        self.is_live |= message["type"] == "live"
        rows = message.get("rows", [])
        assert len(rows) <= stream_bars.ROWS
        self.came += rows
        self.bars |= {row["bar_start"]: row for row in rows}

    async def until(self, right: Callable[[], bool]) -> None:
        while not right():
            await self.take()


@contextlib.asynccontextmanager
async def client_of(api: Api, start: dt.datetime | None, size: str = "1m", venue: str = "kraken") -> Any:
    symbol = "ETH/USD" if venue == "kraken" else "BTC/USDT"
    async with contextlib.aclosing(stream_bars.parts(api, venue, symbol, size, start)) as stream:
        yield Client(stream)


def bar(minute: int, **columns: Any) -> Bar:
    return bar_row(NOON_US + minute * MINUTE, **KRAKEN | columns)


def test_every_bar_and_every_change_in_any_order_of_writes(api: Api) -> None:
    """New bars, revisions, bars that become final, joined files, and the table written anew."""
    rng, gold = random.Random(7), Gold(api.settings, GOLD_BARS_1M)
    gold.put(*(bar(number) for number in range(0, 4_000, 7)), *(bar_row(NOON_US + n * MINUTE) for n in range(50)))
    start = utc(NOON_US + 500 * MINUTE)

    def change() -> None:
        mine = [one for one in gold.bars.values() if one["venue"] == "kraken"]
        some = rng.sample(mine, rng.randint(1, 3))
        kind = rng.choice(["new", "revise", "revise", "finish", "join", "other", "anew"])
        if kind == "new":
            gold.put(*(bar(rng.randrange(6_000), close=Decimal(rng.randrange(10, 99))) for _ in range(1)))
        elif kind == "revise":
            gold.put(*(one | {"revision": one["revision"] + 1, "close": one["close"] + 1} for one in some))
        elif kind == "finish":
            gold.finish(*some)
        elif kind == "join":
            DeltaTable(table_uri(api.settings, GOLD_BARS_1M)).optimize.compact()
        elif kind == "other":
            gold.put(bar_row(NOON_US + rng.randrange(6_000) * MINUTE))
        else:
            rows = pa.Table.from_pylist(list(gold.bars.values()), schema=arrow_schema(GOLD_BARS_1M))
            overwrite(api.settings, GOLD_BARS_1M, rows)

    async def run() -> None:
        async with client_of(api, start) as client:
            await client.take()
            change()  # while the past is sent
            await client.until(lambda: client.is_live)
            for _ in range(25):
                for _ in range(rng.randint(1, 3)):
                    change()
                wanted = gold.of("kraken", start)
                await client.until(lambda wanted=wanted: client.bars == wanted) if client.bars != wanted else None
            assert len(client.came) < 3 * len(client.bars)  # not all of them again and again

    asyncio.run(run())


def test_what_has_not_changed_does_not_come_again(api: Api) -> None:
    gold = Gold(api.settings, GOLD_BARS_1M)
    gold.put(*(bar(number) for number in range(300)))
    gold.put(*(bar(number) for number in range(300, 400)))

    async def run() -> None:
        async with client_of(api, FIRST) as client:
            await client.until(lambda: client.is_live)
            assert len(client.came) == 400
            DeltaTable(table_uri(api.settings, GOLD_BARS_1M)).optimize.compact()
            gold.put(bar_row(NOON_US))  # another market
            gold.put(bar(399, revision=2))
            await client.take()
            gold.finish(bar(7))
            await client.take()
        states = [(row["bar_start"], row["revision"], row["is_final"]) for row in client.came[400:]]
        assert states == [("2026-11-01T18:39:00Z", 2, False), ("2026-11-01T12:07:00Z", 1, True)]

    asyncio.run(run())


def test_a_look_reads_only_the_files_that_changed_and_the_past_a_day_at_a_time(api: Api) -> None:
    if not are_kept(api.settings.home):
        pytest.skip("no access times here")
    gold = Gold(api.settings, GOLD_BARS_1M)
    midnight = 12 * 60
    for day in range(20):
        gold.put(*(bar(midnight + day * 1440 + number) for number in range(0, 1400, 20)))
    last = midnight + 19 * 1440 + 1_400
    for minute in (0, 10, 20):  # more files of the last day
        gold.put(*(bar(last + minute + number) for number in range(10)))
    lake = Path(api.settings.lake)

    async def run() -> None:
        async with client_of(api, FIRST) as client:
            times = AccessTimes(lake)
            await client.take()
            assert times.by_table()[GOLD_BARS_1M.path].read.files == 1
            await client.until(lambda: client.is_live)
            assert times.by_table()[GOLD_BARS_1M.path].read.files == 23
            gold.put(bar(last + 15, revision=2))
            times = AccessTimes(lake)
            await client.take()
            read = times.by_table()[GOLD_BARS_1M.path].read.files
            assert 1 <= read <= 2  # the new file, and the one in whose place it is
            assert [row["revision"] for row in client.came[20 * 70 + 30 :]] == [2]

    asyncio.run(run())


def test_clients_share_what_was_read(api: Api) -> None:
    gold = Gold(api.settings, GOLD_BARS_1M)
    gold.put(bar(1))
    before = api.tables.newest(GOLD_BARS_1M)
    gold.put(bar(1, revision=2), bar(2))
    after = api.tables.newest(GOLD_BARS_1M)
    assert changed_days(before, after, FIRST.date()) == [utc(NOON_US).date()]
    first = api.bar_changes.between(before, after, utc(NOON_US).date(), ("kraken", "ETH/USD"))
    assert [row["revision"] for row in first] == [2, 1]
    lose(api.settings, GOLD_BARS_1M)
    assert api.bar_changes.between(before, after, utc(NOON_US).date(), ("kraken", "ETH/USD")) is first


def test_files_of_the_version_before_that_are_gone(api: Api) -> None:
    """Nobody knows what has changed, so that all rows of the new files come."""
    gold = Gold(api.settings, GOLD_BARS_1M)
    gold.put(bar(1), bar(2))
    before = api.tables.newest(GOLD_BARS_1M)
    lose(api.settings, GOLD_BARS_1M)
    overwrite(
        api.settings, GOLD_BARS_1M, pa.Table.from_pylist([bar(1), bar(2, revision=2)], arrow_schema(GOLD_BARS_1M))
    )
    found = api.bar_changes.between(before, api.tables.newest(GOLD_BARS_1M), utc(NOON_US).date(), ("kraken", "ETH/USD"))
    assert [row["revision"] for row in found] == [1, 2]


@pytest.mark.parametrize("size", ["10m", "4h", "1d"])
def test_bars_that_are_rolled_up(api: Api, size: str) -> None:
    """In the end a client has what the whole range says, though quiet hours lie between bars."""
    rng, gold = random.Random(11), Gold(api.settings, GOLD_BARS_5M)
    ids = iter(range(10, 10**9, 10))
    minutes = sorted(rng.sample(range(0, 6_000, 5), 120))
    made = [bar(minute, first_trade_id=(at := next(ids)), last_trade_id=at + 9) for minute in minutes]
    old, new = made[:90], made[90:]
    gold.put(*old)
    gold.finish(*old[:80])
    start = utc(NOON_US + 33 * MINUTE)

    async def run() -> None:
        async with client_of(api, start, size) as client:
            await client.until(lambda: client.is_live)
            for number, one in enumerate(new):
                gold.put(one)
                if rng.random() < 0.5:
                    gold.finish(*(old + new)[: rng.randint(80, 88) + number])
                if rng.random() < 0.5:
                    late = gold.bars[("kraken", rng.choice(made[: 80 + number])["bar_start"])]
                    gold.put(late | {"complete": True, "revision": late["revision"] + 1})
                if number % 6:
                    continue
                rows = Lake(api.settings).bars("kraken", "ETH/USD", size=size, start=start).arrow().to_pylist()
                wanted = {row["bar_start"]: row for row in map(as_client, rows)}
                await client.until(lambda wanted=wanted: client.bars == wanted) if client.bars != wanted else None
            assert any(row["is_final"] for row in client.bars.values())
            assert any(row["complete"] for row in client.bars.values()) or size != "10m"

    asyncio.run(run())


def test_a_rolled_up_bar_that_changes_though_none_of_its_own_rows_does(api: Api) -> None:
    """It is final once a later bar is, and complete by the ids of the bar behind it."""
    gold = Gold(api.settings, GOLD_BARS_5M)
    ids = ((0, 1, 3, True), (5, 7, 8, True), (10, 4, 6, False), (100, 9, 9, False), (9_000, 10, 10, False))
    bars = [bar(at, first_trade_id=first, last_trade_id=last, complete=proved) for at, first, last, proved in ids]
    gold.put(*bars)
    gold.finish(*bars[:4])
    day = [f"2026-11-01T{time}:00Z" for time in ("12:00", "12:10", "13:40")]

    def flags(client: Client) -> list[tuple[bool, bool]]:
        return [(client.bars[at]["complete"], client.bars[at]["is_final"]) for at in day]

    async def run() -> None:
        async with client_of(api, FIRST, "10m") as client:
            await client.until(lambda: client.is_live)
            assert flags(client) == [(False, True), (False, True), (False, False)]
            gold.put(bars[2] | {"complete": True, "is_final": True})
            await client.until(lambda: flags(client)[0] == (True, True))
            gold.finish(bars[4])
            await client.until(lambda: flags(client)[2] == (False, True))
        async with client_of(api, FIRST, "10m") as client:  # the last bar is six days behind the others
            await client.until(lambda: client.is_live)
            assert [final for _, final in flags(client)] == [True, True, True]

    asyncio.run(run())


def test_a_market_without_bars_and_a_table_without_rows(api: Api) -> None:
    async def run() -> None:
        async with client_of(api, None) as client:
            await client.take()
            assert client.is_live
            now = round(dt.datetime.now(dt.UTC).timestamp() // 60) * MINUTE
            append_rows(api.settings, GOLD_BARS_1M, [bar_row(now, **KRAKEN), bar_row(now - 60 * MINUTE, **KRAKEN)])
            assert open_table(api.settings, GOLD_BARS_1M).version() == 1
            await client.take()
            assert len(client.came) == 1  # the other one began before the client's range

    asyncio.run(run())
