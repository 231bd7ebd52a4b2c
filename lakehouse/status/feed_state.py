"""Symbols that a venue does not deliver, as silver/feed_events says. No JVM.

Ingest tells when a symbol is not subscribed (`unsubscribed`), refused for good (`subscription_refused`), and subscribed
again; the newest of these words of a (venue, symbol) is its state.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_FEED_EVENTS


@dataclass(frozen=True)
class NotSubscribed:
    """A symbol of the settings that its venue does not deliver. `is_final`: the venue has no such symbol."""

    venue: str
    symbol: str
    is_final: bool
    words: str  #: the venue's own
    since: dt.datetime


def not_subscribed(settings: Settings) -> tuple[NotSubscribed, ...]:
    """Every symbol of the settings whose newest word is that it is not subscribed, by venue and symbol.

    Empty if no event names it. Raises TerminalError if the lake has no silver/feed_events.
    """
    rows: list[dict[str, Any]] = table_io.sql(
        settings,
        """
        SELECT venue, symbol, event, detail, ts_event FROM (
            SELECT *, row_number() OVER (
                PARTITION BY venue, symbol ORDER BY ts_event DESC, kafka_partition, kafka_offset DESC
            ) AS place
            FROM events
            WHERE symbol IS NOT NULL AND event IN ('subscribed', 'unsubscribed', 'subscription_refused')
        ) WHERE place = 1 AND event <> 'subscribed' ORDER BY venue, symbol
        """,
        events=SILVER_FEED_EVENTS,
    ).to_pylist()
    return tuple(
        NotSubscribed(
            row["venue"], row["symbol"], row["event"] == "subscription_refused", row["detail"], row["ts_event"]
        )
        for row in rows
        if row["venue"] in settings.venues and row["symbol"] in settings.symbols
    )
