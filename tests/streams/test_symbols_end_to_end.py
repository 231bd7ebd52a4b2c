"""Symbols beyond A to Z from the venue to Silver: heard, missed, repaired, and taken out of an old quarantine."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.audit.run import Options, audit
from lakehouse.broker.topics import end_offsets
from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import sql
from lakehouse.replay.run import replay
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from lakehouse.streams.materialize import materialize
from lakehouse.tables import SILVER_CONTINUITY, SILVER_QUARANTINE, SILVER_TRADES
from lakehouse.transforms import message_rules, trade_forms
from tests.replay.test_symbols import message
from tests.support.exchange_samples import BINANCE
from tests.support.ingest_runs import events_of, running, same, until_whole
from tests.support.ingest_tools import until
from tests.support.messages import send, trade
from tests.support.truth import assert_bars_equal_fold, assert_silver_equals_record, read_silver

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka]

SYMBOLS = ("币安人生/USDT", "AAPLx/USD", "BRK.Bx/EUR")


def test_they_are_recorded_and_repaired_like_any_other(
    spark: SparkSession, kafka_settings: Settings, tmp_path: Path
) -> None:
    settings = kafka_settings.model_copy(update={"symbols": SYMBOLS})
    pairs = {(venue, symbol) for venue in settings.venues for symbol in SYMBOLS}
    options = SimulatorOptions(record=tmp_path / "record", rate=1000, symbols=SYMBOLS)
    with SimulatorServer(options) as simulator, running(settings, simulator) as service:
        assert service.wait_subscribed(30) == {}
        time.sleep(1)
        simulator.fault("outage", seconds=3)  # so that Kraken's snapshot of 50 trades does not fill the gap
        until(lambda: bool(events_of(settings, "disconnected")), 30)
        until(lambda: all(one.connected for one in service.stats().venues), 60)
        until(lambda: {(one["venue"], one["symbol"]) for one in events_of(settings, "gap_opened")} == pairs, 60)
        time.sleep(1)
        simulator.pause()
        until_whole(settings, simulator, service, 120)
        same(settings, simulator)
        materialize(settings)
        report = audit(settings, Options(simulator.url, strict=True, from_beginning=True))
        assert report.exact, report
    assert assert_silver_equals_record(settings, tmp_path / "record") > 300
    rows = sql(settings, "SELECT DISTINCT venue, symbol, native_symbol, source FROM t", t=SILVER_TRADES).to_pylist()
    repaired = {(row["venue"], row["symbol"], row["native_symbol"]) for row in rows if row["source"] == "repair"}
    assert repaired == {
        *(("binance", symbol, symbol.replace("/", "")) for symbol in SYMBOLS),
        *(("kraken", symbol, symbol) for symbol in SYMBOLS),
        *(("coinbase", symbol, symbol.replace("/", "-")) for symbol in SYMBOLS),
    }
    assert sql(settings, "SELECT rule FROM t", t=SILVER_QUARANTINE).to_pylist() == []
    ledger = sql(settings, "SELECT symbol, state FROM t", t=SILVER_CONTINUITY).to_pylist()
    assert {(row["symbol"], row["state"]) for row in ledger} == {(symbol, "present") for symbol in SYMBOLS}
    assert_bars_equal_fold(settings, 1, read_silver(settings))


def test_what_an_older_rule_put_into_quarantine_comes_back(
    spark: SparkSession, kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings.model_copy(update={"symbols": ("BTC/USDT", "BNB/USD")})
    life = trade(symbol="币安人生/USDT", native_symbol="币安人生USDT", trade_id=161)
    share = trade(venue="kraken", symbol="AAPLx/USD", native_symbol="AAPLx/USD", trade_id=162)
    old = [trade(symbol="BNB/BTC", native_symbol="BNBBTC", trade_id=1), trade(symbol="BN/BUSD", trade_id=2)]
    typed = trade(symbol="btc/usdt", trade_id=163)
    send(settings, settings.topic_trades, [life, share, *old, typed])
    rejected = [
        message(BINANCE, "BNBBTC", trade_id="171"),  # Silver knows its symbol
        message(BINANCE, "BNBUSD", "BN/BUSD", trade_id="172"),  # it says its symbol
        message(BINANCE, "BNBUSD", trade_id="173"),  # subscribed today as BNB/USD, and BN/BUSD in Silver
        message(BINANCE, "BNBUSDC", trade_id="174"),  # never heard of
    ]
    send(settings, settings.topic_rejected, rejected)
    with monkeypatch.context() as patch:
        older = "[A-Z0-9]{1,20}/[A-Z0-9]{1,20}"
        patch.setattr(trade_forms, "GOOD_FORM", trade_forms.GOOD_FORM | {"symbol": older})
        rules = [
            one._replace(is_met=lambda m: bool(re.fullmatch(older, m.texts["symbol"])))
            if one.name == "bad_symbol"
            else one
            for one in message_rules.TRADE_RULES
        ]
        patch.setattr(message_rules, "TRADE_RULES", rules)
        materialize(settings)
    assert open_quarantine(settings) == {"rejected:bad_side": 4, "bad_symbol": 3}
    before = sum(end_offsets(settings.bootstrap(), [settings.topic_trades])[settings.topic_trades].values())
    report = replay(settings)
    assert (report.settled, report.trades) == (4, 4)
    assert re.search("'BNBUSD', which may be BNB/USD or BN/BUSD", report.rules["rejected:bad_side"].detail)
    assert sum(end_offsets(settings.bootstrap(), [settings.topic_trades])[settings.topic_trades].values()) == before + 4
    materialize(settings)
    stored: list[dict[str, Any]] = sql(
        settings, "SELECT symbol, native_symbol, trade_id FROM t ORDER BY trade_id", t=SILVER_TRADES
    ).to_pylist()
    assert [(row["symbol"], row["native_symbol"], row["trade_id"]) for row in stored] == [
        ("BNB/BTC", "BNBBTC", 1),
        ("BN/BUSD", "BTCUSDT", 2),
        ("币安人生/USDT", "币安人生USDT", 161),
        ("AAPLx/USD", "AAPLx/USD", 162),
        ("BNB/BTC", "BNBBTC", 171),
        ("BN/BUSD", "BNBUSD", 172),
    ]
    assert open_quarantine(settings) == {"rejected:bad_side": 2, "bad_symbol": 1}
    rows = sql(settings, "SELECT rule, symbol, value_raw FROM t WHERE venue = 'binance'", t=SILVER_QUARANTINE)
    assert {row["symbol"] for row in rows.to_pylist()} == {"币安人生/USDT", "btc/usdt", "BN/BUSD", None}
