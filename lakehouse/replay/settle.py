"""Record in ops/replays which quarantined messages are settled: sent again by a replay, or dismissed by a person.

`lakehouse replay --dismiss` is for messages that a person has looked at and that need no action.
Guarantee: only ops/replays changes. The messages stay in silver/quarantine, so all counts of ops/batches and of the
audit still hold; the messages are only no longer open. Messages that fail the rule later are open again. All messages
of one `record` are settled in one commit, so a crash leaves each of them settled or open. If two processes write at
once, one fails: by the lease if they are on one machine, by Delta if two machines share a store.
Dismissing needs neither Kafka nor Spark.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from lakehouse.errors import LeaseHeldError, SettingError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.lake.quarantine import open_messages, require_rule
from lakehouse.settings import VENUES, Settings
from lakehouse.tables import OPS_REPLAYS

#: Delta's application id of the appends to ops/replays: if two processes append at once, one fails.
APPENDS = "lakehouse/replay"


@dataclass(frozen=True)
class Dismissal:
    """The result of `dismiss`: the number of `messages` that were dismissed or, for a dry run (`dry`), would be."""

    rule: str
    venue: str | None
    messages: int
    dry: bool


def record(settings: Settings, rows: pa.Table, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Add one row to ops/replays for each row of silver/quarantine in `rows`, in one commit: they are then settled.

    `outcomes` are the other columns of these rows, in the same order. Raises LeaseHeldError if another process wrote
    the table at the same moment.
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


def dismiss(
    settings: Settings, rule: str, venue: str | None = None, reason: str | None = None, dry_run: bool = False
) -> Dismissal:
    """Settle every open message that failed `rule` without sending it again; with `venue` only messages of that venue.

    `reason` and the user and host of this process are kept with each message. With `dry_run` messages are only counted.
    Raises SettingError for a rule that no message has failed or an unknown venue, LeaseHeldError if a replay runs.
    """
    require_rule(settings, rule)
    if venue is not None and venue not in VENUES:
        raise SettingError(f"unknown venue {venue!r}", f"one of {', '.join(VENUES)}")
    if dry_run:
        count = sum(rows.num_rows for rows in open_messages(settings, rule, venue=venue))
        return Dismissal(rule, venue, count, dry=True)
    with Lease(settings, ("replay",), f"replay:{os.getpid()}"):
        table_io.ensure_tables(settings)  # a lake of an older release lacks the table, or its columns
        said = {
            "outcome": "dismissed",
            "trades": 0,
            "reason": " ".join((reason or "").split()) or None,
            "dismissed_by": somebody(),
        }
        count = 0
        for rows in open_messages(settings, rule, venue=venue):
            record(settings, rows, [said] * rows.num_rows)
            count += rows.num_rows
    return Dismissal(rule, venue, count, dry=False)


def somebody() -> str:
    """Return USER@HOST of this process; the user's number if the user has no name, as in many containers."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
