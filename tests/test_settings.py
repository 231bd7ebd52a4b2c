from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import BrokerUnavailableError, SettingError
from lakehouse.market.symbols import canonical_symbol
from lakehouse.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("LAKEHOUSE_"):
            monkeypatch.delenv(name)


def test_defaults_are_local() -> None:
    settings = load_settings()
    assert settings.home == Path(".lakehouse/live")
    assert settings.lake == str(Path.cwd() / ".lakehouse/live/lake")
    assert settings.checkpoints == str(Path.cwd() / ".lakehouse/live/checkpoints")
    assert settings.topics == ("crypto.trades", "crypto.trades.rejected", "crypto.feed_events")


def test_the_environment_sets_and_arguments_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_VENUES", " kraken, coinbase ,")
    monkeypatch.setenv("LAKEHOUSE_SYMBOLS", "xbt-usdt,ETH/USDT")
    monkeypatch.setenv("LAKEHOUSE_HOME", "elsewhere")
    settings = load_settings(home=tmp_path, topic_partitions=None)
    assert settings.venues == ("kraken", "coinbase")
    assert settings.symbols == ("BTC/USDT", "ETH/USDT")
    assert (settings.home, settings.topic_partitions) == (tmp_path, 6)


def test_uris_of_an_object_store_are_left_as_they_are() -> None:
    settings = load_settings(lake_uri="s3://bucket/lake", checkpoint_uri="relative/checkpoints")
    assert settings.lake == "s3://bucket/lake"
    assert settings.checkpoints == str(Path.cwd() / "relative/checkpoints")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("venues", "kraken,bitfinex", "unknown venue 'bitfinex'; expected one of binance, kraken, coinbase"),
        ("symbols", "BTCUSDT", "symbol 'BTCUSDT'; expected BASE/QUOTE such as BTC/USDT"),
        ("symbols", "BTC/", "symbol 'BTC/'; expected BASE/QUOTE"),
        ("topic_partitions", "0", "greater than or equal to 1"),
        ("topic_partitions", "many", "valid integer"),
        ("dagster_port", "65536", "less than or equal to 65535"),
        ("supervisor_seconds", "4", "greater than or equal to 5"),
        ("heartbeat_seconds", "0", "greater than 0"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}", value)
    with pytest.raises(SettingError) as error:
        load_settings()
    text = str(error.value)
    assert text.startswith(f"setting {name} (LAKEHOUSE_{name.upper()}): ")
    assert message in text
    assert "\n" not in text
    assert error.value.exit_code == 64


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.home = Path("elsewhere")


@pytest.mark.parametrize(
    ("symbol", "canonical"),
    [("XBT/USDT", "BTC/USDT"), ("xdg/usd", "DOGE/USD"), ("btc-usd", "BTC/USD"), ("1INCH/USDT", "1INCH/USDT")],
)
def test_canonical_symbols(symbol: str, canonical: str) -> None:
    assert canonical_symbol(symbol) == canonical
    assert canonical_symbol(canonical) == canonical


@pytest.mark.parametrize("symbol", ["", "BTC", "/", "BTC/USDT/X", "BTC USDT", "BTC/US DT", "B'TC/USDT"])
def test_what_is_no_symbol(symbol: str) -> None:
    with pytest.raises(ValueError, match="expected BASE/QUOTE"):
        canonical_symbol(symbol)


def test_bootstrap_is_the_set_one_or_the_embedded_brokers(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    with pytest.raises(BrokerUnavailableError, match="no Kafka bootstrap servers are set"):
        settings.bootstrap()
    settings.broker_home.mkdir(parents=True)
    (settings.broker_home / "endpoint").write_text("127.0.0.1:4321\n", encoding="utf-8")
    assert settings.bootstrap() == "127.0.0.1:4321"
    assert load_settings(home=tmp_path, bootstrap_servers="kafka:9092").bootstrap() == "kafka:9092"


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"venues": ("kraken",), "symbols": ("ETH/USDT", "BTC/USDT"), "report_seconds": 2.5},
        {"lake_uri": "s3://b/l", "simulator_url": "http://127.0.0.1:1", "broker_port": 5},
    ],
)
def test_a_child_process_gets_the_same_settings(tmp_path: Path, overrides: dict[str, Any]) -> None:
    settings = load_settings(home=tmp_path, **overrides)
    code = "from lakehouse.settings import load_settings; print(load_settings().model_dump_json())"
    environment = {"PATH": os.environ["PATH"], **settings.environment()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Settings.model_validate_json(done.stdout) == settings


def test_executors_get_the_same_places_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(home="here", api_key="k" * 40, redis_url="redis://u:secret@h:1/0", topic_trades="t")
    sent = pickle.dumps(settings.for_executors())
    assert b"secret" not in sent
    assert b"kkkk" not in sent
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = pickle.loads(sent)
    assert (there.lake, there.topic_trades) == (str(tmp_path / "here" / "lake"), "t")
    assert (there.home, there.checkpoints) == (tmp_path / "here", str(tmp_path / "here" / "checkpoints"))
