"""Which of a batch's units keeps a trade that several have found: the earliest, in Bronze's order.

Guarantee: each new id is in the file of one unit. That the units' new ids are as many together as they are one by one
is seen from their ranges. Where they are not, the later unit works again: it is told which ids the earlier ones have,
and in which files, so these copies are repeats for it like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lakehouse.continuity.known_ids import KnownIds
from lakehouse.continuity.packed_ids import packed
from lakehouse.streams.data_files import undo
from lakehouse.streams.kept_trades import KeptFile
from lakehouse.streams.refine import Refined, RefineUnit


def settle(
    units: Sequence[RefineUnit],
    results: Sequence[Refined],
    again: Callable[[Sequence[RefineUnit]], Sequence[Refined]],
    uri: str,
) -> list[Refined]:
    """Return the units' results, each new id in one of them; `again` works on units that have to give some up.

    `uri` is that of silver/trades. All files of the results are deleted if `again` raises an error.
    """
    settled = list(results)
    claims = [_claims(result) for result in results]
    waiting = _overlapping(results, claims)
    try:
        while waiting:
            # A unit reads the kept trades of earlier ones, so those have to be settled.
            ready = [number for number, earlier in waiting.items() if not waiting.keys() & earlier]
            asked = [_told(units[number], number, waiting[number], claims, settled) for number in ready]
            for number, result in zip(ready, again(asked), strict=True):
                undo(uri, settled[number])
                settled[number] = result
                del waiting[number]
        left = _overlapping(settled, [_claims(result) for result in settled])
        if left:
            raise AssertionError(f"found units {sorted(left)} with ids that earlier ones have; expected none")
    except BaseException:
        for result in settled:
            undo(uri, result)
        raise
    return settled


def _claims(result: Refined) -> KnownIds:
    ids = KnownIds()
    for island in result.arrived:
        ids.add(island.key, island.first_id, island.last_id)
    return ids


def _overlapping(results: Sequence[Refined], claims: Sequence[KnownIds]) -> dict[int, set[int]]:
    """Return the number of each unit that has ids of earlier ones → the numbers of these."""
    taken = KnownIds()
    found: dict[int, set[int]] = {}
    for number, result in enumerate(results):
        added = sum(taken.add(island.key, island.first_id, island.last_id) for island in result.arrived)
        if added != sum(island.ids for island in result.arrived):
            found[number] = {one for one in range(number) if _common(claims[one], claims[number])}
    return found


def _common(some: KnownIds, others: KnownIds) -> KnownIds:
    common = KnownIds()
    for key in some.keys() & others.keys():
        for first, last in others[key]:
            for part in some[key].within(first, last):
                common.add(key, *part)
    return common


def _told(
    unit: RefineUnit, number: int, earlier: set[int], claims: Sequence[KnownIds], settled: Sequence[Refined]
) -> RefineUnit:
    """Return the unit with what the earlier ones that have ids of it have claimed."""
    taken = KnownIds()
    for one in earlier:
        for key, ranges in _common(claims[one], claims[number]).items():
            for first, last in ranges:
                taken.add(key, first, last)
    files = tuple(KeptFile.of(file) for one in sorted(earlier) for file in settled[one].files)
    return replace(unit, claimed=packed(taken.items()), kept_in=(*unit.kept_in, *files))
