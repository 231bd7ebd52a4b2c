"""Rows of ops/replays: which quarantined messages are settled, and how.

Guarantee: one commit for all messages of one call, so that a crash leaves each of them settled or open. Of two
processes that write at once, one fails: the lease keeps those of one machine apart, Delta those of two on one store.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from lakehouse.errors import LeaseHeldError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import OPS_REPLAYS

#: Delta's application id of the appends to ops/replays: of two that append at once, one fails.
APPENDS = "lakehouse/replay"


def record(settings: Settings, rows: pa.Table, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Settle every row of silver/quarantine in `rows`; `outcomes` has its columns of ops/replays, in the same order.

    Raises LeaseHeldError where somebody else has written the table in the same moment.
    """
    now = dt.datetime.now(dt.UTC)
    places = rows.select([*OPS_REPLAYS.key, "rule"]).to_pylist()
    entries = [{**place, **outcome, "replayed_at": now} for place, outcome in zip(places, outcomes, strict=True)]
    done = table_io.open_table(settings, OPS_REPLAYS).transaction_version(APPENDS)
    try:
        table_io.append_rows(settings, OPS_REPLAYS, entries, (APPENDS, 0 if done is None else int(done) + 1))
    except CommitFailedError as error:
        raise LeaseHeldError(
            f"another replay has written {OPS_REPLAYS.path} at the same time: {str(error).splitlines()[0]}",
            "one at a time",
            "try again; a message that was sent twice counts as a duplicate",
        ) from None
