"""Which of a batch's units keeps a trade that several have found: the earliest, in Bronze's order.

Guarantee: each new id is in the file of one unit. That the units' new ids are as many together as they are one by one
is seen from their ranges. Where they are not, the later units work again, all at once: each is told which of its ids
earlier ones keep, and in which files, so these copies are repeats for it like any other. A unit keeps the same copy of
an id when it works again, so the files of its first work will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lakehouse.continuity.known_ids import KnownIds
from lakehouse.continuity.packed_ids import packed
from lakehouse.streams.data_files import undo
from lakehouse.streams.kept_trades import KeptFile
from lakehouse.streams.refine import Claim, Refined, RefineUnit

#: Works on units and returns their results.
Run = Callable[[Sequence[RefineUnit]], Sequence[Refined]]


def settle(units: Sequence[RefineUnit], results: Sequence[Refined], again: Run, uri: str) -> list[Refined]:
    """Return the units' results, each new id in one of them; `again` works on units that have to give some up.

    `uri` is that of silver/trades. All files of the results are deleted if `again` raises an error.
    """
    settled = list(results)
    try:
        told = _told(units, results)
        for number, result in zip(told, again(list(told.values())), strict=True):
            undo(uri, settled[number])
            settled[number] = result
        if left := _repeating(settled):
            raise AssertionError(f"found units {left} with ids that earlier ones have; expected none")
    except BaseException:
        for result in settled:
            undo(uri, result)
        raise
    return settled


def have_common_ids(lists: Sequence[Sequence[Refined]]) -> bool:
    """Return True if results in two lists have a new id in common."""
    taken = KnownIds()
    for results in lists:
        mine = KnownIds()
        ids = sum(mine.add(island.key, island.first_id, island.last_id) for one in results for island in one.arrived)
        if ids != sum(taken.add(key, first, last) for key, ranges in mine.items() for first, last in ranges):
            return True
    return False


def _repeating(results: Sequence[Refined]) -> list[int]:
    """Return the numbers of the units that have ids of earlier ones."""
    taken = KnownIds()
    found: list[int] = []
    for number, result in enumerate(results):
        added = sum(taken.add(island.key, island.first_id, island.last_id) for island in result.arrived)
        if added != sum(island.ids for island in result.arrived):
            found.append(number)
    return found


def _told(units: Sequence[RefineUnit], results: Sequence[Refined]) -> dict[int, RefineUnit]:
    """Return the number of each unit that has ids of earlier ones → the unit with their claims to these ids."""
    repeating = set(_repeating(results))
    told: dict[int, RefineUnit] = {}
    keeps: list[KnownIds] = []
    for number, result in enumerate(results):
        ids = KnownIds()
        for island in result.arrived:
            ids.add(island.key, island.first_id, island.last_id)
        if number in repeating:
            common = [_common(earlier, ids) for earlier in keeps]
            told[number] = replace(
                units[number],
                claims=tuple(
                    Claim(packed(theirs.items()), tuple(map(KeptFile.of, results[one].files)))
                    for one, theirs in enumerate(common)
                    if theirs
                ),
            )
            for key, first, last in [(key, *part) for theirs in common for key, of in theirs.items() for part in of]:
                ids.of(key).remove(first, last)
        keeps.append(ids)
    return told


def _common(some: KnownIds, others: KnownIds) -> KnownIds:
    common = KnownIds()
    for key in some.keys() & others.keys():
        for first, last in others[key]:
            for part in some[key].within(first, last):
                common.add(key, *part)
    return common
