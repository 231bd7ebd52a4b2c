"""Judge quarantined messages by the present rules: send them again, drop them as noise, or leave them.

The rules are the streams' own: `transforms.message_judge` for trades and feed events, the venues' parsers for texts
that ingest could not read. A message is judged as Silver will judge it when it comes again: with the present time as
Kafka's time. A trade whose time was in the future and no longer is passes only if `clocks` finds that this machine's
clock was slow: a wrong time from the venue does not become right by waiting.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.errors import SettingError
from lakehouse.exchanges.model import Rejected, Trade, encode
from lakehouse.exchanges.registry import VENUES
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.exchanges.reparse import parse_again
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.replay.clocks import Clocks
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.message_judge import Kind, kinds

#: sent: it passes now, so it is produced again. noise: the parser finds neither trade nor fault. bad: still refused.
Outcome = Literal["sent", "noise", "bad"]

#: Prefix of the rules by which ingest, not Silver, refused a message; such a message is a Rejected.
REJECTED = "rejected:"


#: Columns of silver/quarantine → those of bronze/messages, as `message_judge.kinds` wants them.
_AS_MESSAGES = {
    "kafka_topic": "topic",
    "kafka_partition": "partition",
    "kafka_offset": "offset",
    "ts_kafka": "ts_kafka",
    "key": "key",
    "value_raw": "value_raw",
}

_read_rejected = msgspec.json.Decoder(Rejected).decode


class _Market(msgspec.Struct):
    venue: str
    symbol: str


_read_market = msgspec.json.Decoder(_Market).decode


@dataclass(frozen=True)
class Produced:
    """A Kafka message to produce in a replay: its topic, key and encoded value, and the market if it is a trade."""

    topic: str
    key: bytes | None
    value: bytes
    market: MarketKey | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict on one quarantined message: its outcome, the messages to produce for it, and how many are trades.

    `detail` says why a rejected text stays in quarantine, if the present parser or the symbol is the reason.
    """

    outcome: Outcome
    produce: tuple[Produced, ...] = ()
    trades: int = 0
    is_alone: bool = False  #: bad, because the venue's other trades of that minute have no time in the future
    detail: str = field(default="", compare=False)


BAD, NOISE, ALONE = Verdict("bad"), Verdict("noise"), Verdict("bad", is_alone=True)


class KnownSymbols:
    """The canonical symbols by which a venue's names are read in a replay: those of the settings.

    If the venue's names join base and quote (`Venue.joins_names`), also the symbols of its trades in silver/trades.
    Keep one object for a whole replay: silver/trades is read once for each venue.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stored: dict[str, tuple[str, ...]] = {}

    def of(self, venue: str) -> tuple[str, ...]:
        """Return the symbols for a venue's parser, each once; it accepts no native name that two of them share."""
        if venue in VENUES and VENUES[venue].joins_names and venue not in self._stored:
            self._stored[venue] = self._read(venue)
        return tuple(dict.fromkeys((*self._settings.symbols, *self._stored.get(venue, ()))))

    def _read(self, venue: str) -> tuple[str, ...]:
        if not DeltaTable.is_deltatable(table_io.table_uri(self._settings, SILVER_TRADES)):
            return ()
        query = f"SELECT DISTINCT symbol FROM trades WHERE venue = '{venue}' ORDER BY symbol"
        return tuple(row["symbol"] for row in table_io.sql(self._settings, query, trades=SILVER_TRADES).to_pylist())


def judge(
    rows: pa.Table,
    settings: Settings,
    clocks: Clocks | None = None,
    known: KnownSymbols | None = None,
) -> list[Verdict]:
    """Judge rows of silver/quarantine; return one verdict for each, in order. Produces nothing itself.

    Pass the same `clocks` and `known` to all calls of one replay.
    """
    known = known or KnownSymbols(settings)
    verdicts = [BAD] * rows.num_rows
    messages = []
    for number, row in enumerate(rows.select(["rule", "key", "value_raw"]).to_pylist()):
        if row["rule"].startswith(REJECTED):
            verdicts[number] = judge_rejected(row["value_raw"], settings, known)
        elif row["value_raw"] is not None:
            messages.append(number)
    if messages:
        chosen = rows.take(pa.array(messages, pa.int64()))
        judged = _judge_messages(chosen, settings, clocks or Clocks(settings))
        for number, verdict in zip(messages, judged, strict=True):
            verdicts[number] = verdict
    return verdicts


def judge_rejected(value: bytes | None, settings: Settings, known: KnownSymbols | None = None) -> Verdict:
    """Judge a message (`value`) of the rejected topic: parse its text again with the venue's present parser.

    If the parser finds trades beside parts that it still rejects, both are produced, as ingest does with a frame. A
    trade must have the symbol that the message names. A message of an older release, or of a symbol that was unknown
    then, names none: its text is parsed with the `known` symbols (None: those of `settings` and the lake), and stays in
    quarantine if it is ambiguous among them.
    """
    try:
        rejected = _read_rejected(value or b"")
        venue = find_venue(rejected.venue)
    except (msgspec.MsgspecError, UnicodeDecodeError, SettingError):
        return BAD
    had = rejected.symbol
    symbols = (had,) if had else (known or KnownSymbols(settings)).of(venue.name)
    try:
        parsed = parse_again(venue.for_symbols(symbols), rejected)
    except ValueError as error:  # not written by our ingest: its symbol is none
        return Verdict("bad", detail=str(error))
    trades = [one for one in parsed if isinstance(one, Trade)]
    parts = [one for one in parsed if isinstance(one, Rejected)]
    other = next((trade for trade in trades if had and trade.symbol != had), None)
    if other is not None:
        return Verdict("bad", detail=f"found a trade of {other.symbol}; expected {had}, the symbol that it had")
    if not trades:
        return Verdict("bad", detail=parts[0].detail) if parts else NOISE
    produce = [
        Produced(settings.topic_trades, trade.symbol.encode(), encode(trade), (trade.venue, trade.symbol))
        for trade in trades
    ]
    produce += [Produced(settings.topic_rejected, part.venue.encode(), encode(part)) for part in parts]
    return Verdict("sent", tuple(produce), len(trades))


def _judge_messages(rows: pa.Table, settings: Settings, clocks: Clocks) -> list[Verdict]:
    """Judge messages of the trades and feed events topics; good ones are produced unchanged."""
    messages = rows.select(list(_AS_MESSAGES)).rename_columns(list(_AS_MESSAGES.values()))
    now = pa.repeat(pa.scalar(dt.datetime.now(dt.UTC), messages.schema.field("ts_kafka").type), rows.num_rows)
    messages = messages.set_column(messages.column_names.index("ts_kafka"), "ts_kafka", now)
    found = kinds(messages, settings)
    good = [number for number, kind in enumerate(found) if kind != "quarantine"]
    explained = clocks.explain(rows.take(pa.array(good, pa.int64())))
    alone = {number for number, is_explained in zip(good, explained, strict=True) if not is_explained}
    return [
        ALONE if number in alone else _again(row, found[number], settings)
        for number, row in enumerate(rows.to_pylist())
    ]


def _again(row: dict[str, Any], kind: Kind, settings: Settings) -> Verdict:
    if kind == "trade":
        market = _read_market(row["value_raw"])
        again = Produced(settings.topic_trades, row["key"], row["value_raw"], (market.venue, market.symbol))
        return Verdict("sent", (again,), 1)
    if kind == "feed_event":
        return Verdict("sent", (Produced(settings.topic_feed_events, row["key"], row["value_raw"]),))
    return BAD
