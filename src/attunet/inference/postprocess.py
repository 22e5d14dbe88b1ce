"""Post-processing of masks with the rules that a cross-validation accepted, label by label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attunet.config import ComponentRules
from attunet.data.geometry import Array, Voxel, voxel_ml
from attunet.data.orientation import bounding_box

__all__ = ["clean"]

Mask = npt.NDArray[np.bool_]
Regions = Mapping[str, tuple[int, ...]]

_TOUCHING = ndimage.generate_binary_structure(3, 3)  # 26 neighbours, 8 in a slice


def clean(
    mask: Array,
    cleaning: Mapping[str, ComponentRules],
    labels: Mapping[str, int],
    voxel: Voxel,
    *,
    regions: Regions | None = None,
) -> Array:
    """Apply each label's post-processing to a mask (I, J, K) of label values, in the order of `labels`; returns a copy.

    Removed voxels become background, and background in filled holes gets the label. A region is processed as the union
    of its values: removed voxels go to the smallest region around it, or to the background, and filled voxels may come
    from the regions around it, too. Voxels of a component share a face, an edge or a corner; of two equally large
    components, the first is kept. Holes are cavities with respect to face neighbours; in an image one voxel deep,
    within its slice.
    Args:
        mask: label values (I, J, K).
        cleaning: the rules by label name.
        labels: name to value, background first.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
        regions: for overlapping targets, name to the values that each unites; None for exclusive labels.
    Returns: the post-processed mask.
    """
    result = mask.copy(order="K")
    background = next(iter(labels.values()))
    for name in labels:
        rules = cleaning.get(name)
        if rules is None or rules == ComponentRules():
            continue
        around = _around(name, regions or {})
        united = (regions or {}).get(name, (labels[name],))
        yields = {background, *(value for other in around for value in (regions or {})[other])} - set(united)
        fallback = labels[around[0]] if around else background
        each_ml = voxel_ml(voxel)
        _clean_label(result, united, rules, each_ml, value=labels[name], fallback=fallback, yields=yields)
    return result


def _clean_label(
    mask: Array,
    united: tuple[int, ...],
    rules: ComponentRules,
    each_ml: float,
    *,
    value: int,
    fallback: int,
    yields: set[int],
) -> None:
    """Process a label in place, within its bounding box, which contains its holes, too."""

    def marks(part: Array) -> Mask:
        return np.isin(part, united) if len(united) > 1 else np.asarray(part == united[0])

    box = bounding_box(mask, marks)
    if box is None:
        return
    before = marks(mask[box])
    flat = tuple(size == 1 for size in mask.shape)
    after = _large_parts(_filled(before, flat) if rules.fill_holes else before, rules, each_ml)
    part = mask[box]
    part[before & ~after] = fallback
    part[after & ~before & np.isin(part, sorted(yields))] = value


def _around(name: str, regions: Regions) -> list[str]:
    """The regions that contain this one, the smallest first."""
    inner = set(regions.get(name, ()))
    holders = [other for other, values in regions.items() if inner and inner < set(values)]
    return sorted(holders, key=lambda other: len(regions[other]))


def _filled(mask: Mask, flat: tuple[bool, ...]) -> Mask:
    """The mask with its cavities (with respect to face neighbours) filled; flat axes are ignored."""
    if all(flat):
        return mask
    margin = [(0, 0) if closed else (1, 1) for closed in flat]
    inside = tuple(slice(low, low + size) for (low, _), size in zip(margin, mask.shape, strict=True))
    cavities, _ = ndimage.label(~np.pad(mask, margin))
    return np.asarray((cavities != cavities[0, 0, 0])[inside])


def _large_parts(mask: Mask, rules: ComponentRules, each_ml: float) -> Mask:
    """The components that are large enough, or only the largest of them."""
    if not rules.largest_component and not rules.minimum_ml:
        return mask
    parts, _ = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large_enough = (sizes > 0) & (sizes * each_ml >= rules.minimum_ml)
    if rules.largest_component:
        large_enough &= np.arange(len(sizes)) == sizes.argmax()
    return np.asarray(large_enough[parts])
