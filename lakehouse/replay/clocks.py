"""Decide, by the trades around it, whether a message's time is in the future because this machine's clock was slow.

A slow clock puts the trades of all venues equally far into the future; a wrong time from a venue stands alone among
trades whose times are right. So the clock explains a message if most of its venue's live trades of the minute before or
after it are as far ahead, and the other venues' trades do not contradict. "Around" goes by event time first, which no
step of our clock moves, and by Kafka's time if no trade is near by event time. One trade alone proves nothing: if no
other is within that minute, the window grows up to a day. A message without any trade near it even then counts as
explained: nothing contradicts it.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake.receipt_times import FUTURE_RULE, is_from_socket, received, refused
from lakehouse.settings import Settings
from lakehouse.transforms.arrow_numpy import Integers, Mask

SECOND = 1_000_000
#: Trades within so many microseconds before or after a message are compared with it: enough in a quiet market.
AROUND = 60 * SECOND
#: If there are none, AROUND grows by the factor WIDER, up to FAR microseconds.
FAR, WIDER = 24 * 3_600 * SECOND, 4
#: Messages within the same so many microseconds are judged together.
SLOT = 10 * SECOND
#: Trades under the same clock may differ by at least so many microseconds: one is delivered later than another.
LEAST_SLACK = 5 * SECOND
#: Most stretches of time in one query; if there are more, they are widened until they merge.
MOST_STRETCHES = 50


class _Message(msgspec.Struct):
    venue: str
    ts_event: int
    ts_ingest: int = 0  #: 0 for a feed event, which has none
    source: str = ""


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_read = msgspec.json.Decoder(_Message, strict=False).decode


class _Asked(NamedTuple):
    """A message with a time in the future. `lead` in microseconds: the later of its times − Kafka's time."""

    place: int
    venue: str
    event: int
    kafka: int
    lead: int
    is_among: bool  #: True if it is one of the trades that are evidence


@dataclass(frozen=True)
class _Votes:
    """Votes of each venue's trades on a message: True if the clock explains it, False if not, None without trades."""

    own: bool | None
    others: Sequence[bool]

    @property
    def are_silent(self) -> bool:
        return self.own is None and not self.others

    @property
    def explain(self) -> bool:
        against = self.others.count(False) + (self.own is False)
        return self.own is not False and (not against or against < self.others.count(True) + (self.own is True))


