"""A small lake with its checkpoints and Kafka data, recorded by the code of one commit for the tests of later ones.

    git worktree add /tmp/before COMMIT     and an environment in it: make -C /tmp/before .venv
    cd /tmp/before && PYTHONPATH=. .venv/bin/python -P THIS_FILE ARCHIVE

This file is run by the old code and imported by the new one, so it uses only what both have. The messages come from a
seed; `tests/golden/README.md` says what is in the archive.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from lakehouse.settings import Settings, load_settings

SEED = 22
THREE = ("bronze", "silver", "gold")
#: Stages of the recording. All layers have read the first two, Silver the third, Bronze the fourth, nobody the fifth.
RECORDED = 5
#: Ways in which the streams were stopped: between batches, or by kill -9 within one of each layer.
STOPS = ("stopped", "killed")
#: Where each layer was killed, as `tests.faults.hooks` names it; last layer first, so each has a batch to do.
KILLS = ("gold.minute", "silver.trades", "bronze.table")

TRADES, REJECTED, EVENTS = "crypto.trades", "crypto.trades.rejected", "crypto.feed_events"
#: 2026-01-01 00:00:00 UTC in microseconds, and a stage's time: stages share no minute, late trades apart.
NEW_YEAR = 1_767_225_600_000_000
STAGE_US = 180_000_000
MARKETS = [(venue, symbol) for venue in ("binance", "kraken", "coinbase") for symbol in ("BTC/USDT", "ETH/USDT")]
#: Trades of a market in a stage.
STAGE_TRADES = 20
#: Trades in lax JSON in a stage that has some.
LAX = 5


class Message(NamedTuple):
    """A message to send. `expected`: trade, event, the rule that refuses it, or lax, which strict JSON is not."""

    stage: int
    topic: str
    key: str | None
    value: bytes | None
    expected: str


class Sent(NamedTuple):
    """A message and where it is in Kafka; `ts_kafka` is in milliseconds since the epoch."""

    message: Message
    partition: int
    offset: int
    ts_kafka: int


#: Change of a good trade → the rule that refuses it. None leaves a field out.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"side": None, "size": None}, "missing_field"),
    ({"venue": "Binance!"}, "bad_venue"),
    ({"symbol": "BTCUSDT"}, "bad_symbol"),
    ({"native_symbol": ""}, "bad_native_symbol"),
    ({"trade_id": "12a"}, "bad_trade_id"),
    ({"trade_id": -7}, "bad_trade_id"),
    ({"price": "1e5"}, "bad_price"),
    ({"price": {"a": [1, 2]}}, "bad_price"),
    ({"size": "NaN"}, "bad_size"),
    ({"price": "0.00"}, "price_not_positive"),
    ({"size": 0}, "size_not_positive"),
    ({"price": "1000000000000"}, "price_out_of_range"),
    ({"size": "1000000000000000.5"}, "size_out_of_range"),
    ({"price": "99999999999", "size": "99999999999"}, "notional_out_of_range"),
    ({"side": "b\u00e9i"}, "bad_side"),
    ({"source": "guess"}, "bad_source"),
    ({"ts_event": 1_767_225_600}, "bad_event_time"),
    ({"ts_ingest": "x" * 150}, "bad_ingest_time"),
    ({"ts_event": 4_102_444_800_123_456}, "event_in_the_future"),
]
JUNK: list[tuple[bytes | None, str]] = [(None, "no_value"), (b"junk", "not_json"), (b"[]", "not_json")]
JUNK += [(one, "not_json") for one in (b"", b'[{"venue":"binance"}]', b"{}", b'{"venue":null}')]


class Market:
    """Seeded messages, a stage after the other: the same calls give the same messages."""

    def __init__(self) -> None:
        self._rng = random.Random(SEED)
        self._stage = 0
        self._next = {market: 1_000 * place + 1 for place, market in enumerate(MARKETS)}
        self._good: list[dict[str, Any]] = []
        self._held: dict[str, list[dict[str, Any]]] = {}

    def next_stage(self) -> list[Message]:
        """The messages of the next stage, counted from 1, in the order in which they are sent."""
        self._stage += 1
        known = list(self._good)
        new = [
            trade for number in range(STAGE_TRADES) for market in MARKETS for trade in [self._trade(*market, number)]
        ]
        found = [*self._gaps(new)]
        withheld = {self._key(trade) for held in self._held.values() for trade in held}
        new = [trade for trade in new if self._key(trade) not in withheld]
        found += [self._of(trade) for trade in new]
        again = self._rng.sample(known or new, 12)
        found += [self._of(trade | {"source": "snapshot", "ts_ingest": trade["ts_ingest"] + 5}) for trade in again]
        found += [self._of(trade | {"price": "0.5"}, "conflict") for trade in self._rng.sample(known or new, 3)]
        if self._stage in (2, 4, 6):
            found += self._refused()
        if self._stage in (1, 5):
            found += self._lax()
        if self._stage == 2:  # a good copy of the first of them: a duplicate until strict JSON is asked for
            found.append(self._of(self._held.pop("lax")[0]))
        self._good += new
        return found

    def _trade(self, venue: str, symbol: str, number: int) -> dict[str, Any]:
        trade_id = self._next[venue, symbol]
        self._next[venue, symbol] += 1
        at = NEW_YEAR + self._stage * STAGE_US + number * STAGE_US // STAGE_TRADES + self._rng.randrange(1000)
        price = 4_000_000 + self._rng.randrange(200_000)
        return {
            "venue": venue,
            "symbol": symbol,
            "native_symbol": symbol.replace("/", "-"),
            "trade_id": trade_id,
            "price": f"{price // 100}.{price % 100:02d}",
            "size": f"0.{self._rng.randrange(1, 1000):03d}",
            "side": self._rng.choice(("buy", "sell")),
            "ts_event": at,
            "ts_ingest": at + 700,
            "source": "live",
            "raw": "{}",
        }

    @staticmethod
    def _key(trade: dict[str, Any]) -> tuple[str, str, int]:
        return trade["venue"], trade["symbol"], trade["trade_id"]

    def _of(self, trade: dict[str, Any], expected: str = "trade") -> Message:
        """One in ten is not in ingest's own form: with spaces, which the template leaves to the judge."""
        separators = (", ", ": ") if str(trade["trade_id"]).endswith("8") else (",", ":")
        fields = {name: value for name, value in trade.items() if value is not None}
        value = json.dumps(fields, separators=separators).encode()
        return Message(self._stage, TRADES, str(trade.get("symbol")), value, expected)

    def _event(self, event: str, held: list[dict[str, Any]] | None = None, **changes: Any) -> Message:
        expected = changes.pop("expected", "event")
        at = NEW_YEAR + (self._stage + 1) * STAGE_US
        fields: dict[str, Any] = {"venue": "kraken", "event": event, "ts_event": at, "connection_id": "c-1"}
        if held:
            fields |= {"venue": held[0]["venue"], "symbol": held[0]["symbol"]}
            fields |= {"first_id": held[0]["trade_id"], "last_id": held[-1]["trade_id"]}
        value = json.dumps(fields | {"detail": f"stage {self._stage}"} | changes).encode()
        return Message(self._stage, EVENTS, fields["venue"], value, expected)

    def _gaps(self, new: list[dict[str, Any]]) -> list[Message]:
        """Gaps that open in the odd places of some stages, and what becomes of them two stages later."""
        found = [self._event("connected"), self._event("subscribed", symbol="BTC/USDT")]
        opened = {1: ("late", 0), 2: ("gone", 2), 4: ("mended", 5), 5: ("open", 1)}
        if self._stage in opened:
            name, market = opened[self._stage]
            of_market = [trade for trade in new if (trade["venue"], trade["symbol"]) == MARKETS[market]]
            self._held[name] = of_market[8:12]
            found.append(self._event("gap_opened", self._held[name]))
        if self._stage == 3:
            found += self._repaired("late")
            found.append(self._event("gap_unavailable", self._held["gone"]))
        if self._stage == 6:
            found += self._repaired("mended")
            found.append(self._of(self._held["gone"][1] | {"source": "repair"}))  # it comes after all
        return found

    def _repaired(self, name: str) -> list[Message]:
        held = self._held.pop(name)
        sent = [self._of(trade | {"source": "repair", "ts_event": trade["ts_event"] // 1000 * 1000}) for trade in held]
        return [*sent, self._event("gap_repaired", held)]

    def _refused(self) -> list[Message]:
        good = self._trade(*MARKETS[0], 0)
        self._next[MARKETS[0]] -= 1
        found = [self._of(good | changes, rule) for changes, rule in REFUSED]
        found += [Message(self._stage, TRADES, "none", value, rule) for value, rule in JUNK]
        frame = json.dumps({"venue": "kraken", "reason": "not_json", "detail": "found x", "raw": "x", "ts_ingest": 1})
        for raw, rule in (
            (frame.encode(), "rejected:not_json"),
            (b"?", "rejected:unknown"),
            (b"{}", "rejected:unknown"),
        ):
            found.append(Message(self._stage, REJECTED, "kraken", raw, rule))
        found.append(self._event("gap_opened", first_id="x", expected="bad_gap"))
        found.append(self._event("connected", venue=None, expected="missing_field"))
        found.append(self._event("connected", ts_event=4_102_444_800_000_000, expected="event_in_the_future"))
        return found

    def _lax(self) -> list[Message]:
        """Good trades in what only a lax reader takes for JSON; ids of one market, each once."""
        trades = [self._trade(*MARKETS[3], number) | {"raw": "?"} for number in range(LAX)]
        self._held["lax"] = trades
        behind, quotes, nan, byte, surrogate = (json.dumps(trade).encode() for trade in trades)
        values = [behind + b" x", quotes.replace(b'"', b"'"), nan.replace(b'"?"', b"NaN")]
        values += [byte.replace(b"?", b"\xff"), surrogate.replace(b"?", b"\\ud800")]
        return [Message(self._stage, TRADES, MARKETS[3][1], value, "lax") for value in values]


def send(settings: Settings, messages: list[Message], place: Callable[[Message], int] = lambda _: -1) -> list[Sent]:
    """Send messages in their order and return them with their places; `place` may name a partition for one."""
    sent: list[Sent] = []
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for message in messages:

        def report(error: Any, at: Any, message: Message = message) -> None:
            assert error is None, error
            sent.append(Sent(message, at.partition(), at.offset(), at.timestamp()[1]))

        producer.produce(message.topic, message.value, message.key, partition=place(message), on_delivery=report)
    assert producer.flush(30) == 0
    order = {id(message): number for number, message in enumerate(messages)}
    return sorted(sent, key=lambda one: order[id(one.message)])


def to_line(sent: Sent) -> str:
    """A sent message as a line of JSON; the value in base64."""
    fields = sent.message._asdict() | {"partition": sent.partition, "offset": sent.offset, "ts_kafka": sent.ts_kafka}
    value = sent.message.value
    return json.dumps(fields | {"value": None if value is None else base64.b64encode(value).decode()})


def record(archive: Path) -> None:
    """Record the lake and write the archive."""
    from lakehouse.broker.embedded import EmbeddedBroker
    from lakehouse.broker.topics import ensure_topics
    from lakehouse.streams.materialize import materialize
    from tests.faults.kill_points import die_at

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        settings = load_settings(home=home)
        with EmbeddedBroker(settings):
            ensure_topics(settings)
            _keep_for_ever(settings)
            market, sent = Market(), []
            for layers in (THREE, THREE, THREE[:2], THREE[:1], ()):
                sent += send(settings, market.next_stage())
                if layers:
                    materialize(settings, layers)
            other = home / "killed"
            killed = load_settings(home=home, lake_uri=str(other / "lake"), checkpoint_uri=str(other / "checkpoints"))
            for name in ("lake", "checkpoints"):
                shutil.copytree(home / name, other / name)
            for point in KILLS:
                die_at(point, killed, "stream", point.partition(".")[0], "--trigger", "available-now")
        (home / "messages.jsonl").write_text("".join(to_line(one) + "\n" for one in sent), encoding="utf-8")
        (home / "stopped").mkdir()
        for name in ("lake", "checkpoints"):
            (home / name).rename(home / "stopped" / name)
        _pack(home, archive)


def _keep_for_ever(settings: Settings) -> None:
    """Give the topics no end of their messages: the test is run long after their seven days."""
    change = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap(), "log_level": 0})
    topics = [ConfigResource("topic", topic, incremental_configs=[change]) for topic in (TRADES, REJECTED, EVENTS)]
    for answer in admin.incremental_alter_configs(topics).values():
        answer.result(10)


def _pack(home: Path, archive: Path) -> None:
    kept = ("broker/data", "broker/cluster-id", *STOPS, "messages.jsonl")

    def entry(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.name.endswith(("index", ".lock", ".log.old")):  # Kafka makes its indexes anew
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in kept:
            tar.add(home / name, name, filter=entry)


if __name__ == "__main__":
    record(Path(sys.argv[1]).absolute())
