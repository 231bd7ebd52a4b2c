"""The form of a symbol: one rule, held against settings, the venues and the simulator."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.errors import SettingError
from lakehouse.exchanges.history import Reply, Request
from lakehouse.exchanges.kraken.rest import trades_request
from lakehouse.exchanges.model import Rejected, Trade
from lakehouse.exchanges.registry import VENUES, venue
from lakehouse.market.symbols import MAX_ASSET, canonical_symbol
from lakehouse.settings import load_settings
from lakehouse.simulator.record import file_of
from lakehouse.simulator.venues.binance.names import split_native
from tests.support.exchange_samples import BINANCE, COINBASE, KRAKEN, TS_INGEST
from tests.support.simulator_support import client, running

BINANCE_LIFE, XSTOCK = "币安人生/USDT", "AAPLx/USD"
SAMPLE = {"binance": BINANCE, "kraken": KRAKEN, "coinbase": COINBASE}
#: Half of what is drawn is no symbol.
MANY = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
EACH_VENUE = pytest.mark.parametrize("name", VENUES)

#: Names as people and venues may write them, good ones and others.
ASSETS = st.text(
    st.sampled_from("abcxyzABCXYZ0189._-/ \x00") | st.characters(), min_size=1, max_size=MAX_ASSET + 2
) | st.sampled_from(["币安人生", "AAPLx", "BRK.Bx", "XBT", "xdg", "e\u0301", "i\u0307", "1000SATS", "我踏马来了"])
NAMES = st.builds("{}{}{}".format, ASSETS, st.sampled_from("/-"), ASSETS)


@st.composite
def symbols(draw: st.DrawFn) -> str:
    """The symbol that settings make of a name that they accept."""
    name = draw(NAMES)
    try:
        return canonical_symbol(name)
    except ValueError:
        assume(False)
        raise


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        (BINANCE_LIFE, BINANCE_LIFE),
        ("币安人生-usdt", BINANCE_LIFE),
        ("我踏马来了/USDT", "我踏马来了/USDT"),
        (XSTOCK, XSTOCK),
        ("AAPLx-usd", XSTOCK),
        ("BRK.Bx/USD", "BRK.Bx/USD"),
        ("btc/USDT", "BTC/USDT"),  # asset by asset
        ("aaplx/usd", "AAPLX/USD"),  # another asset: no name of one is in small letters alone
        ("xBt/USD", "xBt/USD"),
        ("xbt/usd", "BTC/USD"),
        ("A_B.C/1", "A_B.C/1"),
        ("cafe\u0301/eur", "CAFÉ/EUR".replace("É", "é")),
        ("🚀/USDT", "🚀/USDT"),
        ("A" * 20 + "/" + "华" * 20, "A" * 20 + "/" + "华" * 20),
    ],
)
def test_names_keep_the_case_of_the_venue(name: str, symbol: str) -> None:
    assert canonical_symbol(name) == symbol
    assert load_settings(symbols=f"{name}, {symbol}").symbols == (symbol,)


@pytest.mark.parametrize(
    "name",
    [
        "A-B/USD",
        "BTC-USDT-SWAP",
        ".A/USD",
        "_/USD",
        "A" * 21 + "/USD",
        "华" * 21 + "/USD",
        "BTC\u00a0/USD",
        "BTC\u200b/USD",
        "\u202eBTC/USD",
        "\ufeffBTC/USD",
        "BTC\x1f/USD",
        "BTC/USD\n",
        "BTC/USD\x85",
        "BTC/USD\udc80",  # a byte of an environment variable that is no UTF-8
        "BTC/\U000e0041",
        "BTC//USD",
        "BTC|ETH/USD",
    ],
)
def test_what_is_no_symbol_is_one_line(name: str) -> None:
    with pytest.raises(SettingError) as error:
        load_settings(symbols=(name,))
    assert str(error.value).startswith(f"setting symbols (LAKEHOUSE_SYMBOLS): symbol {name!r}; expected BASE/QUOTE")
    assert str(error.value).isprintable()


def test_no_character_that_cannot_be_seen_is_part_of_a_name() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cs", "Co", "Zs", "Zl", "Zp"):
            with pytest.raises(ValueError, match="expected BASE/QUOTE"):
                canonical_symbol(f"A{character}/USD")


@given(symbols())
@example("İ/USD")
@MANY
def test_a_symbol_means_itself(symbol: str) -> None:
    assert canonical_symbol(symbol) == symbol
    assert unicodedata.is_normalized("NFC", symbol)
    started = load_settings(symbols=(symbol,))
    assert load_settings(symbols=started.environment()["LAKEHOUSE_SYMBOLS"] if "," not in symbol else symbol) == started


@EACH_VENUE
@given(symbol=symbols(), other=symbols())
@MANY
def test_the_name_of_a_symbol_is_that_symbol(name: str, symbol: str, other: str) -> None:
    """A name goes to the venue and comes back in a trade as the same symbol, in a bad trade too."""
    asked = venue(name)
    assume(asked.native(symbol) != asked.native(other) or symbol == other)
    knowing = venue(name, [symbol, other])
    native = asked.native(symbol)
    assert knowing.canonical(native) == symbol
    (trade,) = knowing.parse(SAMPLE[name].frame(symbol=json.dumps(native, ensure_ascii=False)), TS_INGEST)
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.native_symbol) == (symbol, native)
    (bad,) = knowing.parse(SAMPLE[name].frame(symbol=json.dumps(native), trade_id="-1"), TS_INGEST)
    assert isinstance(bad, Rejected)
    assert (bad.reason, bad.symbol) == ("bad_trade_id", symbol)


@EACH_VENUE
def test_a_bad_row_of_a_history_says_its_symbol(name: str) -> None:
    rows = {
        "binance": b'[{"id":1}]',
        "kraken": b'{"error":[],"result":{"X":[[1]],"last":"1"}}',
        "coinbase": b'[{"a":1}]',
    }
    page = VENUES[name].history(XSTOCK, 1, 1, None, None).take(Reply(200, {}, rows[name], TS_INGEST))
    assert [value.symbol for value in page.rejected] == [XSTOCK]


def test_what_the_venues_are_asked_for() -> None:
    binance, kraken, coinbase = VENUES["binance"], VENUES["kraken"], VENUES["coinbase"]
    # XChange pull request 5243: the address has to be percent-encoded, or the handshake fails.
    life = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade"
    assert f"streams={life}&" in binance.websocket_url(None, [BINANCE_LIFE])
    assert json.loads(binance.subscribe([BINANCE_LIFE])[0])["params"] == ["币安人生usdt@trade"]
    assert binance.newest(BINANCE_LIFE).params["symbol"] == "币安人生USDT"
    assert json.loads(kraken.subscribe([XSTOCK])[0])["params"]["symbol"] == [XSTOCK]
    assert coinbase.newest(BINANCE_LIFE).path.isascii()


def test_an_address_of_long_names_stays_within_the_limit() -> None:
    long = [f"{number:03d}{'华' * 17}/USDT" for number in range(200)]
    address = VENUES["binance"].websocket_url(None, long)
    assert 7_000 < len(address) < 8_004
    assert address.count("usdt@trade") == address.count("/") - 2  # three of the address, none after the last stream
    assert sum(len(json.loads(one)["params"]) for one in VENUES["binance"].subscribe(long)) == 200


@pytest.mark.parametrize(
    ("symbol", "params"),
    [
        ("AAPLx/USD", {"pair": "AAPLxUSD", "asset_class": "tokenized_asset"}),
        ("BRK.Bx/EUR", {"pair": "BRK.BxEUR", "asset_class": "tokenized_asset"}),
        ("AVAX/USD", {"pair": "AVAXUSD"}),
        ("XBT/USDT", {"pair": "XBTUSDT"}),
    ],
)
def test_krakens_rest_is_told_what_is_a_share(symbol: str, params: dict[str, str]) -> None:
    """Kraken's "Get Recent Trades": `asset_class` is required for pairs that are not of coins."""
    assert trades_request(symbol, None, None).params == params


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("btcusdt", "BTC/USDT"),
        ("BTCFDUSD", "BTC/FDUSD"),
        ("PEPEFDUSD", "PEPE/FDUSD"),  # not PEPEFD/USD
        ("TUSDUSDT", "TUSD/USDT"),
        ("BNBUSD", "BNB/USD"),  # not BN/BUSD
        ("xdgusdt", "DOGE/USDT"),
        ("币安人生usdt", BINANCE_LIFE),
    ],
)
def test_a_recorded_name_is_split_by_its_quote_asset(name: str, symbol: str) -> None:
    """Only the names in a recorded file, which says nothing else."""
    assert split_native(name) == symbol


