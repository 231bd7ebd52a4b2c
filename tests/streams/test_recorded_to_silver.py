"""Real recorded frames through socket, Kafka and Spark: what stands in the files is what Silver holds.

The truth is read from the files with `json` alone. Skipped where the recordings are not at hand.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakehouse.exchanges.model import Side
from lakehouse.ingest.service import IngestService
from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.recorded_symbols import replay_symbols
from lakehouse.simulator.server import SimulatorServer
from lakehouse.streams.materialize import materialize
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from tests.support.ingest_tools import until
from tests.support.truth import assert_bars_equal_fold

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.spark,
    pytest.mark.kafka,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recorded frames are not at hand"),
]


def replay(file: Path, settings: Settings, record: Path) -> Settings:
    """Play a file to ingest as fast as it goes until all of it is in Kafka, then bring every table up to date."""
    venue, symbols = replay_symbols(file)
    with SimulatorServer(SimulatorOptions(record=record, venues=(venue,), replays=(file,), speed=0)) as simulator:
        settings = settings.model_copy(update={"simulator_url": simulator.url, "venues": (venue,), "symbols": symbols})
        service = IngestService(settings)
        service.start()
        try:
            until(lambda: all(replayed["ended"] for replayed in simulator.status()["replays"]), 60)
            wait_until_quiet(service)
        finally:
            assert service.stop(10) == 0
    materialize(settings)
    return settings


def wait_until_quiet(service: IngestService, seconds: float = 1.0) -> None:
    """Until ingest has had nothing to do for so long: all frames have been sent by then."""
    counted: tuple[tuple[int, int], ...] = ()
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        now = tuple((venue.produced, venue.rejected) for venue in service.stats().venues)
        if now != counted:
            counted, since = now, time.monotonic()
        time.sleep(0.05)


def micros(at: dt.datetime) -> int:
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def coinbase_truth(file: Path) -> list[TrueTrade]:
    trades = []
    for line in file.read_text().splitlines():
        stamp, _, frame = line.partition(": ")
        if not frame or "<" in stamp or ('"match"' not in frame and '"last_match"' not in frame):
            continue
        trade = json.loads(frame)
        at = dt.datetime.fromisoformat(trade["time"].replace("Z", "+00:00"))
        taker: Side = "sell" if trade["side"] == "buy" else "buy"  # the feed names the maker's side
        symbol = trade["product_id"].replace("-", "/")
        price, size = Decimal(trade["price"]), Decimal(trade["size"])
        trades.append(TrueTrade("coinbase", symbol, trade["trade_id"], price, size, taker, micros(at)))
    return sorted(trades, key=lambda trade: (trade.symbol, trade.trade_id))


def test_coinbase_gives_its_107_trades(spark: SparkSession, kafka_settings: Settings, tmp_path: Path) -> None:
    file = DATA / "coinbase-2021-04-17.ws"
    settings = replay(file, kafka_settings, tmp_path / "record")
    truth = coinbase_truth(file)
    assert len(truth) == 97 + 10
    rows = sql(settings, "SELECT * FROM t ORDER BY symbol, trade_id", t=SILVER_TRADES).to_pylist()
    names = ("venue", "symbol", "trade_id", "price", "size", "side")
    assert [TrueTrade(**{n: r[n] for n in names}, ts_event=micros(r["ts_event"])) for r in rows] == truth
    assert sorted(row["source"] for row in rows) == ["live"] * 97 + ["snapshot"] * 10
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes, truth)


def test_binance_us_gives_no_trade(spark: SparkSession, kafka_settings: Settings, tmp_path: Path) -> None:
    settings = replay(DATA / "binance-us-aggtrade-2021-10-12.ws", kafka_settings, tmp_path / "record")
    for table in (SILVER_TRADES, SILVER_QUARANTINE):
        assert sql(settings, "SELECT count(*) AS n FROM t", t=table).to_pylist() == [{"n": 0}]


def test_kraken_v1_gives_rejected_records(spark: SparkSession, kafka_settings: Settings, tmp_path: Path) -> None:
    settings = replay(DATA / "kraken-v1-2021-04-17.ws", kafka_settings, tmp_path / "record")
    assert sql(settings, "SELECT count(*) AS n FROM t", t=SILVER_TRADES).to_pylist() == [{"n": 0}]
    rules = sql(settings, "SELECT rule, venue FROM t", t=SILVER_QUARANTINE).to_pylist()
    assert rules == [{"rule": "rejected:no_trade_id", "venue": "kraken"}] * 10
