"""`python -m tests.support.fuzz_frames --frames 1000000 --seed 1`: no frame and no REST page makes a parser fail.

Takes frames of the simulator, of the venues' documentation and, where they lie next to the repository, recorded real
ones; spoils each from the seed; and holds what comes of it against a second reader, Python's own `json`:

- a frame gives a list of known values, never an exception; a trade's fields are in range and are those of its `raw`;
- where both readers can read the frame, each trade object in it gives exactly one Trade or Rejected;
- a frame that cannot be read gives one Rejected; a REST page that cannot be read gives a VenueError or TerminalError.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import msgspec

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.history import Reply
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Rejected, Shutdown, Subscribed, Trade, encode
from lakehouse.exchanges.registry import VENUES
from tests.support.exchange_samples import READERS, SAMPLES
from tests.support.fuzz_mutations import mutate

TS = 1_700_000_000_000_000
CORPUS = Path(__file__).with_suffix(".txt")
RECORDED = Path(__file__).parents[3] / "shared" / "data"
KINDS = (Trade, Rejected, Subscribed, Refused, Heartbeat, Shutdown)
REST = "-rest"
MAX_ID = 2**63 - 1
DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?").fullmatch
#: Where a trade's id, price, size and side stand in its raw text.
PLACES: dict[str, tuple[Any, Any, Any, Any]] = {
    "binance": ("t", "p", "q", "m"),
    "kraken": ("trade_id", "price", "qty", "side"),
    "coinbase": ("trade_id", "price", "size", "side"),
    "binance-rest": ("id", "price", "qty", "isBuyerMaker"),
    "kraken-rest": (6, 0, 1, 3),
    "coinbase-rest": ("trade_id", "price", "size", "side"),
}
TAKER: dict[str, dict[Any, str]] = {
    "binance": {True: "sell", False: "buy"},
    "kraken": {"buy": "buy", "sell": "sell", "b": "buy", "s": "sell"},
    "coinbase": {"buy": "sell", "sell": "buy"},
}


class BrokenPromiseError(AssertionError):
    """Raised if a parser breaks its promise about a frame."""


def corpus() -> list[tuple[str, str]]:
    """(venue, or venue-rest; frame)."""
    lines = [line.partition(" ") for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    frames = [(target, frame) for target, _, frame in lines]
    frames += [(sample.venue, sample.frame().decode()) for sample in SAMPLES.values()]
    for file in sorted(RECORDED.glob("*.ws")):
        heard = [line.partition(": ")[2] for line in file.read_text(encoding="utf-8").splitlines() if "<-" not in line]
        frames += [(file.name.partition("-")[0], frame) for frame in heard if frame[:1] in ("{", "[")][:20]
    return frames


def is_json(data: bytes) -> bool:
    """Return whether the parsers' own reader takes it for JSON, whatever its values are."""
    try:
        msgspec.json.decode(data.decode(), type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def read(data: bytes) -> tuple[Any] | None:
    """Read the bytes by Python's own reader, numbers as they are written; None if it cannot read them."""
    try:
        return (json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=_no_constant),)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def trades_in(venue: str, message: Any) -> int | None:
    """How many trade objects a readable frame holds; None where it is no trade frame."""
    if venue == "kraken" and isinstance(message, list):
        is_trade = len(message) >= 4 and message[-2] == "trade" and isinstance(message[1], list)
        return len(message[1]) if is_trade else None
    if not isinstance(message, dict):
        return None
    if venue == "kraken":
        is_trade = message.get("channel") == "trade" and isinstance(message.get("data"), list)
        return len(message["data"]) if is_trade else None
    if venue == "coinbase":
        return 1 if message.get("type") in ("match", "last_match") else None
    event = message.get("data", message)
    return 1 if isinstance(event, dict) and event.get("e") == "trade" else None


def check_frame(venue: str, frame: bytes, values: list[Parsed]) -> None:
    """Raises BrokenPromiseError unless the values keep what `Venue.parse` promises."""
    for value in values:
        require(type(value) in KINDS, f"{type(value)} is no known value")
        if isinstance(value, Trade):
            check_trade(venue, value, "snapshot" if value.source == "snapshot" else "live")
    told = [value for value in values if isinstance(value, Trade | Rejected)]
    if not is_json(frame):
        require([type(value) for value in values] == [Rejected], f"not JSON, but {values}")
        return
    readable = read(frame)
    if readable is None:  # nested too deep for this reader alone
        return
    expected = trades_in(venue, readable[0])
    if expected is None:
        require(not any(isinstance(value, Trade) for value in told) and len(told) <= 1, f"no trades, but {values}")
    else:
        require(len(told) == len(values) == expected, f"{expected} trades, but {values}")


