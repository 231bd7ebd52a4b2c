"""Parse the raw text of a Rejected again, with a parser that may be better by now. `lakehouse.replay` uses it.

A parser rejects the smallest unreadable part of a frame. `Venue.frame_of` puts such a part back into a frame of its
kind; the rest of the original frame is lost.
"""

from __future__ import annotations

from lakehouse.exchanges.model import Parsed, Rejected
from lakehouse.exchanges.venue import Venue


def parse_again(venue: Venue, rejected: Rejected) -> list[Parsed]:
    """Parse a rejected text with the venue's present parser and return the values, like `Venue.parse`. Never raises.

    If the parser has not changed since, the text is rejected again.
    """
    return venue.parse(venue.frame_of(rejected).encode("utf-8", "surrogatepass"), rejected.ts_ingest)
