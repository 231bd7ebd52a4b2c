"""`lakehouse replay --dismiss`: a person has looked at quarantined messages, and nothing is to be done about them.

Guarantee: nothing but ops/replays changes. The messages stay in silver/quarantine, so every count of the books and of
the audit holds on; they only leave the open ones. Messages that fail the rule later are open again: what is dismissed
is what was there. Neither Kafka nor Spark is needed.
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

#: Delta's application id of the appends to ops/replays: of two that append at once, one fails.
APPENDS = "lakehouse/replay"


@dataclass(frozen=True)
class Dismissal:
    """How many open messages of a rule, and of a venue where one was named, were dismissed, or, dry, would be."""

    rule: str
    venue: str | None
    messages: int
    dry: bool


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


def dismiss(
    settings: Settings, rule: str, venue: str | None = None, reason: str | None = None, dry_run: bool = False
) -> Dismissal:
    """Settle every open message that failed `rule`; with `venue` only those in which that venue could be read.

    `reason` is kept with each, for whoever asks later, and so is who we are. Raises SettingError for a rule that no
    message has failed or a venue that there is not, LeaseHeldError where a replay runs.
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
    """USER@HOST of this process; the number of a user who has no name, as in many containers."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
