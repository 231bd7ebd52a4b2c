"""Count the tries of unavailable trade ids: in how many answers a venue lacked them, when first and when last. No I/O.

Guarantee: the same answers in the order of their Kafka offsets end in the same ranges, however they are batched, and
answers that are added again change nothing. So a batch that runs twice counts no try twice.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

#: Two answers within so many seconds count as one try: ingest and the job `repair` may ask for the same ids at the same
#: time, and a process that starts anew asks again for the ids of its predecessor's last moments.
ONE_TRY_SECONDS = 60.0
#: An answer that is so many seconds earlier than the first one shows that the clock was set back: answers of two
#: processes cross by far less. After a smaller step of the clock ids wait for as much longer at most.
SET_BACK_SECONDS = 600.0


@dataclass(frozen=True)
class Tried:
    """A range of trade ids, inclusive, that the venue lacked in `tries` answers, from `since` to `last_try` (UTC)."""

    first_id: int
    last_id: int
    since: dt.datetime
    last_try: dt.datetime
    tries: int = 1

    @classmethod
    def once(cls, first_id: int, last_id: int, at: dt.datetime) -> Tried:
        """Return the range of ids that a venue lacked in one answer, given at the time `at` (UTC)."""
        return cls(first_id, last_id, at, at)


class TriedIds:
    """The unavailable ids of one (venue, symbol) with their tries, as disjoint ranges, ascending.

    Ranges that touch and have the same tries and times are joined.
    """

    def __init__(self, words: Iterable[Tried] = ()) -> None:
        self._parts: list[Tried] = []
        for word in words:
            self.add(word)

    def add(self, word: Tried) -> None:
        """Add an answer in which the venue lacked a range of ids: each of these ids then has one more try.

        An answer that is no later than the ids' last try changes nothing. An answer within ONE_TRY_SECONDS after the
        last try moves its time and is not counted. An answer SET_BACK_SECONDS or more before the first one shows that
        the clock was set back: it is counted, and the times begin anew with it.
        """
        low, high = self._between(word.first_id - 1, word.last_id + 1)
        self._parts[low:high] = _joined(_taken(self._parts[low:high], word))

    def within(self, first: int, last: int) -> list[Tried]:
        """Return the ranges within `first`..`last` (inclusive) that the venue lacked, with their tries."""
        low, high = self._between(first, last)
        return [
            replace(part, first_id=max(first, part.first_id), last_id=min(last, part.last_id))
            for part in self._parts[low:high]
        ]

    def _between(self, first: int, last: int) -> tuple[int, int]:
        low = bisect_left(self._parts, first, key=lambda part: part.last_id)
        return low, bisect_right(self._parts, last, key=lambda part: part.first_id)

    def __iter__(self) -> Iterator[Tried]:
        return iter(tuple(self._parts))


def _taken(parts: Sequence[Tried], word: Tried) -> Iterator[Tried]:
    """Parts that overlap or touch a word, with the word taken in; ascending."""
    new = word.first_id  # ids of the word from here on stand in no part so far
    for part in parts:
        if new <= min(word.last_id, part.first_id - 1):
            yield replace(word, first_id=new, last_id=min(word.last_id, part.first_id - 1))
        first, last = max(part.first_id, word.first_id), min(part.last_id, word.last_id)
        if first > last:  # it only touches
            yield part
        else:
            if part.first_id < first:
                yield replace(part, last_id=first - 1)
            yield _tried_again(replace(part, first_id=first, last_id=last), word)
            if part.last_id > last:
                yield replace(part, first_id=last + 1)
        new = max(new, part.last_id + 1)
    if new <= word.last_id:
        yield replace(word, first_id=new)


def _tried_again(part: Tried, word: Tried) -> Tried:
    """Return `part` with the try of `word`, unless that is no later than its own: then it was taken before.

    A word from long before the first try was said after the clock was set back: times begin anew with it, or the ids
    would be asked for again and again until the clock has caught up.
    """
    if part.since - word.last_try >= dt.timedelta(seconds=SET_BACK_SECONDS):
        return replace(part, since=word.since, last_try=word.last_try, tries=part.tries + 1)
    if word.last_try <= part.last_try:
        return part
    is_another = word.last_try - part.last_try >= dt.timedelta(seconds=ONE_TRY_SECONDS)
    return replace(part, last_try=word.last_try, tries=part.tries + is_another)


def _joined(parts: Iterable[Tried]) -> list[Tried]:
    found: list[Tried] = []
    for part in parts:
        if found and replace(part, first_id=found[-1].first_id, last_id=found[-1].last_id) == found[-1]:
            found[-1] = replace(found[-1], last_id=part.last_id)
        else:
            found.append(part)
    return found