@EACH_VENUE
@pytest.mark.parametrize("symbol", [BINANCE_LIFE, XSTOCK, "BRK.Bx/EUR", "LÉON/USDT"])
def test_the_simulator_lists_it(name: str, symbol: str, tmp_path: Any) -> None:
    """Over real sockets: subscribed as we subscribe, trades that we read, and a history under the name we ask for."""
    asked, base = venue(name, [symbol]), {"binance": "/binance", "kraken": "/kraken", "coinbase": "/coinbase"}[name]
    with running(tmp_path, venues=(name,), symbols=(symbol, "BTC/USDT")) as server:
        address = asked.websocket_url(server.url, [symbol]).removeprefix(server.ws_url)
        with client(server, address) as socket:
            for message in asked.subscribe([symbol]):
                socket.send(message.decode())
            trades: list[Trade] = []
            while not trades:
                trades = [one for one in asked.parse(socket.raw().encode(), TS_INGEST) if isinstance(one, Trade)]
        assert {(one.symbol, one.native_symbol) for one in trades} == {(symbol, asked.native(symbol))}
        assert server.record.count(name, symbol) > 0
        assert file_of(tmp_path, name, symbol).exists()
        assert (name, symbol) in [*server.record.keys()]
        assert asked.newest_id(_get(f"{server.url}{base}", asked.newest(symbol))) is not None


def test_the_simulator_knows_a_share_only_by_its_own_name(tmp_path: Any) -> None:
    with running(tmp_path, venues=("kraken",), symbols=(XSTOCK,)) as server:
        root = f"{server.url}/kraken"
        for params in ({"pair": "AAPLxUSD"}, {"pair": "AAPLXUSD", "asset_class": "tokenized_asset"}):
            reply = httpx.get(f"{root}/0/public/Trades", params=params)
            assert reply.json() == {"error": ["EQuery:Unknown asset pair"]}


def _get(root: str, request: Request) -> Reply:
    reply = httpx.get(f"{root}{request.path}", params=request.params, headers=request.headers)
    return Reply(reply.status_code, dict(reply.headers), reply.content, TS_INGEST)