class Clocks:
    """Decides from one lake's trades whether messages are in the future because this machine's clock was slow.

    Keep one object for a whole replay: the quarantined trades are read once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _refused(self) -> _Trades:
        return _Trades(refused(self._settings))

    def explain(self, rows: pa.Table) -> Mask:
        """Return a boolean array with one value for each row of silver/quarantine in `rows`: True if its time is good.

        A time is good if it is not further in the future than the settings tolerate, or is further only because this
        machine's clock was slow. The present parser must be able to read all rows.
        """
        explained = np.ones(rows.num_rows, np.bool_)
        asked, around = list(self._asked(rows)), AROUND
        while asked and around <= FAR:
            votes = self._all_votes(asked, around)
            for one in asked:
                explained[one.place] = votes[one.place].explain
            asked, around = [one for one in asked if votes[one.place].are_silent], WIDER * around
        return explained

    def _all_votes(self, asked: Sequence[_Asked], around: int) -> dict[int, _Votes]:
        """Map each place to the votes of the trades within `around` microseconds."""
        sources = (self._refused, _Trades(received(self._settings, _where(asked, around))))
        slots: dict[tuple[int, int], list[_Asked]] = defaultdict(list)
        for one in asked:
            slots[one.event // SLOT, one.kafka // SLOT].append(one)
        found: dict[int, _Votes] = {}
        for together in slots.values():
            views = _around(sources, together[0], around)
            found |= {one.place: self._votes(one, views) for one in together}
        return found

    def _asked(self, rows: pa.Table) -> Iterable[_Asked]:
        tolerance = self._settings.future_tolerance_seconds * SECOND
        columns = (rows["rule"], rows["value_raw"], pc.cast(rows["ts_kafka"], pa.int64()))
        for place, (rule, value, at) in enumerate(zip(*(one.to_pylist() for one in columns), strict=True)):
            message = _read(value)
            lead = max(message.ts_event, message.ts_ingest) - at
            if lead > tolerance:
                is_among = rule == FUTURE_RULE and is_from_socket(message.source, message.ts_ingest, at)
                yield _Asked(place, message.venue, message.ts_event, at, lead, is_among)

    def _votes(self, one: _Asked, views: dict[str, list[list[Integers]]]) -> _Votes:
        slack = min(one.lead // 2, max(self._settings.future_tolerance_seconds * SECOND // 2, LEAST_SLACK))
        votes = {venue: _vote(one.lead - slack, of, one.is_among and venue == one.venue) for venue, of in views.items()}
        own = votes.pop(one.venue, None)
        return _Votes(own, [vote for vote in votes.values() if vote is not None])


def _vote(lead: int, views: list[list[Integers]], is_among: bool) -> bool | None:
    """True if most trades have such a lead, in the first view that has any besides the message itself; None without.

    A view has the sorted leads before and after the message; one side is enough, as the clock may be set in between.
    """
    for view in views:
        said = []
        for leads in view:
            others = len(leads) - is_among
            if others > 0:
                like = len(leads) - int(np.searchsorted(leads, lead)) - is_among
                said.append(2 * like > others)
        if said:
            return any(said)
    return None


#: Leads of each source before and after a message: by event times, and by Kafka's.
_Views = tuple[list[list[Integers]], list[list[Integers]]]


class _Trades:
    """Live trades by venue, sorted by event time and by Kafka's time."""

    def __init__(self, trades: pa.Table) -> None:
        self._venues: dict[str, list[tuple[Integers, Integers]]] = {}
        last: Any = pc.max_element_wise(trades["event"], trades["ingest"])
        trades = trades.append_column("lead", pc.subtract(last, trades["kafka"]))
        venues: list[Any] = pc.unique(trades["venue"]).to_pylist()
        for venue in venues:
            of = trades.filter(pc.equal(trades["venue"], pa.scalar(venue)))
            leads = of["lead"].to_numpy()
            orders = [(times, np.argsort(times)) for times in (of["event"].to_numpy(), of["kafka"].to_numpy())]
            self._venues[venue] = [(times[order], leads[order]) for times, order in orders]

    def add(self, one: _Asked, around: int, found: dict[str, _Views]) -> None:
        """Add the leads before and after a message, its slot included, by event times and by Kafka's."""
        for venue, of in self._venues.items():
            views = found.setdefault(venue, ([[], []], [[], []]))
            for view, (times, leads), at in zip(views, of, (one.event, one.kafka), strict=True):
                slot = at // SLOT * SLOT
                first, begin, end, last = np.searchsorted(
                    times, [slot - around, slot, slot + SLOT, slot + SLOT + around]
                )
                view[0].append(leads[first:end])
                view[1].append(leads[begin:last])


def _around(sources: Iterable[_Trades], one: _Asked, around: int) -> dict[str, list[list[Integers]]]:
    """Map each venue to the sorted leads before and after a message, by event times and by Kafka's."""
    found: dict[str, _Views] = {}
    for trades in sources:
        trades.add(one, around, found)
    return {
        venue: [[np.sort(np.concatenate(side)) for side in view] for view in views] for venue, views in found.items()
    }


def _where(asked: Sequence[_Asked], around: int) -> str:
    """Write the SQL condition that keeps the trades around the messages, by either time."""
    spans = {name: _stretches([getattr(one, name) for one in asked], around + SLOT) for name in ("event", "kafka")}
    return " OR ".join(
        f"ts_{name} BETWEEN {_literal(first)} AND {_literal(last)}" for name, of in spans.items() for first, last in of
    )


def _stretches(times: Sequence[int], around: int) -> list[tuple[int, int]]:
    """First and last moments of a few stretches that cover all times and their surroundings."""
    found: list[tuple[int, int]] = []
    for at in sorted(times):
        if found and at - around <= found[-1][1]:
            found[-1] = found[-1][0], at + around
        else:
            found.append((at - around, at + around))
    return found if len(found) <= MOST_STRETCHES else _stretches(times, 10 * around)


def _literal(micros: int) -> str:
    return f"TIMESTAMP '{(_EPOCH + dt.timedelta(microseconds=micros)).isoformat()}'"
