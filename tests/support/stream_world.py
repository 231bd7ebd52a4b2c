"""A market in Kafka and, up to some offsets, in a lake: for the tests of the live stream. No test module."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from lakehouse.lake.table_io import ensure_tables, open_table
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_TRADES
from tests.prices.test_follower import trade
from tests.support.market_lake import put
from tests.support.rows import batch_row, trade_row

#: 2026-11-01 12:00:00 UTC in microseconds.
NOON = 1_793_534_400_000_000
PARTITIONS = 3


class World:
    """Trades in Kafka, of which the lake has read those up to some offsets."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.rows: list[dict[str, Any]] = []
        self._producer = Producer({"bootstrap.servers": settings.bootstrap()})
        ensure_tables(settings)

    def send(self, *ids: int, symbol: str = "BTC/USDT") -> None:
        for number in ids:
            partition = number % PARTITIONS
            value = trade(number, ts_event=NOON + number * 1_000_000, symbol=symbol)
            self._producer.produce(self.settings.topic_trades, value, key=b"k", partition=partition)
            row = trade_row(number, NOON + number * 1_000_000, symbol=symbol)
            self.rows.append(row | {"kafka_partition": partition, "kafka_offset": self.ends[partition]})
            self.ends[partition] += 1
        assert self._producer.flush(30) == 0

    def land(self) -> None:
        """Let the streams read all that is in Kafka."""
        seen: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self.rows:
            seen.setdefault((row["symbol"], row["trade_id"]), row)
        put(self.settings, SILVER_TRADES, seen.values())
        bronze, silver = (open_table(self.settings, one).version() for one in (BRONZE_MESSAGES, SILVER_TRADES))
        ends = {self.settings.topic_trades: {str(at): end for at, end in self.ends.items()}}
        source = {"version": bronze, "complete": True}
        batches = [
            batch_row("bronze", 0, source_end=ends, versions={BRONZE_MESSAGES.path: bronze}),
            batch_row("silver", 0, source_end=source, versions={SILVER_TRADES.path: silver}),
        ]
        put(self.settings, OPS_BATCHES, batches)
