"""Kraken's REST trade history: `Trades` (docs/venues.md, "Kraken")."""

from __future__ import annotations

import re

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import RestCall, RestReply
from lakehouse.simulator.history import PAGE_TRADES, History, json_reply
from lakehouse.simulator.record import Row, decimal_text

#: Kraken's REST and v1 asset names (docs/venues.md, "Kraken"), canonical → Kraken.
KRAKEN_ASSETS = {"BTC": "XBT", "DOGE": "XDG"}
#: Pairs that Kraken's REST answers under an older key than was asked for.
KRAKEN_OLD_KEYS = {
    "XBTUSD": "XXBTZUSD",
    "XBTEUR": "XXBTZEUR",
    "ETHUSD": "XETHZUSD",
    "ETHEUR": "XETHZEUR",
    "XDGUSD": "XXDGZUSD",
}

#: REST writes prices with at least five decimals, also if the socket has fewer.
PRICE_DECIMALS = 5


def trades(exchange: Exchange, call: RestCall) -> RestReply:
    """Trades: ascending, later than `since` (ns); the newest page without it. A page may end inside one timestamp."""
    pair, asset_class = call.query.get("pair", ""), call.query.get("asset_class")
    instrument = next(
        (
            one
            for one in exchange.instruments("kraken")
            if pair in _names(one.symbol, rest_name(one.symbol), result_key(one.symbol))
            and asset_class == _asset_class(one.symbol)
        ),
        None,
    )
    if instrument is None:
        return json_reply({"error": ["EQuery:Unknown asset pair"]})
    since_text, count_text = call.query.get("since", ""), call.query.get("count", str(PAGE_TRADES))
    if not re.fullmatch(r"[0-9]*(\.[0-9]*)?", since_text) or not count_text.isdecimal():
        return json_reply({"error": ["EGeneral:Invalid arguments"]})
    limit = max(1, min(PAGE_TRADES, int(count_text)))
    since = _nanoseconds(since_text)
    history = History(exchange, exchange.markets["kraken", instrument.symbol])
    if since is None:
        rows = history.page_before(history.count, limit)
    else:
        rows = history.page(history.index_after(since // 1000), limit)
    last = rows[-1].ts_event * 1000 if rows else since or 0
    shown = ",".join([rest_row(row) for row in rows])
    return RestReply(
        f'{{"error":[],"result":{{"{result_key(instrument.symbol)}":[{shown}],"last":"{last}"}}}}'.encode()
    )


def rest_name(symbol: str) -> str:
    """REST's name: `BTC/USDT` → `XBTUSDT`."""
    return "".join(KRAKEN_ASSETS.get(asset, asset) for asset in symbol.split("/"))


def result_key(symbol: str) -> str:
    """The key under which REST answers: often, but not always, the REST name."""
    return KRAKEN_OLD_KEYS.get(rest_name(symbol), rest_name(symbol))


def _asset_class(symbol: str) -> str | None:
    """The asset class that REST has to be told; None for coins. xStocks end in a small x."""
    return "tokenized_asset" if symbol.split("/")[0].endswith("x") else None


def _names(*names: str) -> set[str]:
    return {name for symbol in names for name in (symbol, symbol.replace("/", ""))}


def _nanoseconds(since: str) -> int | None:
    """`since` in ns. Kraken also takes seconds; a number below 1e12 can only be that. None if there is none."""
    if not since.strip("."):
        return None
    if "." in since or float(since) < 1e12:
        return int(float(since) * 1e9)
    return int(since)


def rest_row(row: Row) -> str:
    """A row of /0/public/Trades: price, size, epoch seconds, b or s, l or m, "", trade id."""
    padding = max(0, PRICE_DECIMALS - row.price_decimals)
    price = decimal_text(row.price * 10**padding, row.price_decimals + padding)
    return (
        f'["{price}","{decimal_text(row.size, row.size_decimals)}",{decimal_text(row.ts_event, 6)},'
        f'"{"b" if row.buy else "s"}","{"l" if row.trade_id % 3 else "m"}","",{row.trade_id}]'
    )
