"""Whether a fold can do without the windows of air: tried on its validation cases, with all windows and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from attunet.bundle.execution import Air
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.preprocess import prepare, prepare_label
from attunet.data.volume import Volume
from attunet.inference.segmenter import Segmenter
from attunet.inference.windows.tiling import Tiling, least_content_height, without_air

__all__ = ["audit_air", "with_air"]

_MOST_CASES = 10
_SAFETY = 0.5  # of the least height that a window with a label reaches above its image's minimum


def audit_air(segmenter: Segmenter, cases: Sequence[Case], *, geometry: GeometryPolicy = "fail") -> Air:
    """Learn the level of air from labelled cases (ten at most), and count what leaving such windows out loses.

    The level is half the least height of any window that holds a label, so none of these is ever left out. It is used
    when windows were left out, and not one voxel of a label was lost.
    """
    chosen = list(cases)[:: max(1, -(-len(cases) // _MOST_CASES))]
    heights = [_height(segmenter, case, geometry) for case in chosen]
    level = _SAFETY * min(heights, default=0.0)
    if not isfinite(level) or level <= 0:
        return Air(used=False, level=0.0, cases=len(chosen), windows=0, skipped=0, lost=0)
    windows = skipped = lost = 0
    for case in chosen:
        image, label = read_case(case, geometry=geometry)
        assert label is not None
        tiling, kept = _windows(segmenter, image, level)
        windows, skipped = windows + len(tiling), skipped + len(tiling) - len(kept)
        lost += _lost(segmenter, level, image, label) if len(kept) < len(tiling) else 0
    return Air(
        used=skipped > 0 and lost == 0, level=level, cases=len(chosen), windows=windows, skipped=skipped, lost=lost
    )


def with_air(segmenter: Segmenter, air: Air) -> Segmenter:
    """The same model, which leaves windows of air out if that is allowed."""
    level = air.level if air.used else None
    return replace(segmenter, members=tuple(replace(member, air=level) for member in segmenter.members))


def _height(segmenter: Segmenter, case: Case, geometry: GeometryPolicy) -> float:
    plan = segmenter.plan
    image, label = read_case(case, geometry=geometry)
    assert label is not None
    prepared = prepare(image, plan.preprocessing)
    classes = prepare_label(label, prepared.record, plan.file_values, plan.ignore_label)
    return least_content_height(prepared.array, classes, Tiling.of(prepared.record.model_shape, plan.patch_size, 0.5))


def _windows(segmenter: Segmenter, image: Volume, level: float) -> tuple[Tiling, Tiling]:
    plan = segmenter.plan
    prepared = prepare(image, plan.preprocessing)
    tiling = Tiling.of(prepared.record.model_shape, plan.patch_size, 0.5)
    return tiling, without_air(tiling, prepared.array, level)


def _lost(segmenter: Segmenter, level: float, image: Volume, label: Volume) -> int:
    """Voxels with a label in the reference that all windows give one, and fewer windows do not give the same."""
    background = next(iter(segmenter.plan.labels.values()))
    leaving = replace(segmenter, members=tuple(replace(member, air=level) for member in segmenter.members))
    whole, fewer = (one.predict(image).segmentation.array for one in (segmenter, leaving))
    return int(np.count_nonzero((label.array != background) & (whole != background) & (fewer != whole)))
