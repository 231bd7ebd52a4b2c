"""The simulated Kraken's REST trade history: answers `Trades` (docs/venues.md, "Kraken")."""

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

#: Fewest decimals of a price in REST, even if the socket sends fewer.
PRICE_DECIMALS = 5


def trades(exchange: Exchange, call: RestCall) -> RestReply:
    """Answer `/0/public/Trades`: trades later than `since` (ns), ascending; without `since` the newest ones.

    A page may end between trades of the same time. Errors come with status 200, as on the venue.
    """
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
    """Return the name of a canonical symbol in Kraken's REST: `BTC/USDT` → `XBTUSDT`."""
    return "".join(KRAKEN_ASSETS.get(asset, asset) for asset in symbol.split("/"))


def result_key(symbol: str) -> str:
    """Return the key of a symbol's trades in a REST reply: its `rest_name`, or an older key such as `XXBTZUSD`."""
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
    """Encode a trade as a JSON array of `/0/public/Trades`: price, size, epoch seconds, b or s, l or m, "", id."""
    padding = max(0, PRICE_DECIMALS - row.price_decimals)
    price = decimal_text(row.price * 10**padding, row.price_decimals + padding)
    return (
        f'["{price}","{decimal_text(row.size, row.size_decimals)}",{decimal_text(row.ts_event, 6)},'
        f'"{"b" if row.buy else "s"}","{"l" if row.trade_id % 3 else "m"}","",{row.trade_id}]'
    )
