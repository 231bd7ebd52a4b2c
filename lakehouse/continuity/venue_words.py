"""Read ingest's feed events about missing trade ids (silver/feed_events), for the ledger silver/continuity."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.continuity.id_states import News
from lakehouse.continuity.tries import Tried
from lakehouse.market.symbols import MarketKey

#: The feed events about missing ids: ids that exist at the venue and did not come, and ids that its REST API lacks.
CLAIM, GONE = "gap_opened", "gap_unavailable"


def add_words(news: dict[MarketKey, News], events: pa.Table) -> None:
    """Add to `news` the missing ids in rows of silver/feed_events: `gap_opened` as claimed, `gap_unavailable` as gone.

    They become objects in memory; they are few, because a gap is one row, however wide.
    """
    is_gap = pc.is_in(events.column("event"), pa.array([CLAIM, GONE]))
    names = ["venue", "symbol", "event", "first_id", "last_id", "ts_event", "kafka_partition", "kafka_offset"]
    rows = events.select(names).filter(is_gap)
    rows = rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])  # the order of tries
    for row in rows.to_pylist():
        symbol, first, last = row["symbol"], row["first_id"], row["last_id"]
        if symbol is None or first is None or last is None or first > last:
            continue
        item = news.setdefault((row["venue"], symbol), News())
        if row["event"] == CLAIM:
            item.claimed.append((first, last))
        else:
            item.gone.append(Tried.once(first, last, row["ts_event"]))
