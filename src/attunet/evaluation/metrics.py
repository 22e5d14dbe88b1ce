"""The table of metrics: what each measures, and how summaries, JSON files, tables and reports show it.

To add a metric, write its function and add its row here; everything that shows metrics reads this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from attunet.data.geometry import Voxel
from attunet.evaluation.overlap import Counts, Mask
from attunet.evaluation.skeleton import skeleton_recall
from attunet.evaluation.surface import SurfaceScores, surface_scores

__all__ = ["COMPARED", "METRICS", "TABULATED", "MaskPair", "MetricSpec"]


@dataclass(frozen=True)
class MaskPair:
    """A reference and a prediction of one label, at least one of which is not empty.

    Args:
        reference: boolean array (I, J, K).
        prediction: boolean array on the same grid.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
        counts: numbers of true and false positives and negatives.
    """

    reference: Mask
    prediction: Mask
    voxel: Voxel
    counts: Counts

    @cached_property
    def surface(self) -> SurfaceScores:
        """Both surface distances, computed once."""
        return surface_scores(self.reference, self.prediction, self.voxel)


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric. Exactly one of `of_counts` and `of_masks` is given.

    Args:
        name: key in JSON files and of `LabelScores.values`.
        description: one line for readers of summary.json.
        of_counts: computes it from the voxel counts; nan when both masks are empty.
        of_masks: computes it from the masks; the value is nan when both are empty.
        heading: heading of its column in a table; by default the name.
        unit: unit of the value, shown after the heading; empty for shares and counts.
        digits: digits after the decimal point in tables.
        rank: columns of the highest rank are hidden first in a narrow terminal.
        better: the better direction; None if there is none (a signed error, a count).
        tabulated: whether tables of scores have a column for it.
        compared: whether differences between models are tested for it.
    """

    name: str
    description: str
    of_counts: Callable[[Counts], float] | None = None
    of_masks: Callable[[MaskPair], float] | None = None
    heading: str = ""
    unit: str = ""
    digits: int = 3
    rank: int = 0
    better: Literal["higher", "lower"] | None = None
    tabulated: bool = False
    compared: bool = False

    @property
    def column(self) -> str:
        """Heading and unit of its column."""
        return f"{self.heading or self.name} {self.unit}".rstrip()


_TABLE = (
    MetricSpec(
        name="Dice",
        description="Dice",
        of_counts=lambda counts: counts.dice,
        better="higher",
        tabulated=True,
        compared=True,
    ),
    MetricSpec(
        name="IoU",
        description="intersection over union",
        of_counts=lambda counts: counts.iou,
        better="higher",
    ),
    MetricSpec(
        name="Precision",
        description="precision",
        of_counts=lambda counts: counts.precision,
        better="higher",
        rank=2,
        tabulated=True,
        compared=True,
    ),
    MetricSpec(
        name="Recall",
        description="recall",
        of_counts=lambda counts: counts.recall,
        better="higher",
        rank=2,
        tabulated=True,
        compared=True,
    ),
    MetricSpec(
        name="SkeletonRecall",
        description="recall on the reference's skeleton, for thin structures",
        of_masks=lambda pair: skeleton_recall(pair.reference, pair.prediction),
        heading="Skeleton recall",
        better="higher",
    ),
    MetricSpec(
        name="MSD",
        description="mean symmetric surface distance, mm",
        of_masks=lambda pair: pair.surface.mean,
        unit="mm",
        digits=2,
        better="lower",
        rank=3,
        tabulated=True,
        compared=True,
    ),
    MetricSpec(
        name="HD95",
        description="95th-percentile Hausdorff distance, mm",
        of_masks=lambda pair: pair.surface.hd95,
        unit="mm",
        digits=2,
        better="lower",
        rank=1,
        tabulated=True,
        compared=True,
    ),
    MetricSpec(
        name="VolumeErrorMl",
        description="predicted minus reference volume, ml",
        of_masks=lambda pair: pair.counts.volume_error(pair.voxel).ml,
        heading="Volume error",
        unit="ml",
        digits=2,
        rank=4,
        tabulated=True,
    ),
    MetricSpec(
        name="RelativeVolumeError",
        description="volume error as a share of the reference volume",
        of_masks=lambda pair: pair.counts.volume_error(pair.voxel).relative,
        heading="Relative volume error",
    ),
    MetricSpec(name="TP", description="true positive voxels", of_counts=lambda counts: counts.tp, digits=0),
    MetricSpec(name="FP", description="false positive voxels", of_counts=lambda counts: counts.fp, digits=0),
    MetricSpec(name="FN", description="false negative voxels", of_counts=lambda counts: counts.fn, digits=0),
    MetricSpec(name="TN", description="true negative voxels", of_counts=lambda counts: counts.tn, digits=0),
    MetricSpec(name="n_pred", description="predicted voxels", of_counts=lambda counts: counts.n_pred, digits=0),
    MetricSpec(name="n_ref", description="reference voxels", of_counts=lambda counts: counts.n_ref, digits=0),
)

METRICS: Mapping[str, MetricSpec] = {spec.name: spec for spec in _TABLE}
"""Every metric by name, in the order of JSON files."""

TABULATED: tuple[MetricSpec, ...] = tuple(spec for spec in _TABLE if spec.tabulated)
"""The metrics that tables of scores show, Dice first."""

COMPARED: tuple[MetricSpec, ...] = tuple(spec for spec in _TABLE if spec.compared)
"""The metrics in which models are compared; Holm's correction covers all labels and models of each metric."""
