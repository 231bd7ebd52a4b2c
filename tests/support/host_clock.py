"""Tables as a host with a slow or fast clock would write them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from lakehouse.lake.table_io import append_rows, arrow_schema
from lakehouse.replay.clocks import Clocks
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from tests.support.rows import NOON_US, trade_row, utc

SECOND = 1_000_000
#: The message that a host which was 61 s slow left in quarantine; Kafka's time is `ts_ingest`.
QUOTED = (
    b'{"venue":"binance","symbol":"BTC/USDT","native_symbol":"BTCUSDT","trade_id":161,"price":"0.15820000",'
    b'"size":"63.00000000","side":"sell","ts_event":1790649901913000,"ts_ingest":1790649840913000,"source":"live",'
    b'"raw":"{}"}'
)
QUOTED_KAFKA = 1_790_649_840_913_000


class Host:
    """Writes what a host with a clock of its own would have in its tables, message by message."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.offset = 0
        self.trades: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def gets(
        self, at: float, slow: float = 0.0, ahead: float = 0.0, delay: float = 0.1, **columns: Any
    ) -> dict[str, Any]:
        """A trade of the true second `at` after noon; the venue's clock is `ahead` and ours `slow` by seconds."""
        event = NOON_US + round((at + ahead) * SECOND)
        ingest = NOON_US + round((at + delay - slow) * SECOND)
        return self.has(event, ingest, ingest, **columns)

    def has(self, event: int, ingest: int, kafka: int, source: str = "live", venue: str = "binance") -> dict[str, Any]:
        self.offset += 1
        place = {"kafka_topic": "crypto.trades", "kafka_partition": 0, "kafka_offset": self.offset}
        place["ts_kafka"] = utc(kafka)
        if max(event, ingest) - kafka <= self.settings.future_tolerance_seconds * SECOND:
            self.trades.append(
                trade_row(self.offset, event, ts_ingest=utc(ingest), source=source, venue=venue, **place)
            )
            return self.trades[-1]
        value = {"venue": venue, "ts_event": event, "ts_ingest": ingest, "source": source}
        self.refused.append(
            {
                "rule": "event_in_the_future",
                "detail": "of that day",
                "key": b"BTC/USDT",
                "value_raw": json.dumps(value).encode(),
                "ingest_date": utc(kafka).date(),
                **place,
            }
        )
        return self.refused[-1]

    def write(self) -> None:
        append_rows(self.settings, SILVER_TRADES, self.trades)
        append_rows(self.settings, SILVER_QUARANTINE, self.refused)

    def explained(self) -> list[bool]:
        """Return one verdict per row in quarantine: True if replay blames a slow clock for it."""
        self.write()
        rows = pa.Table.from_pylist(self.refused, arrow_schema(SILVER_QUARANTINE))
        return [bool(one) for one in Clocks(self.settings).explain(rows)]
