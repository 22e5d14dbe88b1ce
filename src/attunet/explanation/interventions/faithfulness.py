"""Deletion and insertion: how a mask changes when the image is blurred, or shown, in the order of a gate's attention.

The voxels of the model grid are ranked by a gate's coefficients. Deletion blurs the top share of them, insertion shows
the top share of a blurred image; the Dice as a function of this share is a curve, summarized by the area under it. If
the gate marks what the network needs, the Dice falls early in deletion (a small area) and rises early in insertion (a
large area), earlier than for random blobs.
Source: Petsiuk et al. 2018, RISE (arXiv:1806.07421), section 4.3."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import log, sqrt
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attunet.config import Plan
from attunet.data.preprocess import prepare
from attunet.data.resample import resize
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError, GeometryError
from attunet.evaluation.scores import dice_case, scored_labels
from attunet.explanation.interventions.ablation import ONCE, Against, gates_of
from attunet.explanation.interventions.context import prefixed
from attunet.explanation.scoring.scores import order_keys
from attunet.gates import is_localizer_map
from attunet.inference.member import Member
from attunet.inference.model_grid import find_context, predict_prepared
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

__all__ = [
    "CONTROL",
    "MEAN",
    "SHARES",
    "Curve",
    "Kind",
    "blobs",
    "blurred",
    "delete_and_insert",
    "mixed",
    "predictions_needed",
    "voxel_order",
]


Floats = npt.NDArray[np.float32]

Scores = dict[str, float]

Kind = Literal["deletion", "insertion"]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""The shares of the voxels; most of them are small, because most organs are."""

CONTROL = "random blobs"
"""Name in place of a gate for the control: a random order, about as coarse as the gates' mean."""

MEAN = "mean of gates"
"""Name in place of a gate for the mean of all gates."""


@dataclass(frozen=True)
class Curve:
    """The Dice of one label in one case as a function of the share of voxels that were blurred or shown.

    Args:
        gate: as `gates_of` names it, or `MEAN` or `CONTROL`; of several members MEMBER/... for these two as well.
        case: name of the case.
        label: name of the label.
        kind: "deletion" or "insertion".
        shares, dice: the points; the first and the last are the image and the blurred image (deletion), or the reverse.
        against: the mask that the Dice is measured against: the reference, or the model's own mask of the unaltered
            image.
    """

    gate: str
    case: str
    label: str
    kind: Kind
    shares: tuple[float, ...]
    dice: tuple[float, ...]
    against: Against = "reference"

    @property
    def area(self) -> float:
        """Area under the curve by the trapezoidal rule, between 0 and 1."""
        return float(np.trapezoid(self.dice, self.shares))

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and the area."""
        named = {"gate": self.gate, "case": self.case, "label": self.label, "kind": self.kind, "against": self.against}
        return {**named, "shares": list(self.shares), "dice": list(self.dice), "area": self.area}


def predictions_needed(segmenter: Segmenter) -> int:
    """Number of predictions for one case: the whole and the blurred image, then two at each inner share for each order.

    The orders are the gates, their mean where there are several, and the control.
    """
    counted = [len(member.plan.network.gate_widths) for member in segmenter.members]
    return sum(2 + 2 * (len(SHARES) - 2) * (gates + (gates > 1) + 1) for gates in counted if gates)


def delete_and_insert(
    segmenter: Segmenter,
    image: Volume,
    reference: Volume | None = None,
    *,
    case: str,
    annotated: Collection[str] | None = None,
    options: PredictOptions = ONCE,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Curve, ...]:
    """The curves of one case: for each gate (the mean of its maps), for the gates' mean, and for the control.

    The members of an ensemble are tested one by one, each with its own mask. Post-processing is not applied.

    Args:
        segmenter: a model that has not seen the case.
        image, reference: as from `Segmenter.read` and `read_case_label`, on one grid; without a reference the mask of
            the unaltered image takes its place.
        case: its name, on which the control's blobs depend.
        annotated: names of the labels that are annotated in the reference; None for all.
        options: of every prediction.
        seed: of the control's blobs.
        advance: called with the number of finished predictions and the number of all predictions.
    Returns: curves of the labels in the reference; none if it has no label.
    Raises: ConfigError when the model has no gates; GeometryError when the grids differ; DataError as `prepare`.
    """
    if not gates_of(segmenter):
        raise ConfigError("the model has no gates to follow", hint="explain a model that was trained with gates")
    if reference is not None and reference.spatial_shape != image.spatial_shape:
        raise GeometryError(
            f"case {case}: reference grid {reference.spatial_shape} differs from image grid {image.spatial_shape}",
            hint="resample the reference onto the image",
        )
    total, done = predictions_needed(segmenter), 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done, total)

    random = np.random.default_rng([seed, crc32(case.encode())])
    curves: list[Curve] = []
    for prefix, member in prefixed(segmenter):
        if member.plan.network.gate_widths:
            member_run = _MemberRun(
                member, image, None if reference is None else reference.array[0], annotated, options, step
            )
            curves += [
                replace(curve, gate=f"{prefix}{curve.gate}", case=case) for curve in _member_curves(member_run, random)
            ]
    advance(total, total)
    return tuple(curves)


@dataclass(frozen=True)
class _MemberRun:
    """A member, a case and its reference (I, J, K); None for the member's own mask."""

    member: Member
    image: Volume
    truth: Array | None
    annotated: Collection[str] | None
    options: PredictOptions
    step: Callable[[], None]


