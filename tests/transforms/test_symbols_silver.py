"""Silver's recogniser and its judge go by the rule of `market.symbols`, to the character."""

from __future__ import annotations

import json
import re
from random import Random

from lakehouse.market.symbols import MAX_ASSET, SYMBOL_FORM, canonical_symbol
from tests.support.judged_rows import judged
from tests.support.messages import trade
from tests.support.recognised_rows import recognised

#: Each character where the rule changes its mind, and its neighbours; letters that Unicode 14 to 16 brought; others.
EDGES = [
    0x2D, 0x2E, 0x2F, 0x30, 0x39, 0x3A, 0x40, 0x41, 0x5A, 0x5B, 0x5E, 0x5F, 0x60, 0x61, 0x7A, 0x7B, 0x7F, 0x80, 0xA0,
    0xA1, 0xAC, 0xAD, 0xAE, 0x34F, 0x61C, 0x115F, 0x1160, 0x1680, 0x17B4, 0x180B, 0x180F, 0x2000, 0x200B, 0x200F,
    0x2010, 0x2028, 0x202F, 0x2030, 0x205F, 0x206F, 0x2070, 0x2800, 0x3000, 0x3001, 0x3164, 0xD7FF, 0xE000, 0xF8FF,
    0xF900, 0xFE00, 0xFE0F, 0xFE10, 0xFEFF, 0xFF00, 0xFFA0, 0xFFEF, 0xFFF0, 0xFFFF, 0x10000, 0x1F680, 0x10570, 0x1E4D0,
    0x16D40, 0x20000, 0x323AF, 0xDFFFF, 0xE0000, 0xE0041, 0xFFFFF, 0x10FFFF,
]  # fmt: skip
NAMES = [
    "币安人生/USDT",
    "AAPLx/USD",
    "BRK.Bx/USD",
    "btc/usdt",
    "btc/USDT",
    "BTC/usd",
    "华" * 20 + "/A",
    "华" * 21 + "/A",
]


def names(count: int) -> list[str]:
    """Names of which about half are symbols."""
    rng = Random(19)
    near = [chr(code + by) for code in EDGES for by in (-1, 0, 1) if 0x20 < code + by < 0x110000]
    near = [one for one in near if not 0xD800 <= ord(one) < 0xE000]  # no message can hold one
    found = NAMES + [name for one in near for name in (f"A{one}/B", f"{one}/B", f"A/{one}c", f"{one}x/B")]
    common = "ABCxyz019._"
    while len(found) < count:
        assets = [
            "".join(
                rng.choice(near if rng.random() < 0.02 else common) for _ in range(rng.choice((1, 2, 3, 4, 5, 20, 21)))
            )
            for _ in range(2)
        ]
        found.append("/".join(assets))
    return found


def test_both_readers_take_what_is_a_symbol_and_nothing_else() -> None:
    tried = names(2_000)
    is_symbol = re.compile(SYMBOL_FORM).fullmatch
    expected = [bool(is_symbol(name)) for name in tried]
    assert 400 < sum(expected) < 1_600
    values = [trade(symbol=name, trade_id=number) for number, name in enumerate(tried, 1)]
    rows = judged(values)
    taken = recognised([json.dumps(value, ensure_ascii=False).encode() for value in values])
    assert {row["rule"] for row in rows.quarantine.to_pylist()} == {"bad_symbol"}
    assert {row["kafka_offset"]: row["symbol"] for row in rows.trades.to_pylist()} == {
        place: name for place, name in enumerate(tried) if expected[place]
    }
    for place, name in enumerate(tried):
        assert place not in taken or (expected[place] and taken[place]["symbol"] == name), ascii(name)


def test_what_settings_accept_silver_accepts() -> None:
    accepted = set()
    for name in names(4_000):
        try:
            accepted.add(canonical_symbol(name))
        except ValueError:
            continue
    assert len(accepted) > 800
    assert max(len(asset) for symbol in accepted for asset in symbol.split("/")) == MAX_ASSET
    assert judged([trade(symbol=symbol) for symbol in sorted(accepted)]).trades.num_rows == len(accepted)
