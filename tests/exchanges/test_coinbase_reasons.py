"""Products that a refusal of Coinbase is about, in reasons of any length."""

from __future__ import annotations

import json
import time

import pytest

from lakehouse.exchanges.coinbase.reasons import about
from lakehouse.exchanges.model import Refused
from lakehouse.exchanges.registry import venue


@pytest.mark.parametrize("successor", ["POL-USD", "币安人生-USDT", "1INCH-EUR"])
@pytest.mark.parametrize(
    "words",
    [
        "MATIC-USD is delisted, please use {}",
        "MATIC-USD is delisted and was replaced by {}",
        "Please use {}, MATIC-USD is delisted",
        '"MATIC-USD" (see {}) is not a valid product',
        "use {} because MATIC-USD is not a valid product.",
    ],
)
def test_a_successor_is_not_refused(words: str, successor: str) -> None:
    frame = json.dumps({"type": "error", "message": "Failed to subscribe", "reason": words.format(successor)})
    (refused,) = venue("coinbase").parse(frame.encode(), 0)
    assert isinstance(refused, Refused)
    assert (refused.symbol, refused.is_final, refused.is_whole) == ("MATIC/USD", True, True)


@pytest.mark.parametrize("part", ["-", "A-", "-A(", "A-B (", "A", "A-B, ", "is delisted "])
def test_no_reason_takes_long(part: str) -> None:
    began = time.monotonic()
    about(part * 20_000 + " is delisted")
    assert time.monotonic() - began < 5  # seconds: far less than a socket's silence, far more than it takes
