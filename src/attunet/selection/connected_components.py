"""One label's mask in one case, taken apart: what each cleaning would do to its Dice, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label

from attunet.config import ComponentRules, Plan
from attunet.data.volume import Array, Spacing
from attunet.evaluation.overlap import CUBIC_MM_PER_ML, Mask
from attunet.evaluation.scores import Values
from attunet.inference.postprocess import clean

__all__ = ["Components", "LabelComponents", "connected_components"]

Numbers = npt.NDArray[np.number[Any]]

_FILL = ComponentRules(fill_holes=True)
_NOWHERE = (slice(0, 0),) * 3


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components (26 neighbours) of a mask.

    Args:
        ml: (components,) their volumes.
        voxels, hits: (components,) how many of their voxels count, and how many of those are right.
        reference: voxels of the reference that count.
    """

    ml: Numbers
    voxels: Numbers
    hits: Numbers
    reference: int

    @classmethod
    def of(cls, mask: Mask, kept: Mask, truth: Mask, reference: int, voxel_ml: float) -> Self:
        """The pieces of a mask.

        Args: boolean arrays (I, J, K): the mask, the voxels that count, the truth; how many voxels of the truth count;
            millilitres in a voxel.
        """
        box = next(iter(find_objects(mask.view(np.uint8))), _NOWHERE)
        inner, right = mask[box], kept[box] & truth[box]
        marks, _ = label(inner, structure=np.ones((3, 3, 3)))
        rows = [np.bincount(marks.ravel(), weight.ravel())[1:] for weight in (inner, inner & kept[box], inner & right)]
        return cls(rows[0] * voxel_ml, rows[1], rows[2], reference)

    def dice(self, minimum_ml: float, largest: bool) -> float:
        """Dice of the components that are left; 1 where nothing is left and nothing was to be found."""
        kept = self.ml >= minimum_ml
        if largest and len(kept):
            kept &= np.arange(len(kept)) == self.ml.argmax()
        predicted = self.voxels[kept].sum()
        total = predicted + self.reference
        return float(2 * self.hits[kept].sum() / total) if total else 1.0


@dataclass(frozen=True)
class LabelComponents:
    """A label's mask as predicted, and with its holes filled."""

    plain: Components
    filled: Components

    def dice(self, how: ComponentRules) -> float:
        """Dice after this cleaning; 1 where the label is in neither mask."""
        return (self.filled if how.fill_holes else self.plain).dice(how.minimum_ml, how.largest_component)


def connected_components(
    predicted: Array, reference: Array, plan: Plan, united: Mapping[str, Values], spacing: Spacing
) -> dict[str, LabelComponents]:
    """The pieces of every label of a case.

    Args: masks of label values (I, J, K) on one grid; label name to its value, or to those of a region; spacing in mm.
    """
    voxel_ml = prod(spacing) / CUBIC_MM_PER_ML
    counted = np.ones(reference.shape, bool) if plan.ignore_label is None else reference != plan.ignore_label
    found = {}
    for name, values in united.items():
        mask, truth = np.isin(predicted, values), np.isin(reference, values)
        wanted = int(np.count_nonzero(truth & counted))
        plain = Components.of(mask, counted, truth, wanted, voxel_ml)
        closed = clean(mask.view(np.uint8), {name: _FILL}, {"background": 0, name: 1}, spacing).view(np.bool_)
        if np.array_equal(closed, mask):
            found[name] = LabelComponents(plain, plain)
            continue
        # a hole that holds another label is closed when pieces are told apart, but the other label stays
        written = clean(predicted, {name: _FILL}, plan.labels, spacing, regions=plan.regions)
        filled = Components.of(closed, counted & np.isin(written, values), truth, wanted, voxel_ml)
        found[name] = LabelComponents(plain, filled)
    return found
