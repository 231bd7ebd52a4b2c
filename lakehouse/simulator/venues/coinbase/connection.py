"""The server's side of Coinbase's WebSocket: matches and heartbeats (docs/venues.md). `side` is the maker's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lakehouse.simulator.connection import ClientConnection, decode
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import Frame
from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.record import Row, decimal_text
from lakehouse.simulator.times import iso_micros, now_micros
from lakehouse.simulator.transport import Transport

#: Channels that the venue has. Only matches and heartbeat are served; the others are acknowledged and silent.
CHANNELS = ("matches", "heartbeat", "ticker", "ticker_batch", "level2", "level2_batch", "full", "status", "rfq_matches")


class CoinbaseConnection(ClientConnection):
    """One client of the simulated Coinbase, at `/coinbase`; closed if it does not subscribe in time."""

    venue = "coinbase"

    def __init__(self, exchange: Exchange, transport: Transport, query: Mapping[str, str]) -> None:
        super().__init__(exchange, transport, query)
        self._channels: dict[str, dict[str, None]] = {}

    def housekeep(self) -> None:
        """Close the connection if it has not subscribed within `Timings.subscribe` seconds."""
        if not self.subscribed and self.now - self.peer.since > self.exchange.options.timings.subscribe:
            self.send({"type": "error", "message": "Failed to subscribe", "reason": "no subscription in time"})
            self.cut(1008, "no subscription in time")

    def heartbeat(self) -> None:
        """Send a heartbeat for each subscribed product (symbol), with its newest trade id.

        The id is 0 if the product never traded, or if a replayed file takes the place of its market.
        """
        time = iso_micros(now_micros())
        for product in self._channels.get("heartbeat", {}):
            instrument = self.exchange.instrument("coinbase", product)
            tape = self.exchange.markets["coinbase", instrument.symbol].tape if instrument else None
            last = tape.last.trade_id if tape and tape.last else 0
            beat = {"type": "heartbeat", "sequence": sequence(last) + 1 if last else 0, "last_trade_id": last}
            self.send(
                {**beat, "product_id": product, "time": time}, "heartbeat", instrument.symbol if instrument else ""
            )

    def received(self, text: str | bytes) -> None:
        """Handle a client's message: subscribe or unsubscribe; any other gets an error as reply.

        A request with an unknown product or channel fails as a whole.
        """
        try:
            message = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._fail("Malformed JSON", "Malformed JSON")
            return
        kind = message.get("type") if isinstance(message, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            self._fail("Failed to subscribe", f"{kind} is not a valid type")
            return
        wanted = _wanted(message)
        if not wanted:
            self._fail("Failed to subscribe", "no channels provided")
            return
        problem = self._problem(wanted) or (self._refusal_now(wanted) if kind == "subscribe" else None)
        if problem:
            self._fail("Failed to subscribe", problem)
        elif kind == "unsubscribe":
            self._unsubscribe(wanted)
        else:
            self._subscribe(wanted)

    def _problem(self, wanted: dict[str, list[str]]) -> str | None:
        for channel, products in wanted.items():
            if channel not in CHANNELS:
                return f"{channel} is not a valid channel"
            if not products and channel != "status":
                return "no product_ids provided"
            for product in products:
                if not self.playback and not self.exchange.instrument("coinbase", product):
                    is_delisted = ("coinbase", product) in self.exchange.delisted
                    return f"{product} is {'delisted' if is_delisted else 'not a valid product'}"
        return None

    def _refusal_now(self, wanted: dict[str, list[str]]) -> str | None:
        """Return the words of the first product that is refused for now, which refuse the whole request; else None."""
        for product in dict.fromkeys(product for products in wanted.values() for product in products):
            instrument = self.exchange.instrument("coinbase", product)
            refusal = self.refusal(instrument.symbol, product) if instrument else None
            if refusal:
                return refusal.words
        return None

    def _subscribe(self, wanted: dict[str, list[str]]) -> None:
        new = [product for product in wanted.get("matches", []) if product not in self._channels.get("matches", {})]
        for channel, products in wanted.items():
            self._channels.setdefault(channel, {}).update(dict.fromkeys(products))
        # 1. One last_match a product, 2. the acknowledgement, 3. matches: the order in which the venue was recorded.
        for product in new:
            instrument = self.exchange.instrument("coinbase", product)
            if instrument:
                self.announce(instrument.symbol)
            self._last_match(product)
        self._acknowledge()
        for product in new:
            self._join(product)
        # A subscription to other channels only also keeps the connection open, and starts a replay.
        self.subscribed = True

    def _unsubscribe(self, wanted: dict[str, list[str]]) -> None:
        for channel, products in wanted.items():
            for product in products:
                self._channels.get(channel, {}).pop(product, None)
                instrument = self.exchange.instrument("coinbase", product)
                if channel == "matches" and instrument:
                    self.leave(instrument.symbol)
        self._acknowledge()

    def _acknowledge(self) -> None:
        channels = [
            {"name": name, "product_ids": list(products)} for name, products in self._channels.items() if products
        ]
        self.send({"type": "subscriptions", "channels": channels})

    def _last_match(self, product: str) -> None:
        instrument = self.exchange.instrument("coinbase", product)
        tape = self.exchange.markets["coinbase", instrument.symbol].tape if instrument else None
        if instrument and tape and tape.last:
            self.send(_match("last_match", instrument, tape.last).encode(), "snapshot", instrument.symbol, [tape.last])

    def _join(self, product: str) -> None:
        instrument = self.exchange.instrument("coinbase", product)
        if instrument:
            self.join(instrument.symbol)

    def _fail(self, message: str, reason: str) -> None:
        self.send({"type": "error", "message": message, "reason": reason})

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:  # noqa: ARG002
        """Encode trades of one instrument as `match` frames, one for each trade; `now` is not used."""
        symbol = instrument.symbol
        return [
            Frame(_match("match", instrument, row).encode(), "trade", symbol, row.trade_id, row.trade_id)
            for row in rows
        ]


def sequence(trade_id: int) -> int:
    """Return the sequence number of the match with a trade id.

    Numbers ascend in steps of 1 to 13, because messages of other channels share the count.
    """
    return 30_000_000_000 + trade_id * 7 + (trade_id * 2_654_435_761 >> 7) % 7


def _match(kind: str, instrument: Instrument, row: Row) -> str:
    trade_id = row.trade_id
    # The transport names the maker's side: the opposite of the taker's.
    return (
        f'{{"type":"{kind}","trade_id":{trade_id},'
        f'"maker_order_id":"{trade_id * 40503 & 0xFFFFFFFF:08x}-51ed-4a00-8000-{trade_id:012x}",'
        f'"taker_order_id":"{trade_id * 60493 & 0xFFFFFFFF:08x}-7a4e-4b00-9000-{trade_id:012x}",'
        f'"side":"{"sell" if row.buy else "buy"}",'
        f'"size":"{decimal_text(row.size, row.size_decimals)}","price":"{decimal_text(row.price, row.price_decimals)}",'
        f'"product_id":"{instrument.native}","sequence":{sequence(trade_id)},"time":"{iso_micros(row.ts_event)}"}}'
    )


def _wanted(message: dict[str, Any]) -> dict[str, list[str]]:
    """Channel → products, from channels that are names or objects with products of their own."""
    common = message.get("product_ids")
    common = [str(product) for product in common] if isinstance(common, list) else []
    wanted: dict[str, list[str]] = {}
    channels = message.get("channels")
    for channel in channels if isinstance(channels, list) else []:
        if isinstance(channel, dict):
            own = channel.get("product_ids")
            wanted[str(channel.get("name"))] = [str(product) for product in own] if isinstance(own, list) else common
        else:
            wanted[str(channel)] = common
    return wanted
