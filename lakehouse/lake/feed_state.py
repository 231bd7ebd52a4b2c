"""Venues that are not connected and symbols that a venue does not deliver, by silver/feed_events. No JVM.

Ingest reports when a symbol is not subscribed (`unsubscribed`), is refused for good (`subscription_refused`), and is
`subscribed` again; the newest of these events of a (venue, symbol) is its state. Ingest also reports when a socket is
`connected` and `disconnected`.

The newest event is the one with the highest Kafka offset, because this machine's clock may be set back. Events are
keyed by their venue, so all of a venue's events are in one partition.

Limit: an event that `replay` takes out of quarantine gets a new offset, and counts as the newest until the next event
comes. If a venue's symbols need more than one socket, its sockets are not told apart: a refused socket counts until any
of them is connected.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_FEED_EVENTS

#: Detail of the event `disconnected` if ingest itself was stopped: the venue is not to blame.
STOPPED = "stopped"


@dataclass(frozen=True)
class NotConnected:
    """A venue of the settings to which ingest has no open socket.

    `words`: why the last attempt failed, and what to do. `since`: when the socket was lost or first refused, UTC.
    """

    venue: str
    words: str
    since: dt.datetime


@dataclass(frozen=True)
class NotSubscribed:
    """A symbol of the settings that its venue does not deliver. `since`: the time of the event that says so, UTC.

    `is_final`: the venue refused it for good, because it has no such symbol.
    """

    venue: str
    symbol: str
    is_final: bool
    words: str  #: the venue's own reason
    since: dt.datetime


def not_connected(settings: Settings) -> tuple[NotConnected, ...]:
    """Return the venues of the settings without an open socket, by name: a socket was lost, or the venue refuses it.

    Empty if ingest was stopped while it was connected. Raises TerminalError if the lake has no silver/feed_events.
    """
    # A failed attempt has no `connected`. Ingest makes one if it has no socket left: a socket that began before it has
    # ended, even without a `disconnected`, which a killed process does not send. Only words
    # count that were said since the venue was last connected or ingest was last stopped.
    rows: list[dict[str, Any]] = table_io.sql(
        settings,
        f"""
        WITH sockets AS (
            SELECT venue, connection_id,
                max(kafka_offset) FILTER (WHERE event = 'connected') AS began,
                max(kafka_offset) FILTER (WHERE event = 'disconnected') AS ended,
                max(ts_event) FILTER (WHERE event = 'disconnected') AS ts_ended,
                max(detail) FILTER (WHERE event = 'disconnected') AS words
            FROM events
            WHERE kafka_topic = '{settings.topic_feed_events}' AND event IN ('connected', 'disconnected')
            GROUP BY venue, connection_id
        ), venues AS (
            SELECT venue,
                max(began) FILTER (WHERE ended IS NULL) AS open,
                max(ended) FILTER (WHERE began IS NULL) AS attempt,
                max(CASE WHEN words = '{STOPPED}' THEN ended ELSE began END) AS reset
            FROM sockets GROUP BY venue
        )
        SELECT venue, last_value(words ORDER BY ended) AS words, first_value(ts_ended ORDER BY ended) AS since
        FROM sockets JOIN venues USING (venue)
        WHERE ended > coalesce(reset, -1) AND (open IS NULL OR open < attempt)
        GROUP BY venue ORDER BY venue
        """,
        events=SILVER_FEED_EVENTS,
    ).to_pylist()
    return tuple(
        NotConnected(row["venue"], " ".join(row["words"].split()), row["since"])
        for row in rows
        if row["venue"] in settings.venues
    )


def not_subscribed(settings: Settings) -> tuple[NotSubscribed, ...]:
    """Return each (venue, symbol) of the settings whose newest subscription event is not `subscribed`, in order.

    A symbol that no event names is left out. Raises TerminalError if the lake has no silver/feed_events.
    """
    rows: list[dict[str, Any]] = table_io.sql(
        settings,
        f"""
        SELECT venue, symbol, event, detail, ts_event FROM (
            SELECT *, row_number() OVER (PARTITION BY venue, symbol ORDER BY kafka_offset DESC) AS place
            FROM events
            WHERE kafka_topic = '{settings.topic_feed_events}' AND symbol IS NOT NULL
                AND event IN ('subscribed', 'unsubscribed', 'subscription_refused')
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
