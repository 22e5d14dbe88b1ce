"""Acquisitions: the slices of a series that passes its places several times, divided into stacks.

Two echoes, phases or b-values of one series are never mixed: what tells them apart divides them, if each part then is a
stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from attunet.data.formats.dicom.slices import MARKS, StoredSlice
from attunet.data.formats.dicom.stacks import build_stack, depths_of
from attunet.errors import GeometryError
from attunet.names import listed

__all__ = ["Division", "alternations", "divide"]

STRONG = MARKS[:5]
"""Marks of which two values never belong in one volume."""
MOST_PARTS = 2000
TIMES = ("trigger time", "dimensions")
"""Marks whose values recur from place to place in any ordinary stack."""
LOOSE = 0.01
"""Slices closer than this, mm, count as one place when acquisitions are counted."""


class Division(NamedTuple):
    """A part of a series.

    Args:
        slices: its slices, in any order.
        told: what tells it from the other parts, such as "echo 2"; empty where there is one part.
    """

    slices: tuple[StoredSlice, ...]
    told: str = ""


def divide(slices: Sequence[StoredSlice]) -> list[Division]:
    """Divide parallel slices of one size into stacks.

    Args: the slices.
    Returns: the parts, each a stack where that is possible; otherwise those of which fewest slices share a place.
    Raises: GeometryError when a slice has no position.
    """
    depths_of(slices)  # without positions nothing can be told apart
    whole = [Division(tuple(slices))]
    for parts in _by_marks(slices, STRONG):
        if _all_stacks(parts):
            return parts
    if _all_stacks(whole):
        return whole
    candidates = [*_by_marks(slices, MARKS), *_by_rank(slices)]
    for parts in candidates:
        if _all_stacks(parts):
            return parts
    apart = [parts for parts in candidates if all(_at_own_places(part.slices) for part in parts)]
    if not apart or _at_own_places(slices):
        return whole
    return max(apart, key=lambda parts: sum(len(part.slices) for part in parts if _is_stack(part.slices)))


def alternations(slices: Sequence[StoredSlice]) -> Iterator[str]:
    """What is odd about the marks of a stack that was not divided, in sentences.

    Args: its slices, in order. Two acquisitions whose slices lie between each other are an even stack by their places.
    """
    for name in MARKS:
        values = [one.marks.get(name, ()) for one in slices]
        distinct = list(dict.fromkeys(values))
        runs = 1 + sum(value != other for value, other in pairwise(values))
        if name == MARKS[0] and len(distinct) > 1:
            yield f"its slices are in {len(distinct)} frames of reference: their positions are taken as those of one"
        elif runs > len(distinct) and name not in TIMES:
            told = listed([_told((name,), (value,)) for value in distinct], 3)
            yield f"its slices alternate between {told}: they are taken as one acquisition"


def _by_marks(slices: Sequence[StoredSlice], names: Sequence[str]) -> Iterator[list[Division]]:
    """The slices divided by one mark, by two, and by all that vary; the fewest first."""
    varying = [name for name in names if len({one.marks.get(name, ()) for one in slices}) > 1]
    for count in dict.fromkeys((1, 2, len(varying))):
        for chosen in combinations(varying, count):
            groups: dict[tuple[tuple[str, ...], ...], list[StoredSlice]] = defaultdict(list)
            for one in slices:
                groups[tuple(one.marks.get(name, ()) for name in chosen)].append(one)
            if 1 < len(groups) <= MOST_PARTS:
                yield [
                    Division(tuple(groups[values]), _told(chosen, values)) for values in sorted(groups, key=_as_numbers)
                ]


def _by_rank(slices: Sequence[StoredSlice]) -> Iterator[list[Division]]:
    """The n-th in time of each place, where the times of one phase differ a little from place to place."""
    places: dict[int, list[StoredSlice]] = defaultdict(list)
    for one, depth in zip(slices, depths_of(slices), strict=True):
        places[round(depth / LOOSE)].append(one)
    counts = {len(found) for found in places.values()}
    times = [{one.marks.get("trigger time", ()) for one in found} for found in places.values()]
    count = counts.pop()
    if counts or not 1 < count <= MOST_PARTS or any(len(each) < count or () in each for each in times):
        return
    ranked = [sorted(found, key=lambda one: _as_numbers((one.marks["trigger time"],))) for found in places.values()]
    yield [
        Division(tuple(found[rank] for found in ranked), f"trigger time {rank + 1} of {count}") for rank in range(count)
    ]


def _told(names: Sequence[str], values: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(f"{name} {'/'.join(value) or 'not given'}" for name, value in zip(names, values, strict=True))


def _as_numbers(values: tuple[tuple[str, ...], ...]) -> list[tuple[float, str]]:
    """A key that sorts texts of numbers as numbers."""
    return [(_number(text), text) for value in values for text in (value or ("",))]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _all_stacks(parts: Sequence[Division]) -> bool:
    """Whether each part is a stack: a single slice is none, unless there is only one place."""
    several = any(len(part.slices) > 1 for part in parts)
    alone = [part.slices[0] for part in parts if len(part.slices) == 1]
    if alone and (several or _places(alone) > 1):
        return False
    return all(_is_stack(part.slices) for part in parts)


def _is_stack(slices: Sequence[StoredSlice]) -> bool:
    try:
        build_stack(slices)
    except GeometryError:
        return False
    return True


def _at_own_places(slices: Sequence[StoredSlice]) -> bool:
    return _places(slices) == len(slices)


def _places(slices: Sequence[StoredSlice]) -> int:
    return len({round(float(depth) / LOOSE) for depth in depths_of(slices)})
