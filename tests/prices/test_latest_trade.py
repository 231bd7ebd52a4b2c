"""A trade is sent live if Silver takes it: the same messages and the same judge as for the parser of the streams."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from random import Random

import pytest

from lakehouse.prices.latest_trade import read_trade
from tests.support.wire_messages import KAFKA_US, LATEST_US, judged, message


@pytest.mark.parametrize("seed", range(8))
def test_only_what_silver_takes_and_as_it_takes_it(seed: int) -> None:
    rng = Random(seed)
    taken = good = 0
    for _ in range(500):
        value = message(rng)
        found, wanted = read_trade(value, KAFKA_US, LATEST_US), judged(value)
        good += wanted is not None
        if found is None:
            continue
        taken += 1
        assert wanted is not None, value
        assert {name: getattr(found, name) for name in ("venue", "symbol", "trade_id", "side", "source")} == {
            name: wanted[name] for name in ("venue", "symbol", "trade_id", "side", "source")
        }
        assert (Decimal(found.price), Decimal(found.size)) == (wanted["price"], wanted["size"])
        assert dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=found.ts_event) == wanted["ts_event"]
    assert taken > 0.8 * good > 100
