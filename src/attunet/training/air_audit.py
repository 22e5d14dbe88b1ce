"""Decide whether a fold may skip windows that contain only air: segment its validation cases with and without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from attunet.bundle.execution import Air
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.preprocess import prepare, prepare_label
from attunet.data.volume import Volume
from attunet.failures import Failures
from attunet.inference.segmenter import Segmenter
from attunet.inference.windows.tiling import Tiling, least_content_height, without_air

__all__ = ["audit_air", "with_air"]

_MAX_CASES = 10
_SAFETY = 0.5
"""Threshold as a fraction of the smallest height above the image's minimum of any window with a label."""


def audit_air(
    segmenter: Segmenter, cases: Sequence[Case], *, geometry: GeometryPolicy = "fail", safety: float = _SAFETY
) -> Air:
    """Learn the air threshold from labelled cases (at most ten), and count the voxels lost by skipping such windows.

    The threshold is half the smallest height of any window with a label, so no such window is skipped. It is used if
    windows were skipped and no labelled voxel was lost.

    Args:
        segmenter: the fold's segmenter.
        cases: its validation cases.
        geometry: what to do when the grids of an image and its label differ.
        safety: the threshold as a fraction of that height.
    Returns: the threshold, whether to use it, and the counts; cases that cannot be used count nowhere.
    """
    chosen = list(cases)[:: max(1, -(-len(cases) // _MAX_CASES))]
    failures, heights = Failures(), []
    for case in chosen:
        with failures.of(case.id):
            heights.append(_height(segmenter, case, geometry))
    chosen = [case for case in chosen if case.id not in failures.errors]
    level = safety * min(heights, default=0.0)
    if not isfinite(level) or level <= 0:
        return Air(used=False, level=0.0, cases=len(chosen), windows=0, skipped=0, lost=0)
    windows = skipped = lost = 0
    for case in chosen:
        image, label = read_case(case, geometry=geometry)
        assert label is not None
        tiling, remaining = _windows(segmenter, image, level)
        windows, skipped = windows + len(tiling), skipped + len(tiling) - len(remaining)
        lost += _lost(segmenter, level, image, label) if len(remaining) < len(tiling) else 0
    return Air(
        used=skipped > 0 and lost == 0, level=level, cases=len(chosen), windows=windows, skipped=skipped, lost=lost
    )


def with_air(segmenter: Segmenter, air: Air) -> Segmenter:
    """The same model, skipping windows that contain only air if this is allowed."""
    level = air.level if air.used else None
    return replace(segmenter, members=tuple(replace(member, air=level) for member in segmenter.members))


def _height(segmenter: Segmenter, case: Case, geometry: GeometryPolicy) -> float:
    plan = segmenter.plan
    image, label = read_case(case, geometry=geometry)
    assert label is not None
    prepared = prepare(image, plan.preprocessing)
    classes = prepare_label(label, prepared.record, plan.file_classes, plan.ignore_label)
    return least_content_height(prepared.array, classes, Tiling.of(prepared.record.model_shape, plan.patch_size, 0.5))


def _windows(segmenter: Segmenter, image: Volume, level: float) -> tuple[Tiling, Tiling]:
    plan = segmenter.plan
    prepared = prepare(image, plan.preprocessing)
    tiling = Tiling.of(prepared.record.model_shape, plan.patch_size, 0.5)
    return tiling, without_air(tiling, prepared.array, level)


def _lost(segmenter: Segmenter, level: float, image: Volume, label: Volume) -> int:
    """Labelled voxels of the reference that are foreground with all windows, but change without the air windows."""
    background = next(iter(segmenter.plan.labels.values()))
    skipping = replace(segmenter, members=tuple(replace(member, air=level) for member in segmenter.members))
    whole, fewer = (model.predict(image).segmentation.array for model in (segmenter, skipping))
    return int(np.count_nonzero((label.array != background) & (whole != background) & (fewer != whole)))
