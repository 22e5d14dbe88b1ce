"""Labels that several masks make up: a file per label, a file per object, or the segments and ROIs of a file.

Where labels overlap and are learnt as regions, each combination of labels that a voxel can have gets a value of its
own, which depends only on the values of all labels: the same in every case, and without reading the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import comb
from typing import Literal

import numpy as np

from attunet.data.alignment import check_same_grid
from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats import NoticeHook, read_masks
from attunet.data.volume import Array, Volume
from attunet.errors import LabelError
from attunet.names import listed

__all__ = ["REFUSALS", "combined_value", "read_label_files", "repeated_names", "split_value"]

Order = Literal["C", "F"]
HIGHEST = int(np.iinfo(np.int32).max)
OVERLAP_HINT = (
    "pass --overlap regions to learn overlapping labels, --overlap last to keep the last mask's label in each voxel, "
    "or choose labels that do not overlap with --labels NAME,NAME"
    '; if the files are of several raters, state their names with --label-pattern and "{rater}"'
)
MERGE_HINT = "pass --merge-instances to learn all objects as one label"
REFUSALS = {OVERLAP_HINT: "overlapping labels", MERGE_HINT: "instance masks"}
"""The kind of problem of each remedy."""


def read_label_files(
    label: LabelFiles,
    *,
    key: str | None = None,
    frame: int | None = None,
    grid: Volume | None = None,
    on_notice: NoticeHook = lambda _notice: None,
) -> Volume:
    """Read the label that several masks make up, one after the other: one part at a time is in memory.

    Args:
        label: the masks.
        key, frame: of each file whose part has no key, as in `read_label`.
        grid: the image that they belong to, see `read_masks`.
        on_notice: called with what is odd about a mask.
    Returns: one channel of integers, 0 where no file has a voxel; combinations of labels as `combined_value`.
    Raises: LabelError for objects that are not to be merged, for labels that overlap unless `overlap` says what to do,
        and for a part with several values; GeometryError when the parts are on different grids; FormatError when one
        cannot be read.
    """
    if not label.parts:
        raise LabelError("the label consists of no file", hint="add the masks, or leave the case out")
    if label.kind == "object" and not label.merge and len(label.parts) > 1:
        raise LabelError(f"{label} contains {len(label.parts)} files, one for each object", hint=MERGE_HINT)
    if repeated := repeated_names(label):
        raise LabelError(f"{label} contains several masks called {listed(repeated)}", hint=MERGE_HINT)
    values = label.values or tuple(sorted({part.value for part in label.parts}))
    overlaps: Counter[tuple[int, int]] = Counter()
    order: Order = "C"
    first: Volume | None = None
    whole = np.zeros(0, _kind(max(values)))
    for part, volume in _masks(label.parts, key, frame, grid, on_notice):
        if first is None:
            order = "F" if volume.array.flags.f_contiguous else "C"
            first = volume.with_array(np.broadcast_to(np.uint8(0), volume.array.shape))  # its grid alone
            whole = np.zeros(volume.array.size, whole.dtype)
        check_same_grid(
            first,
            volume,
            f"{label.parts[0].path.name} and {part.path.name} in {label}",
            hint="write all files of a label on the grid of the image",
        )
        whole = _added(whole, _inside(volume, part, order), part.value, label, values, overlaps)
    if overlaps and label.overlap == "refuse":
        raise LabelError(_describe(overlaps, label), hint=OVERLAP_HINT)
    assert first is not None
    return first.with_array(whole.reshape(first.array.shape, order=order))


def repeated_names(label: LabelFiles) -> list[str]:
    """The names that several masks have, unless these are to be merged, or objects of a single label."""
    if label.merge or label.kind == "object":
        return []
    masks = Counter(part.name for part in label.parts)
    return sorted(name for name, count in masks.items() if count > 1)


def combined_value(parts: Iterable[int], values: Sequence[int]) -> int:
    """The value of voxels with a combination of labels.

    One label keeps its value. Combinations follow the highest value, first all pairs, then all triples and so on (the
    combinatorial number system): with the values 1, 2, 3, a voxel of 1 and 2 has 4, of 1 and 3 has 5, of all has 7.

    Args:
        parts: the values of its labels.
        values: the value of every label of the data set.
    Returns: the value.
    Raises: LabelError when it would exceed int32.
    """
    known = sorted(values)
    places = sorted(known.index(part) for part in set(parts))
    if len(places) == 1:
        return known[places[0]]
    value = known[-1] + 1 + sum(comb(len(known), size) for size in range(2, len(places)))
    value += sum(comb(place, order) for order, place in enumerate(places, start=1))
    if value > HIGHEST:
        raise LabelError(
            f"a voxel has {len(places)} of {len(known)} labels, more than can be told apart",
            hint="select fewer labels, or pass --overlap last",
        )
    return value


def split_value(value: int, values: Sequence[int]) -> tuple[int, ...]:
    """The values of the labels that a voxel has, the inverse of `combined_value`; a value that is none is alone.

    Args:
        value: the value of the voxel.
        values: the value of every label of the data set.
    Returns: the values of its labels, sorted.
    """
    known = sorted(values)
    if not known or value <= known[-1]:
        return (value,)
    rank, size = value - known[-1] - 1, 2
    while size <= len(known) and rank >= comb(len(known), size):
        rank -= comb(len(known), size)
        size += 1
    if size > len(known):
        return (value,)
    places = []
    for order in range(size, 0, -1):
        place = order - 1
        while comb(place + 1, order) <= rank:
            place += 1
        rank -= comb(place, order)
        places.append(known[place])
    return tuple(sorted(places))


def _masks(
    parts: Sequence[LabelPart], key: str | None, frame: int | None, grid: Volume | None, on_notice: NoticeHook
) -> Iterator[tuple[LabelPart, Volume]]:
    """Each part with its mask; a file with several masks is opened once."""
    for path, group in groupby(parts, key=lambda part: part.path):
        held = list(group)
        keys = [part.key or key for part in held]
        yield from zip(held, read_masks(path, keys, frame=frame, grid=grid, on_notice=on_notice), strict=True)


def _inside(volume: Volume, part: LabelPart, order: Order) -> Array:
    """The places of one file's voxels other than 0, which have one value, in the flat array of this order."""
    flat = volume.array.ravel(order=order)
    places = np.flatnonzero(flat)
    inside = flat[places]
    if inside.size and inside.min() != inside.max():
        listed = ", ".join(map(str, np.unique(inside)[:6].tolist()))
        raise LabelError(
            f"{part.path} contains the values {listed}, expected 0 and one other value in the mask of a single label",
            hint="write one label per file, or all labels into one file",
        )
    return places


