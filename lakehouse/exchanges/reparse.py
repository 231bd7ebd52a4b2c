"""Read a rejected text once more: `Rejected.raw` may be a part of a frame, which a parser knows only inside its frame.

A parser rejects the smallest part that it can name. `Venue.frame_of` puts such a part back into a frame like the one
that it came from; the rest of the frame is lost.
"""

from __future__ import annotations

from lakehouse.exchanges.model import Parsed, Rejected
from lakehouse.exchanges.venue import Venue


def parse_again(venue: Venue, rejected: Rejected) -> list[Parsed]:
    """Read a rejected text with today's parser, like `Venue.parse`; never raises.

    With the parser that rejected it, it is rejected again.
    """
    return venue.parse(venue.frame_of(rejected).encode("utf-8", "surrogatepass"), rejected.ts_ingest)