def _member_curves(member_run: _MemberRun, random: np.random.Generator) -> Iterator[Curve]:
    """The curves of one member, with its own gate names."""
    member, plan = member_run.member, member_run.member.plan
    prepared = prepare(member_run.image, plan.preprocessing)
    context = find_context(member, member_run.image)  # the whole image's, also where voxels are deleted
    plain = predict_prepared(member, prepared, replace(member_run.options, attention=True), context)
    member_run.step()
    own = plain.mask
    against: Against = "own mask" if member_run.truth is None else "reference"
    dice = partial(
        _dice, own if member_run.truth is None else member_run.truth, plan=plan, annotated=member_run.annotated
    )

    def predict(array: Floats) -> Scores:
        mask = predict_prepared(member, replace(prepared, array=array), member_run.options, context).mask
        member_run.step()
        return dice(mask)

    if not (whole := dice(own)):
        return
    away = blurred(prepared.array)
    nothing = predict(away)
    fields = _fields(plain.attention)
    control = blobs(np.mean(list(fields.values()), axis=0), random)
    for gate, field in {**fields, CONTROL: control}.items():
        order = voxel_order(field, control)
        deleted = [predict(mixed(prepared.array, away, order, share)) for share in SHARES[1:-1]]
        inserted = [predict(mixed(away, prepared.array, order, share)) for share in SHARES[1:-1]]
        for label in whole:
            for kind, scores in _kinds([whole, *deleted, nothing], [nothing, *inserted, whole]):
                yield Curve(gate, "", label, kind, SHARES, tuple(score[label] for score in scores), against)


def _kinds(deletion: list[Scores], insertion: list[Scores]) -> list[tuple[Kind, list[Scores]]]:
    return [("deletion", deletion), ("insertion", insertion)]


def _fields(attention: Mapping[str, Floats]) -> dict[str, Floats]:
    """One map (I, J, K) for each gate, and their mean if there are several; not of a localizer, which is context."""
    fields = {gate: alpha.mean(axis=0) for gate, alpha in attention.items() if not is_localizer_map(gate)}
    if len(fields) > 1:
        fields[MEAN] = np.mean(list(fields.values()), axis=0)
    return fields


def _dice(truth: Array, mask: Array, *, plan: Plan, annotated: Collection[str] | None) -> Scores:
    """The Dice of the labels in the reference."""
    dice, labels = dice_case(truth, mask, plan, annotated), scored_labels(plan)
    return {name: value for name, value in dice.items() if np.isin(truth, labels[name]).any()}


Order = npt.NDArray[np.intp]

_BLUR = 1 / 8

_COARSE = 32


def blurred(image: Floats) -> Floats:
    """An image (C, I, J, K) without recognisable content: blurred by a Gaussian, sigma an eighth of each axis.

    A constant image would add edges that no image has, and the network would respond to them.
    """
    i, j, k = (min(size, _COARSE) for size in image.shape[1:])
    # 32 samples along an axis can represent such a blur, at a small part of the cost.
    coarse = resize(image, (i, j, k), antialias=True)
    sigma = [0.0, *(size * _BLUR if size > 1 else 0.0 for size in (i, j, k))]
    i, j, k = image.shape[1:]
    return np.asarray(resize(ndimage.gaussian_filter(coarse, sigma, mode="reflect"), (i, j, k)), np.float32)


def blobs(like: Floats, random: np.random.Generator) -> Floats:
    """A random field (I, J, K) of values from 0, about as coarse as the map `like`; its order forms blobs.

    White noise blurred by a Gaussian, whose sigma along each axis gives neighbours the correlation they have in the
    map. Single voxels in random order would look like noise, not like a part of the image that is missing.
    """
    sigma = [_sigma(like, axis) for axis in range(3)]
    noise = random.standard_normal(like.shape, np.float32)
    # "wrap" keeps the variance equal everywhere; other modes would gather the extremes at the borders
    field = np.asarray(ndimage.gaussian_filter(noise, sigma, mode="wrap"), np.float32)
    field -= field.min()
    return field


def voxel_order(alpha: Floats, ties: Floats) -> Order:
    """Flat voxel indices of a map (I, J, K) of values from 0, highest value first; ties in the order of another map.

    With `blobs` for ties, a constant map has the blobs' order.
    """
    # Keys, because blending makes equal coefficients differ in their last digits, window by window.
    return np.lexsort((-ties.ravel(), -order_keys(np.ascontiguousarray(alpha)).ravel()))


def mixed(image: Floats, other: Floats, order: Order, share: float) -> Floats:
    """Mix two images.

    Args:
        image: (C, I, J, K).
        other: the same shape.
        order: flat voxel indices, as from `voxel_order`.
        share: share of the voxels, the first in the order, that are taken from the other image.
    Returns: the mixed image.
    """
    top: Array = np.zeros(order.size, bool)
    top[order[: round(share * order.size)]] = True
    return np.where(top.reshape(image.shape[1:]), other, image)


def _sigma(field: Floats, axis: int) -> float:
    """Sigma in voxels of the Gaussian that gives blurred noise the field's correlation between neighbours.

    That correlation is exp(-1 / (4 sigma^2)); between half a voxel and the sigma of `blurred`.
    """
    size = int(field.shape[axis])
    if size == 1:
        return 0.0
    most = max(0.5, size * _BLUR)
    step = float(np.square(np.diff(field, axis=axis), dtype=np.float64).mean())
    correlation = 1 - step / (2 * float(field.var(dtype=np.float64))) if step > 0 else 1.0
    if correlation >= 1:
        return most
    return min(most, max(0.5, sqrt(-1 / (4 * log(correlation))))) if correlation > 0 else 0.5
