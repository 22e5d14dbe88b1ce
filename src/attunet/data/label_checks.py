"""Plausibility of label files: soft edges, one mask in two encodings, numbers of objects, nothing to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attunet.data.dataset import Dataset, Problem
from attunet.data.labels import MOST_UNITED, background_value, declared_values, describe_values
from attunet.data.volume import Array
from attunet.names import listed

__all__ = ["WITHOUT_BACKGROUND", "LabelContents", "check_labels", "has_soft_edges"]

FEWEST_BETWEEN = 3
MANY_BETWEEN = 8
EDGE_BAND = 0.05
"""Share of the range of values at both ends that counts as the end: compression moves 255 to 254."""
MOST_INTERIOR = 0.1
LEAST_SLOPE = 0.6
FEWEST_PER_AREA = 3
FEWEST_RARE = 6
MOST_VOXELS = 2**20
BAND_ROWS = 64
SCATTERED = 4.0
PEAKED = 10.0
FULL_SCALE = frozenset({100, 127, 128, 200, 254, 255, 32767, 32768, 65535})
FEWEST_OBJECTS = 10
WITHOUT_BACKGROUND = "no background"
"""The kind of problem that does not stop planning: every voxel may well be annotated."""


@dataclass(frozen=True)
class LabelContents:
    """The values in the label of a case.

    Args:
        case: id of the case.
        counts: value to voxel count.
        soft: whether the label looks like a mask with soft edges, see `has_soft_edges`.
    """

    case: str
    counts: Mapping[int, int]
    soft: bool = False

    @property
    def values(self) -> frozenset[int]:
        """The values that occur."""
        return frozenset(value for value, count in self.counts.items() if count)


def has_soft_edges(label: Array, counts: Mapping[int, int]) -> bool:
    """Whether a label (I, J, K) is a mask with soft edges: interpolated, anti-aliased or compressed with losses.

    Many values then form no areas of their own: they lie on the slope between values that do, and each is scattered
    along the whole edge, or rare next to those.
    """
    if sum(count > 0 for count in counts.values()) < FEWEST_BETWEEN + 2 or label.size < 2:
        return False
    label = _sampled(label)
    found, numbers = np.unique(label, return_counts=True)
    counts = dict(zip(found.tolist(), numbers.tolist(), strict=True))
    values = list(counts)
    if len(values) < FEWEST_BETWEEN + 2:
        return False
    low, top = values[0], values[-1]
    band = EDGE_BAND * (top - low)
    if _rings(label, counts, band):
        return True
    places = np.nonzero((label > low) & (label < top) & (label >= low + band) & (label <= top - band))
    between, index = np.unique(label[places], return_inverse=True)
    wide = top - low >= 4 * len(values)  # such as 0, 64, 128, 191, 255; classes are usually numbered one by one
    fewest = FEWEST_BETWEEN if wide else MANY_BETWEEN
    if len(between) < fewest:
        return False
    interior, slope = _neighbourhood(label, places)
    numbers = np.bincount(index)
    areas = np.bincount(index, interior) > MOST_INTERIOR * numbers
    edges = ~areas[index]
    thin = len(between) - int(areas.sum())
    if thin < fewest or thin < FEWEST_PER_AREA * (1 + areas.sum()) or slope[edges].mean() < LEAST_SLOPE:
        return False
    filled = sum(counts[value] for value in values[1:] if value > top - band or value == top)
    filled += int(numbers[areas].sum())
    places = tuple(axis[edges] for axis in places)
    peaked = filled > PEAKED * len(places[0]) / thin and 2 * filled > len(places[0])
    return peaked or _scatter(label, places) > SCATTERED


def check_labels(dataset: Dataset, contents: Sequence[LabelContents]) -> list[Problem]:
    """What is implausible about the labels of a whole data set.

    Values that the data set declares are taken as declared; those that it does not are judged by what they look like.

    Args:
        dataset: the data set, for what it declares.
        contents: the values of each label that can be read.
    Returns: problems, which also stop planning, and warnings.
    """
    declared = declared_values(dataset)
    background = background_value(dataset.label_names)
    foreground = {case.case: case.values - {background, dataset.ignore_label} for case in contents}
    values = frozenset().union(*foreground.values()) if foreground else frozenset()
    if contents and not (values if declared is None else values & declared):
        return [*_negative(values, declared), _nothing(dataset, values)]
    if declared is not None and values <= declared:
        return []
    soft = [case.case for case in contents if case.soft]
    if soft:
        return [_soft(soft, contents, background)]
    if declared is not None:
        return list(_negative(values, declared))
    negative = list(_negative(values, declared))
    everywhere = [] if negative else _no_background(contents, background)
    return [*negative, *_two_encodings(foreground), *_instances(foreground), *everywhere]


def _sampled(label: Array) -> Array:
    """The label, or of a large one evenly spaced planes, of which each has its neighbours before and after.

    Of a large picture, bands of rows.
    """
    step = -(-label.size // MOST_VOXELS)
    if step == 1:
        return label
    if label.shape[2] > 1:
        starts = range(0, label.shape[2] - 2, 3 * step)
        return np.concatenate([label[:, :, start : start + 3] for start in starts] or [label], axis=2)
    starts = range(0, label.shape[0], BAND_ROWS * step)
    return np.concatenate([label[start : start + BAND_ROWS] for start in starts], axis=0)


def _rings(label: Array, counts: Mapping[int, int], band: float) -> bool:
    """Whether a mask of two values has the traces of JPEG: rare values without areas, close to each of the two."""
    values = sorted(value for value, count in counts.items() if count)
    ends = [[value for value in values if abs(value - end) <= band] for end in (values[0], values[-1])]
    common = [max(end, key=lambda value: counts[value]) for end in ends]
    rare = sorted({value for end in ends for value in end} - {*common})
    rarest = sum(counts[value] for value in rare)
    if len(rare) < FEWEST_RARE or min(len(end) for end in ends) < FEWEST_BETWEEN:
        return False
    if min(counts[value] for value in common) < PEAKED * rarest / len(rare):
        return False
    same, _ = _neighbourhood(label, np.nonzero(np.isin(label, rare)))
    return bool(same.mean() <= MOST_INTERIOR)


def _neighbourhood(label: Array, places: tuple[Array, ...]) -> tuple[Array, Array]:
    """Of some voxels, which have only neighbours of their own value, and which lie between two neighbours."""
    here = label[places]
    same, slope = np.ones(len(here), bool), np.zeros(len(here), bool)
    for axis, size in enumerate(label.shape):
        if size == 1:
            continue
        before, after = (
            label[(*places[:axis], np.clip(places[axis] + step, 0, size - 1), *places[axis + 1 :])] for step in (-1, 1)
        )
        same &= (before == here) & (after == here)
        slope |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    return same, slope


def _scatter(label: Array, places: tuple[Array, ...]) -> float:
    """The size of the box around the voxels of a value, divided by their number; the median over the values."""
    values, index = np.unique(label[places], return_inverse=True)
    boxes = np.ones(len(values))
    for axis in places:
        low, high = np.full(len(values), np.iinfo(np.int64).max), np.full(len(values), -1)
        np.minimum.at(low, index, axis)
        np.maximum.at(high, index, axis)
        boxes *= high - low + 1
    return float(np.median(boxes / np.bincount(index)))


def _nothing(dataset: Dataset, values: frozenset[int]) -> Problem:
    if dataset.label_names is not None and values:
        message = f"no case holds a declared label: the label files hold only {describe_values(values)}"
        return Problem("", "nothing to learn", message, "declare the values that the label files hold, or correct them")
    message = "no case holds any label to learn: every label file is background"
    remedy = "check that the label files are the masks, and that they were saved with their values"
    return Problem("", "nothing to learn", message, remedy)


def _soft(soft: Sequence[str], contents: Sequence[LabelContents], background: int) -> Problem:
    values = sorted(frozenset().union(*(case.values for case in contents if case.soft)) - {background})
    sharp = frozenset().union(*(case.values for case in contents if not case.soft)) - {background}
    top = max(values[-1], *sharp, background + 1)
    half = (top + background + 1) // 2
    message = (
        f"{_cases(soft)} of {len(contents)} {'hold' if len(soft) > 1 else 'holds'} {len(values)} values between "
        f"{background} and {values[-1]}, most of them only at edges: an interpolated, anti-aliased or compressed mask, "
        "not classes"
    )
    remedy = "save the masks from their source with nearest neighbour and without losses"
    if len(levels := _levels(contents, background)) > 1:
        remedy += f"; the classes seem to be {describe_values(levels)}"
    elif sharp <= frozenset(range(half, top + 1)):
        remedy = f'merge the upper half with --labels "NAME={half}-{top}", or {remedy}'
    else:  # the sharp masks have another encoding, whose values are edges here
        remedy += f"; the others hold {describe_values(sharp)}, so give all the same encoding"
    return Problem("", "soft edges", message, remedy)


def _levels(contents: Sequence[LabelContents], background: int) -> list[int]:
    """The values that are far more frequent than the others of soft masks."""
    total: Counter[int] = Counter()
    for case in contents:
        total.update(case.counts if case.soft else {})
    del total[background]
    usual = float(np.percentile(list(total.values()), 25))
    common = sorted(value for value, count in total.items() if count > PEAKED * usual)
    apart = EDGE_BAND * max(total)
    return [value for value, after in zip(common, [*common, np.inf][1:], strict=True) if after - value > apart]


def _negative(values: frozenset[int], declared: frozenset[int] | None) -> Iterator[Problem]:
    if found := sorted(value for value in values if value < 0 and (declared is None or value not in declared)):
        message = f"the label files contain {describe_values(found)}, which may mean unlabelled, background or a fault"
        remedy = (
            f'declare it in dataset.json, as "ignore": {found[0]} or "background": {found[0]}; '
            'or state the labels with --labels "NAME=VALUE", so that it becomes background'
        )
        yield Problem("", "negative label value", message, remedy)


def _two_encodings(foreground: Mapping[str, frozenset[int]]) -> Iterator[Problem]:
    """Families of values that never share a case, one of them numbered, another at the full scale of a grey image."""
    families: list[set[int]] = []
    for values in foreground.values():
        joined = set(values).union(*(family for family in families if family & values))
        families = [family for family in families if not family & values] + ([joined] if joined else [])
    families.sort(key=max)
    scaled = any(max(family) in FULL_SCALE or min(family) < 0 for family in families)
    if len({len(family) for family in families}) != 1 or len(families) < 2 or not scaled:
        return
    holders = [sum(bool(values & family) for values in foreground.values()) for family in families]
    parts = [f"{describe_values(family)} in {count}" for family, count in zip(families, holders, strict=True)]
    united = "+".join(str(max(family)) for family in families)
    message = f"the label files hold {' cases, '.join(parts)} cases, and never together: one mask in two encodings"
    remedy = (
        f'if they mean the same, merge them with --labels "NAME={united}"; if they do not, name them in dataset.json '
        "or with --labels"
    )
    yield Problem("", "two encodings", message, remedy)


def _instances(foreground: Mapping[str, frozenset[int]]) -> Iterator[Problem]:
    """Numbers of objects: counted from 1 in every case, to another number in each, or hardly ever the same twice."""
    cases = [values for values in foreground.values() if values]
    tops = [max(values) for values in cases]
    if len(cases) < 2 or max(tops) < FEWEST_OBJECTS:
        return
    counted = sum(min(values) >= 1 and len(values) >= 0.9 * max(values) for values in cases) >= 0.9 * len(cases)
    differ = len(set(tops)) >= max(2, min(10, 0.5 * len(cases))) and min(tops) < 0.8 * max(tops)
    every = frozenset().union(*cases)
    unshared = len(every) >= FEWEST_OBJECTS and sum(map(len, cases)) < 1.2 * len(every) and len(cases) >= 3
    if not ((counted and differ) or (unshared and not counted)):
        return
    how = "counted from 1 in every case" if counted else "hardly any of which occur in two cases"
    message = f"the label files hold up to {max(map(len, cases))} values a case, {how}: numbers of objects, not classes"
    merge = f'merge them with --labels "NAME={max(1, min(every))}-{max(every)}"'
    merge = merge if max(every) < MOST_UNITED else "save all of them as 1"
    remedy = f"to learn what all of them are, {merge}; if they are classes, name them in dataset.json"
    yield Problem("", "instance numbers", message, remedy)


def _no_background(contents: Sequence[LabelContents], background: int) -> Iterator[Problem]:
    """Labels without a voxel of background, as of tools that count classes from 1."""
    full = [case for case in contents if background not in case.values]
    values = frozenset().union(*(case.values for case in contents)) - {background}
    if len(full) < len(contents):
        for case in full:
            remedy = "check that it is the right file; nothing to do if it is annotated everywhere"
            listed = describe_values(case.values)
            yield Problem(case.case, WITHOUT_BACKGROUND, f"every voxel of the label is {listed}", remedy, "warning")
    elif len(values) == 1:
        message = f"every voxel of every label file is {describe_values(values)}, so there is nothing to tell apart"
        remedy = 'check that the label files are the masks; if they are, state the label with --labels "NAME=VALUE"'
        yield Problem("", "nothing to learn", message, remedy)
    elif full:
        message = (
            f"no label file has a voxel of background ({background}): every voxel is one of {describe_values(values)}"
        )
        remedy = (
            f'declare the labels in dataset.json; if {min(values)} is the background, as "background": {min(values)}'
        )
        yield Problem("", WITHOUT_BACKGROUND, message, remedy)


def _cases(names: Sequence[str]) -> str:
    return f"{len(names)} label file{'s' * (len(names) != 1)} ({listed(names, 3)})"
