"""Read ingest's feed events about missing trade ids (silver/feed_events), for the ledger silver/continuity."""

from __future__ import annotations

import datetime as dt
from operator import attrgetter
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse.continuity.id_states import News
from lakehouse.continuity.tries import Tried
from lakehouse.market.symbols import MarketKey

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

#: The feed events about missing ids: ids that exist at the venue and did not come, and ids that its REST API lacks.
CLAIM, GONE = "gap_opened", "gap_unavailable"

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def add_words(news: dict[MarketKey, News], events: DataFrame) -> None:
    """Add to `news` the missing ids in rows of silver/feed_events: `gap_opened` as claimed, `gap_unavailable` as gone.

    The rows are collected into memory; they are few, because a gap is one row, however wide.
    """
    gaps = events.where(
        F.col("event").isin(CLAIM, GONE) & F.col("symbol").isNotNull() & (F.col("first_id") <= F.col("last_id"))
    )
    words = ["venue", "symbol", "event", "first_id", "last_id"]
    # Microseconds: Spark hands a timestamp over in the time zone of this machine.
    rows = gaps.select(*words, F.unix_micros("ts_event").alias("at"), "kafka_partition", "kafka_offset").collect()
    for row in sorted(rows, key=attrgetter("kafka_partition", "kafka_offset")):  # tries are counted in this order
        item = news.setdefault((row["venue"], row["symbol"]), News())
        if row["event"] == CLAIM:
            item.claimed.append((row["first_id"], row["last_id"]))
        else:
            at = _EPOCH + dt.timedelta(microseconds=row["at"])
            item.gone.append(Tried.once(row["first_id"], row["last_id"], at))
