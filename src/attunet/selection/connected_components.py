"""The connected components of a label's mask: the Dice after any post-processing, without applying it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from attunet.config import ComponentRules, Plan
from attunet.data.geometry import Array, Voxel, voxel_ml
from attunet.data.labels import Values
from attunet.data.orientation import bounding_box
from attunet.evaluation.overlap import Mask
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
        voxels: (components,) their numbers of voxels that are not ignored.
        hits: (components,) their numbers of voxels inside the reference.
        reference: number of the reference's voxels that are not ignored.
    """

    ml: Numbers
    voxels: Numbers
    hits: Numbers
    reference: int

    @classmethod
    def of(cls, mask: Mask, counted: Mask, truth: Mask, reference: int, voxel_ml: float) -> Self:
        """The components of a mask.

        Args:
            mask: boolean array (I, J, K).
            counted: the voxels that are not ignored.
            truth: the reference mask.
            reference: number of the reference's voxels that are not ignored.
            voxel_ml: volume of a voxel in ml.
        Returns: their volumes, and their voxels in and outside the reference.
        """
        box = bounding_box(mask) or _NOWHERE
        inner, right = mask[box], counted[box] & truth[box]
        components, _ = label(inner, structure=np.ones((3, 3, 3)))
        rows = [
            np.bincount(components.ravel(), weight.ravel())[1:]
            for weight in (inner, inner & counted[box], inner & right)
        ]
        return cls(rows[0] * voxel_ml, rows[1], rows[2], reference)

    def dice(self, minimum_ml: float, largest: bool) -> float:
        """Dice of the remaining components; 1 if nothing remains and the reference is empty."""
        remaining = self.ml >= minimum_ml
        if largest and len(remaining):
            remaining &= np.arange(len(remaining)) == self.ml.argmax()
        predicted = self.voxels[remaining].sum()
        total = predicted + self.reference
        return float(2 * self.hits[remaining].sum() / total) if total else 1.0


@dataclass(frozen=True)
class LabelComponents:
    """A label's mask as predicted, and with its holes filled."""

    plain: Components
    filled: Components

    def dice(self, rules: ComponentRules) -> float:
        """Dice after this post-processing; 1 if the label is in neither mask."""
        return (self.filled if rules.fill_holes else self.plain).dice(rules.minimum_ml, rules.largest_component)


def connected_components(
    predicted: Array, reference: Array, plan: Plan, labels: Mapping[str, Values], voxel: Voxel
) -> dict[str, LabelComponents]:
    """The connected components of every label of a case.

    Args:
        predicted: label values (I, J, K).
        reference: label values on the same grid.
        plan: its ignored voxels are left out.
        labels: label name to its value, or region to its values.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
    Returns: label name to its components.
    """
    each_ml = voxel_ml(voxel)
    counted = np.ones(reference.shape, bool) if plan.ignore_label is None else reference != plan.ignore_label
    components = {}
    for name, values in labels.items():
        mask, truth = np.isin(predicted, values), np.isin(reference, values)
        expected = int(np.count_nonzero(truth & counted))
        plain = Components.of(mask, counted, truth, expected, each_ml)
        closed = clean(mask.view(np.uint8), {name: _FILL}, {"background": 0, name: 1}, voxel).view(np.bool_)
        if np.array_equal(closed, mask):
            components[name] = LabelComponents(plain, plain)
            continue
        # a hole with another label is closed to find components, but the other label stays
        written = clean(predicted, {name: _FILL}, plan.labels, voxel, regions=plan.regions)
        filled = Components.of(closed, counted & np.isin(written, values), truth, expected, each_ml)
        components[name] = LabelComponents(plain, filled)
    return components
