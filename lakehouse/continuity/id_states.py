"""Divide the trade ids of one (venue, symbol) into segments: present, open gap, or unavailable. Pure.

Guarantee: the segments depend on the news put in, not on its order or repetition, except for `since` and `repaired`
(tries are counted in the order in which they come, see `tries`). An id that is both present and unavailable is present:
its trade came after all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lakehouse.continuity.tries import Tried, TriedIds
from lakehouse.id_ranges import IdRange, IdRanges

State = Literal["present", "open", "unavailable"]


@dataclass(frozen=True)
class Segment:
    """One row of the ledger: a contiguous range of trade ids, inclusive, in one state.

    `tables.SILVER_CONTINUITY` describes these attributes; its columns venue, symbol and trades_version are not here.
    """

    first_id: int
    last_id: int
    state: State
    ts_first: dt.datetime | None
    ts_last: dt.datetime | None
    since: dt.datetime
    repaired: int = 0
    tries: int | None = None
    last_try: dt.datetime | None = None


@dataclass(frozen=True)
class Arrival:
    """A contiguous range of trade ids, inclusive, that came into silver/trades.

    `ts_first` and `ts_last` are the event times of its first and last trade, None if unknown. `repaired` counts its ids
    that came over REST.
    """

    first_id: int
    last_id: int
    ts_first: dt.datetime | None = None
    ts_last: dt.datetime | None = None
    repaired: int = 0


@dataclass
class News:
    """The changes that a batch brings to the ledger for one (venue, symbol).

    `arrived`: ids that are in silver/trades now; `claimed`: ids that exist at the venue, by `gap_opened` events;
    `gone`: ids that the venue's REST API lacked, by `gap_unavailable` events.
    """

    arrived: list[Arrival] = field(default_factory=list)
    claimed: list[IdRange] = field(default_factory=list)
    gone: list[Tried] = field(default_factory=list)


def cut(segments: Sequence[Segment], news: News, now: dt.datetime) -> list[Segment]:
    """Return the segments, ascending, that follow from the `segments` before a batch and the batch's news.

    They cover every id from the lowest to the highest known one, each once. Empty if no id is known. `since` of a
    segment is the earliest `since` of the old segments of its state that it overlaps, `now` if it overlaps none; an
    unavailable segment has the `since` of its tries.
    """
    present = ranges_of(segments, "present")
    gone = TriedIds(tried(segments))
    known = [(segment.first_id, segment.last_id) for segment in segments]
    for arrival in news.arrived:
        present.add(arrival.first_id, arrival.last_id)
        known.append((arrival.first_id, arrival.last_id))
    for word in news.gone:
        gone.add(word)
        known.append((word.first_id, word.last_id))
    known += news.claimed
    if not known:
        return []
    low, high = min(first for first, _ in known), max(last for _, last in known)
    return _dated(_tiles(present, gone, low, high), segments, news.arrived, now)


def ranges_of(segments: Iterable[Segment], state: State) -> IdRanges:
    """Return the trade ids of the segments that are in one state."""
    return IdRanges((segment.first_id, segment.last_id) for segment in segments if segment.state == state)


def tried(segments: Iterable[Segment]) -> list[Tried]:
    """Return the unavailable ids with their tries; in a ledger from before tries were counted, one try at `since`."""
    return [
        Tried(one.first_id, one.last_id, one.since, one.last_try or one.since, one.tries or 1)
        for one in segments
        if one.state == "unavailable"
    ]


@dataclass(frozen=True)
class _Tile:
    first_id: int
    last_id: int
    state: State
    tried: Tried | None = None


def _tiles(present: IdRanges, gone: TriedIds, low: int, high: int) -> list[_Tile]:
    tiles = [_Tile(first, last, "present") for first, last in present]
    for gap_first, gap_last in present.missing(low, high):
        following = gap_first
        for one in gone.within(gap_first, gap_last):
            if following < one.first_id:
                tiles.append(_Tile(following, one.first_id - 1, "open"))
            tiles.append(_Tile(one.first_id, one.last_id, "unavailable", one))
            following = one.last_id + 1
        if following <= gap_last:
            tiles.append(_Tile(following, gap_last, "open"))
    return sorted(tiles, key=lambda tile: tile.first_id)


def _dated(
    tiles: Sequence[_Tile], before: Sequence[Segment], arrived: Sequence[Arrival], now: dt.datetime
) -> list[Segment]:
    """Tiles with the times at their ends, and with what the segments before them knew."""
    first_times = {one.first_id: one.ts_first for one in before if one.state == "present"}
    last_times = {one.last_id: one.ts_last for one in before if one.state == "present"}
    # A present tile begins and ends where an older one or an arrival does. Known times win over unknown ones.
    for arrival in arrived:
        first_times[arrival.first_id] = first_times.get(arrival.first_id) or arrival.ts_first
        last_times[arrival.last_id] = last_times.get(arrival.last_id) or arrival.ts_last
    result: list[Segment] = []
    old = iter(before)
    candidate = next(old, None)
    for tile in tiles:
        first, last, state = tile.first_id, tile.last_id, tile.state
        since, repaired = now, 0
        # Both lists ascend, so one walk over the older segments serves all tiles.
        while candidate is not None and candidate.first_id <= last:
            if candidate.last_id >= first and candidate.state == state:
                since, repaired = min(since, candidate.since), repaired + candidate.repaired
            if candidate.last_id > last:
                break  # it reaches into the next tile
            candidate = next(old, None)
        if state == "present":
            repaired += sum(one.repaired for one in arrived if first <= one.first_id <= last)
            result.append(Segment(first, last, state, first_times.get(first), last_times.get(last), since, repaired))
            continue
        gap = Segment(first, last, state, last_times.get(first - 1), first_times.get(last + 1), since)
        if tile.tried is not None:
            gap = replace(gap, since=tile.tried.since, tries=tile.tried.tries, last_try=tile.tried.last_try)
        result.append(gap)
    return result


def undated(segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments with `since` and `repaired` reset, so that two ledgers can be compared without these."""
    never = dt.datetime.min.replace(tzinfo=dt.UTC)
    return [replace(segment, since=never, repaired=0) for segment in segments]
