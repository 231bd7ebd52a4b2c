"""`lakehouse replay --dismiss`: a person has looked at quarantined messages, and nothing is to be done about them.

Guarantee: nothing but ops/replays changes. The messages stay in silver/quarantine, so every count of the books and of
the audit holds on; they only leave the open ones. Messages that fail the rule later are open again: what is dismissed
is what was there. Neither Kafka nor Spark is needed.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass

from lakehouse.errors import SettingError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.lake.quarantine import open_messages, require_rule
from lakehouse.replay.settled import record
from lakehouse.settings import VENUES, Settings


@dataclass(frozen=True)
class Dismissal:
    """How many open messages of a rule, and of a venue where one was named, were dismissed, or, dry, would be."""

    rule: str
    venue: str | None
    messages: int
    dry: bool


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
