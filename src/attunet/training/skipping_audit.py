"""Decide where a cascade may skip windows: threshold and margin at which no held-out case loses a labelled voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from attunet.bundle import Skipping, largest_share
from attunet.config import Plan
from attunet.data.coarse_map import foreground_probability
from attunet.inference.engines.protocol import Engine
from attunet.inference.localizer import locate, search_region
from attunet.inference.segmenter import Segmenter
from attunet.inference.windows.region import Region
from attunet.inference.windows.tiling import Tiling
from attunet.training.losses.targets import annotated_classes
from attunet.training.store import StoredCase

__all__ = ["MARGINS", "THRESHOLDS", "audit_skipping", "with_skipping"]

THRESHOLDS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
"""Probabilities of any label that are tried."""
MARGINS = (0, 1, 1.5, 2, 2.5, 3, 4, 6, 8)
"""Distances that are tried, in voxels of the coarse grid."""
_SAFETY = 1
"""Voxels of the coarse grid that are added to the margin once it is chosen."""
_WORTHWHILE = 0.05
"""Share of the windows below which skipping is not worth its risk."""
_STEP = 0.5


def audit_skipping(
    engines: Sequence[Engine], plan: Plan, cases: Sequence[tuple[StoredCase, StoredCase]], *, held_out: bool = True
) -> Skipping:
    """Choose the threshold and the margin that skip most windows and lose no labelled voxel of any held-out case.

    Cases without a labelled voxel prove nothing and do not count; nor do voxels to ignore, and labels that were not
    annotated in a case.

    Args:
        engines: of the fold's localizers.
        plan: the plan of the fine network.
        cases: the validation cases, each on the fine and on the coarse grid.
        held_out: whether the fold was trained without them.
    Returns: the decision, with its reason.
    """
    if not held_out:
        return _off("no case was held out of the training, so nothing can be audited")
    audited = [case for pair in cases if (case := _audited(engines, plan, *pair)).labelled.any()]
    if not audited:
        return _off("no held-out case has a label")
    dims = plan.network.spatial_dims
    voxel = max(plan.coarse.preprocessing.spacing[:dims])
    found = list(_safe(audited, voxel))
    if not found:
        lost = [case.lost(THRESHOLDS[-1], MARGINS[-1] * voxel) for case in audited]
        losing = sum(voxels > 0 for voxels in lost)
        reason = (
            f"{losing} of {len(audited)} held-out cases have labelled voxels farther than {MARGINS[-1] * voxel:.0f} mm "
            "from what the localizer found"
        )
        return _off(reason, cases=len(audited), lost=sum(lost), bound=largest_share(losing, len(audited)))
    threshold, margin = max(found, key=lambda pair: (_skipped(audited, *pair), pair[1], -pair[0]))
    share = _skipped(audited, threshold, margin)
    used = share >= _WORTHWHILE
    return Skipping(
        used=used,
        threshold=threshold,
        margin=margin,
        cases=len(audited),
        lost=0,
        skipped=share,
        bound=largest_share(0, len(audited)),
        reason="" if used else f"only {share:.0%} of the windows could be skipped",
    )


def with_skipping(segmenter: Segmenter, skipping: Skipping) -> Segmenter:
    """The same model of one fold, which skips windows as this audit allows."""
    return replace(segmenter, members=tuple(replace(member, skipping=(skipping,)) for member in segmenter.members))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Audited:
    """A held-out case: the probability of any label and the number of labelled voxels, on the coarse grid."""

    probability: npt.NDArray[np.float32]
    labelled: npt.NDArray[np.int64]
    tiling: Tiling
    spacing: tuple[float, float, float]

    def region(self, threshold: float, margin: float) -> Region | None:
        """Where windows are run; None for everywhere, as in a prediction that finds nothing."""
        region = search_region(self.probability, self.spacing, threshold, margin, self.tiling.shape)
        return None if region.empty else region

    def lost(self, threshold: float, margin: float) -> int:
        region = self.region(threshold, margin)
        return 0 if region is None else int(self.labelled[~region.mask].sum())


def _audited(engines: Sequence[Engine], plan: Plan, fine: StoredCase, coarse: StoredCase) -> _Audited:
    probability = foreground_probability(plan, locate(engines, plan, coarse.image()[:]))
    label = fine.label()[:]
    classes = annotated_classes(plan, fine.annotated) - {0}
    known = np.zeros(max(int(label.max()), *classes, 0) + 1, bool)
    known[list(classes)] = True
    counts = Region(np.zeros(probability.shape, bool), label.shape).counts(known[label])
    return _Audited(
        probability=probability,
        labelled=counts,
        tiling=Tiling.of(label.shape, plan.patch_size, _STEP),
        spacing=plan.coarse.preprocessing.spacing,
    )


def _safe(cases: Sequence[_Audited], voxel: float) -> Iterator[tuple[float, float]]:
    """For each threshold, the smallest margin without a lost voxel, and a voxel more."""
    for threshold in THRESHOLDS:
        for margin in MARGINS:
            if not any(case.lost(threshold, margin * voxel) for case in cases):
                yield threshold, (margin + _SAFETY) * voxel
                break


def _skipped(cases: Sequence[_Audited], threshold: float, margin: float) -> float:
    """The share of the windows of all cases that touch nothing of the region."""
    run = windows = 0
    for case in cases:
        region, tiling = case.region(threshold, margin), case.tiling
        windows += len(tiling)
        run += len(tiling) if region is None else sum(region.touches(tiling.box(start)) for start in tiling)
    return 1 - run / windows


def _off(reason: str, *, cases: int = 0, lost: int = 0, bound: float = 1.0) -> Skipping:
    return Skipping(
        used=False, threshold=THRESHOLDS[-1], margin=0, cases=cases, lost=lost, skipped=0, bound=bound, reason=reason
    )
