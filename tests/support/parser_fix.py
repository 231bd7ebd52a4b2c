"""A parser that refuses a market until it is fixed, messages of two markets, and a poller of Silver."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.tables import (
    SILVER_TRADES,
)
from lakehouse.transforms import message_rules, wire
from tests.support.messages import NEW_YEAR, send, trade, trades
from tests.support.silver_judge import Row, rows

DAY_US = 86_400_000_000


@contextlib.contextmanager
def parser(refused: str, rule: str = "bad_market") -> Iterator[None]:
    """A parser that refuses one market."""
    more = message_rules.Rule(rule, lambda m: m.texts["native_symbol"] != refused, lambda _: "found another market")

    def leave_all(messages: pa.Table, _: Settings) -> wire.Recognised:
        """A recogniser takes nothing that the new rules might refuse."""
        return wire.Recognised(table_io.arrow_schema(SILVER_TRADES).empty_table(), np.ones(messages.num_rows, np.bool_))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "recognise", leave_all)
        patch.setattr(message_rules, "TRADE_RULES", (*message_rules.TRADE_RULES, more))
        yield


def event(kind: str, first: int, last: int) -> Row:
    fields = {"venue": "binance", "event": kind, "ts_event": NEW_YEAR, "connection_id": "c1", "symbol": "BTC/USDT"}
    return {**fields, "first_id": first, "last_id": last, "detail": ""}


def of_market(native: str, day: int, *numbers: int, **changes: Any) -> list[Row]:
    at = NEW_YEAR + day * DAY_US
    fields = {"venue": "kraken", "symbol": f"{native[:-4]}/USDT", "native_symbol": native} | changes
    return [trade(trade_id=number, ts_event=at + number * 1_000_000, **fields) for number in numbers]


def fed(settings: Settings) -> None:
    """Two batches with everything in them. ODDUSDT is refused at first, GONEUSDT after the fix."""
    rng, good = random.Random(3), trades(60, seed=40, step=2_400_000_000)
    rng.shuffle(good)
    btc = {"venue": "binance", "symbol": "BTC/USDT"}
    first = [
        *good[:40],
        *of_market("ODDUSDT", 3, 1, 2, 3, 5),
        *of_market("GONEUSDT", 4, 1, 2, 3),
        *of_market("GONEUSDT", 0, 500, **btc),
        *of_market("ODDUSDT", 0, 501, **btc),
        b"junk",
    ]
    second = [
        *good[30:],
        *rng.sample(good, 10),
        *(one | {"price": "1"} for one in good[:3]),
        *of_market("BTCUSDT", 0, 500, price="2", **btc),
        *of_market("BTCUSDT", 0, 501, **btc),
        *of_market("GONEUSDT", 5, 2, price="7"),
        None,
    ]
    for part, events in (
        (first, [event("gap_opened", 490, 499), b"junk"]),
        (second, [event("gap_unavailable", 495, 496)]),
    ):
        send(settings, settings.topic_trades, part)
        send(settings, settings.topic_feed_events, events)
        materialize(settings)


class Poller(threading.Thread):
    """Reads silver/trades again and again; `seen` are the contents that it saw."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.settings, self.seen, self.done = settings, set[frozenset[Any]](), threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            there = rows(self.settings, SILVER_TRADES, "venue, symbol, trade_id, kafka_offset")
            self.seen.add(frozenset(tuple(row.values()) for row in there))

    def __enter__(self) -> Poller:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join(30)
