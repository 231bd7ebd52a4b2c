"""A rejected trade gets the symbol that it had, or stays in quarantine: its name is never split by a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli.replay import lines
from lakehouse.exchanges.model import Rejected, encode
from lakehouse.exchanges.registry import venue
from lakehouse.lake.table_io import append_rows
from lakehouse.replay.judge import judge_rejected
from lakehouse.replay.run import replay
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from tests.replay.test_replay import quarantined
from tests.support.exchange_samples import BINANCE, COINBASE, KRAKEN, TS_INGEST, Sample
from tests.support.rows import empty_lake, trade_row


def message(sample: Sample, native: str, symbol: str | None = None, **changes: str) -> bytes:
    """Ingest's message about a good trade that it could not read; without a symbol, as older ones, if that is None."""
    raw = sample.payload(symbol=json.dumps(native, ensure_ascii=False), **changes)
    value = encode(Rejected(sample.venue, "bad_side", "of an older parser", raw, TS_INGEST, symbol))
    if symbol is None:
        assert value.endswith(b',"symbol":null}')
        value = value.removesuffix(b',"symbol":null}') + b"}"
    return value


def settings(*symbols: str) -> Settings:
    return load_settings(symbols=symbols)


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """A lake with trades of some symbols at Binance; BTC/USDT is subscribed today."""
    made = empty_lake(tmp_path / ".lakehouse" / "demo").model_copy(update={"symbols": ("BTC/USDT",)})
    stored = ("BN/BUSD", "ABC/NEWCOIN", "币安人生/USDT", "AB/CD", "ABC/D")
    rows = [
        trade_row(number, symbol=symbol, native_symbol=symbol.replace("/", "")) for number, symbol in enumerate(stored)
    ]
    append_rows(made, SILVER_TRADES, [*rows, trade_row(9, venue="coinbase", symbol="X/YZ", native_symbol="X-YZ")])
    return made


@pytest.mark.parametrize(
    ("sample", "native", "had"),
    [
        (BINANCE, "BNBUSD", "BN/BUSD"),  # today BNB/USD is subscribed
        (BINANCE, "BNBUSD", "BNB/USD"),
        (BINANCE, "币安人生USDT", "币安人生/USDT"),
        (KRAKEN, "AAPLx/USD", "AAPLx/USD"),
        (COINBASE, "AAPLx-USD", "AAPLx/USD"),
    ],
)
def test_the_message_says_which_symbol_it_had(sample: Sample, native: str, had: str) -> None:
    verdict = judge_rejected(message(sample, native, had), settings("BNB/USD", "XRP/USD"))
    assert (verdict.outcome, verdict.trades) == ("sent", 1)
    (produced,) = verdict.produce
    trade = json.loads(produced.value)
    assert (produced.key, trade["symbol"], trade["native_symbol"]) == (had.encode(), had, native)


@pytest.mark.parametrize(
    ("sample", "native", "had", "detail"),
    [
        (KRAKEN, "AAPLx/USD", "AAPLX/USD", "found a trade of AAPLx/USD; expected AAPLX/USD, the symbol that it had"),
        (BINANCE, "BNBUSD", "XRP/USD", "found symbol 'BNBUSD'; expected the name of one symbol that is subscribed"),
        (COINBASE, "BTC-USD", "junk", "found a trade of BTC/USD; expected junk, the symbol that it had"),
        (BINANCE, "BTCUSD", "junk", "symbol 'junk'; expected BASE/QUOTE"),
    ],
)
def test_another_symbol_than_it_had_stays(sample: Sample, native: str, had: str, detail: str) -> None:
    verdict = judge_rejected(message(sample, native, had), settings("BNB/USD", "BTC/USD"))
    assert (verdict.outcome, verdict.produce) == ("bad", ())
    assert verdict.detail.startswith(detail)


@pytest.mark.parametrize(
    ("native", "subscribed", "symbol"),
    [
        ("BTCUSDT", (), "BTC/USDT"),
        ("ABCNEWCOIN", (), "ABC/NEWCOIN"),  # of the trades in Silver
        ("币安人生USDT", (), "币安人生/USDT"),
        ("XAUUSDT", ("XAU/USDT",), "XAU/USDT"),
        ("BNBUSD", (), "BN/BUSD"),
        ("BNBUSD", ("BNB/USD",), None),  # subscribed as the one today, stored as the other
        ("ABCD", (), None),  # stored as both
        ("ETHUSDT", (), None),  # never heard of
        ("XYZ", (), None),  # another venue's
    ],
)
def test_a_message_of_an_older_release_goes_by_what_is_known(
    lake: Settings, native: str, subscribed: tuple[str, ...], symbol: str | None
) -> None:
    known = lake.model_copy(update={"symbols": (*lake.symbols, *subscribed)})
    verdict = judge_rejected(message(BINANCE, native), known)
    assert [one.key for one in verdict.produce] == ([symbol.encode()] if symbol else [])
    if symbol is None:
        assert verdict.outcome == "bad"
        assert f"found symbol '{native}'" in verdict.detail
        assert verdict.detail.endswith("expected the name of one symbol that is subscribed")


def test_without_a_lake_the_settings_tell(tmp_path: Path) -> None:
    bare = load_settings(home=tmp_path, symbols="BTC/USDT")
    assert judge_rejected(message(BINANCE, "BTCUSDT"), bare).produce[0].key == b"BTC/USDT"
    assert judge_rejected(message(BINANCE, "ABCNEWCOIN"), bare).outcome == "bad"


def test_the_command_says_why_something_stays(lake: Settings) -> None:
    place: dict[str, Any] = {"rule": "rejected:unknown_symbol", "kafka_topic": "crypto.trades.rejected"}
    values = [message(BINANCE, native) for native in ("ABCNEWCOIN", "ABCD", "ETHUSDT")]
    append_rows(
        lake, SILVER_QUARANTINE, [quarantined(number, value_raw=value, **place) for number, value in enumerate(values)]
    )
    assert lines(replay(lake, dry_run=True)) == [
        "rejected:unknown_symbol: 3 open, 1 would be sent, 0 noise, 2 still bad",
        "  the first that stays: found symbol 'ABCD', which may be AB/CD or ABC/D; expected the name of one symbol "
        "that is subscribed",
        "1 messages would be settled, 1 trades would be sent",
    ]


@pytest.mark.parametrize(
    ("sample", "native", "changes"),
    [
        (BINANCE, "币安人生USDT", {"price": '"-1"'}),
        (KRAKEN, "币安人生/USDT", {"side": '"hold"'}),
        (COINBASE, "币安人生-USDT", {"time": '"yesterday"'}),
    ],
)
def test_ingest_says_the_symbol_of_what_it_rejects(sample: Sample, native: str, changes: dict[str, str]) -> None:
    frame = sample.frame(symbol=json.dumps(native), **changes)
    (bad,) = venue(sample.venue, ["币安人生/USDT", "BTC/USDT"]).parse(frame, TS_INGEST)
    assert isinstance(bad, Rejected)
    assert bad.symbol == "币安人生/USDT"