def check_trade(target: str, trade: Trade, source: str) -> None:
    """The promises of `Trade`, and that it says what its raw text says."""
    venue = target.removesuffix(REST)
    require(trade.venue == venue and trade.source == source and trade.ts_ingest == TS, "whose trade is it")
    require(trade.symbol.count("/") == 1 and bool(trade.native_symbol), f"symbol {trade.symbol}")
    require(0 <= trade.trade_id <= MAX_ID, f"id {trade.trade_id}")
    require(1_230_000_000_000_000 < trade.ts_event < 4_102_444_800_000_000, f"time {trade.ts_event}")
    for text in (trade.price, trade.size):
        require(bool(DECIMAL(text)) and bool(text.strip("0.")), f"decimal {text}")
    raw = json.loads(trade.raw, parse_int=str, parse_float=str)
    trade_id, price, size, side = (raw[place] for place in PLACES[target])
    require(int(trade_id) == trade.trade_id, f"id {trade.trade_id} of {trade_id}")
    require(TAKER[venue][side] == trade.side, f"side {trade.side} of {side}")
    for text, written in ((trade.price, price), (trade.size, size)):
        require(text == written or Decimal(text) == Decimal(written), f"decimal {text} of {written}")


def check_page(target: str, body: bytes, first: int, last: int, counts: Counter[str]) -> None:
    """A reply to a walk: each row is a trade, a rejected record, told already, or outside the range."""
    venue = target.removesuffix(REST)
    history = VENUES[venue].history("BTC/USDT", first, last, TS, None)
    try:
        page = history.take(Reply(200, {}, body, TS))
    except (VenueError, TerminalError):
        counts["refused"] += 1
        return
    for trade in page.trades:
        check_trade(target, trade, "repair")
    ids = [trade.trade_id for trade in page.trades]
    require(ids == sorted(set(ids)) and all(first <= one <= last for one in ids), f"ids {ids}")
    missing = history.missing
    require(not any(one in missing for one in ids), "delivered and missing")
    require(missing.count() + len(ids) == last - first + 1, "neither delivered nor missing")
    require(all(missing.covers(*part) for part in history.unavailable), "unavailable, but not missing")
    told = Counter([trade.raw for trade in page.trades] + [value.raw for value in page.rejected])
    rows = rows_of(venue, body)
    require(told.total() <= len(rows), "more values than rows")
    # A row that is not told is out of the range, or has the id of one that is.
    untold = Counter(rows) - told
    if (first, last) == (0, MAX_ID):
        again = [row for row in untold if read_id(target, row) in ids or row in told]
        require(len(again) == len(untold), f"{untold} untold")
    counts["trades"] += len(page.trades)
    counts["rejected"] += len(page.rejected)


def rows_of(venue: str, body: bytes) -> list[str]:
    """The rows of a page, verbatim."""
    if venue == "kraken":
        result = msgspec.json.decode(
            msgspec.json.decode(body, type=dict[str, msgspec.Raw])["result"], type=dict[str, msgspec.Raw]
        )
        (body,) = (bytes(value) for key, value in result.items() if key != "last")
    return [bytes(row).decode() for row in msgspec.json.decode(body, type=list[msgspec.Raw])]


def read_id(target: str, row: str) -> int:
    """The id of a row that is a trade."""
    return int(json.loads(row, parse_int=str, parse_float=str)[PLACES[target][0]])


def require(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenPromiseError(what[:2000])


def run(frames: int, seed: int, counts: Counter[str]) -> list[tuple[str, bytes, Exception]]:
    """Spoil and parse so many frames. Returns those that broke a promise, with the exception; ten at most."""
    rng = Random(seed)
    sources = corpus()
    broken: list[tuple[str, bytes, Exception]] = []
    for _ in range(frames):
        target, frame = rng.choice(sources)
        data = mutate(rng, frame)
        span = rng.choice(((0, MAX_ID), (0, MAX_ID), (4359500479, 4359500481), (96442370, 10**9)))
        counts["frames"] += 1
        try:
            if target.endswith(REST):
                check_page(target, data, *span, counts)
            else:
                values = READERS[target].parse(data, TS)
                check_frame(target, data, values)
                count(values, counts)
        except Exception as error:  # the very thing that is looked for
            counts["broken" if isinstance(error, BrokenPromiseError) else "exceptions"] += 1
            broken.append((target, data, error))
            if len(broken) == 10:
                break
    return broken


def count(values: Sequence[Parsed], counts: Counter[str]) -> None:
    """Count the values, and that each can be put on the wire."""
    for value in values:
        if isinstance(value, Trade | Rejected):
            counts["trades" if isinstance(value, Trade) else "rejected"] += 1
            encode(value)
        else:
            counts["control"] += 1
    if not values:
        counts["ignored"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz_frames", description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    began = time.monotonic()
    broken = run(options.frames, options.seed, counts)
    seconds = time.monotonic() - began
    for target, data, error in broken:
        print(f"{target}: {type(error).__name__}: {error}\n  {data!r}", file=sys.stderr)
    names = ("frames", "trades", "rejected", "control", "ignored", "refused", "broken", "exceptions")
    told = ", ".join(f"{name} {counts[name]:,}" for name in names)
    print(f"seed {options.seed}: {told}; {counts['frames'] / seconds:,.0f} frames/s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
