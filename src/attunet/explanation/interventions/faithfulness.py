"""Deletion and insertion: what becomes of a mask when the image is blurred, or shown, where a gate looks first.

The voxels of the model grid are ranked by a gate's coefficients. Deletion blurs the top share of them, insertion shows
the top share of a blurred image; the Dice over the share is a curve, and the area under it a number. Where the gate
marks what the network needs, deletion falls early (a small area) and insertion rises early (a large one), earlier than
for blobs at random places.
Source: Petsiuk et al. 2018, RISE (arXiv:1806.07421), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import prepare
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError, GeometryError
from attunet.evaluation.scores import dice_case, scored_labels
from attunet.explanation.interventions.ablation import ONCE, Against
from attunet.explanation.interventions.altered_gates import gates_of, prefixed
from attunet.explanation.interventions.perturbation import blobs, blurred, mixed, voxel_order
from attunet.inference.member import Member, Pass
from attunet.inference.outputs import decide
from attunet.inference.segmenter import Segmenter

__all__ = ["CONTROL", "MEAN", "SHARES", "Curve", "Kind", "delete_and_insert", "predictions_needed"]

Floats = npt.NDArray[np.float32]
Scores = dict[str, float]
Kind = Literal["deletion", "insertion"]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""The shares of the voxels; most of them small, as most organs are."""

CONTROL = "random blobs"
"""In place of a gate: a random order, about as coarse as the gates' mean."""

MEAN = "mean of gates"
"""In place of a gate: the mean of all."""


@dataclass(frozen=True)
class Curve:
    """The Dice of one label in one case over the share of voxels that were blurred or shown.

    Args:
        gate: as `gates_of` names it, or `MEAN` or `CONTROL`; of several members MEMBER/... for these two as well.
        shares, dice: the points; the first and the last are the image and the blurred image (deletion), or the reverse.
        against: what the Dice is measured against, the reference or the model's own mask of the unaltered image.
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
        """Under the curve, by the trapezoidal rule; between 0 and 1."""
        return float(np.trapezoid(self.dice, self.shares))

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and the area."""
        named = {"gate": self.gate, "case": self.case, "label": self.label, "kind": self.kind, "against": self.against}
        return {**named, "shares": list(self.shares), "dice": list(self.dice), "area": self.area}


def predictions_needed(segmenter: Segmenter) -> int:
    """How often one case is predicted: whole and blurred, then twice at each inner share for each order.

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
    how: Pass = ONCE,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Curve, ...]:
    """The curves of one case: of each gate (of its two maps the mean), of the gates' mean, and of the control.

    Of several members each is judged alone, by its own mask. Post-processing is not applied.
    Args:
        image, reference: as `Segmenter.read` and `read_case_label` give them, on one grid; without a reference the mask
            of the unaltered image takes its place.
        case: its name; the control's blobs depend on it and on the seed.
        annotated: names of the labels that were drawn in the reference; None for all.
        how, advance: step and mirroring of every prediction; called with the predictions done and in all.
    Returns: curves of the labels that the reference holds; none where it holds no label.
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
    found: list[Curve] = []
    for prefix, member in prefixed(segmenter):
        if member.plan.network.gate_widths:
            member_run = _MemberRun(
                member, image, None if reference is None else reference.array[0], annotated, how, step
            )
            found += [
                replace(curve, gate=f"{prefix}{curve.gate}", case=case) for curve in _member_curves(member_run, random)
            ]
    advance(total, total)
    return tuple(found)


@dataclass(frozen=True)
class _MemberRun:
    """A member and what it is to be judged by; truth (I, J, K), None for its own mask."""

    member: Member
    image: Volume
    truth: Array | None
    annotated: Collection[str] | None
    how: Pass
    step: Callable[[], None]


def _member_curves(member_run: _MemberRun, random: np.random.Generator) -> Iterator[Curve]:
    """Without the case, and the gates named as the member does."""
    member, plan = member_run.member, member_run.member.plan
    prepared = prepare(member_run.image, plan.preprocessing)
    plain = member.answer(prepared.array, replace(member_run.how, attention=True))
    member_run.step()
    own = decide(plain.logits, prepared.trail, plan)
    against: Against = "own mask" if member_run.truth is None else "reference"
    dice = partial(
        _dice, own if member_run.truth is None else member_run.truth, plan=plan, annotated=member_run.annotated
    )

    def predict(array: Floats) -> Scores:
        mask = decide(member.answer(array, member_run.how).logits, prepared.trail, plan)
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
    """One map (I, J, K) for each gate, and their mean where there are several."""
    fields = {gate: alpha.mean(axis=0) for gate, alpha in attention.items()}
    if len(fields) > 1:
        fields[MEAN] = np.mean(list(fields.values()), axis=0)
    return fields


def _dice(truth: Array, mask: Array, *, plan: Plan, annotated: Collection[str] | None) -> Scores:
    """Of the labels that the truth holds."""
    dice, labels = dice_case(truth, mask, plan, annotated), scored_labels(plan)
    return {name: value for name, value in dice.items() if np.isin(truth, labels[name]).any()}