def _added(
    whole: Array,
    places: Array,
    value: int,
    label: LabelFiles,
    values: Sequence[int],
    overlaps: Counter[tuple[int, int]],
) -> Array:
    """The flat label with the voxels of one more file; `overlaps` counts voxels by earlier and later value."""
    earlier = whole[places]
    taken = earlier[(earlier != 0) & (earlier != value)]
    if not taken.size or label.kind == "object":
        whole[places] = value
        return whole
    counts = {int(other): int(number) for other, number in zip(*np.unique(taken, return_counts=True), strict=True)}
    for other, number in counts.items():
        for single in split_value(other, values):
            overlaps[single, value] += number
    if label.overlap != "regions":
        whole[places] = value
        return whole
    united = {other: combined_value({*split_value(other, values), value}, values) for other in counts}
    whole = whole.astype(np.promote_types(whole.dtype, _kind(max(united.values()))), copy=False)
    whole[places] = _replaced(earlier.astype(whole.dtype), {0: value, **united})
    return whole


def _replaced(array: Array, table: Mapping[int, int]) -> Array:
    result = array.copy()
    for old, new in table.items():
        result[array == old] = new
    return result


def _kind(highest: int) -> type[np.uint8 | np.uint16 | np.int32]:
    return np.uint8 if highest <= 255 else np.uint16 if highest <= 65535 else np.int32


def _describe(overlaps: Counter[tuple[int, int]], label: LabelFiles) -> str:
    names = {part.value: part.name for part in label.parts}
    shown = [f"{names[one]} and {names[other]} in {count} voxels" for (one, other), count in overlaps.most_common(3)]
    more = f" and {len(overlaps) - 3} more pairs" if len(overlaps) > 3 else ""
    return f"the labels in {label} overlap: {', '.join(shown)}{more}"
