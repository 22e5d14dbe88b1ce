"""The masks of held-out cases against the truth, as they are and cleaned."""

from __future__ import annotations

from collections.abc import Mapping

from attunet.config import ComponentRules, Plan
from attunet.data.cases import read_case_image, read_case_label
from attunet.data.formats import read_label
from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, nan_mean, score_case, scored_labels
from attunet.inference.postprocess import clean
from attunet.report.cases import CaseView
from attunet.selection.out_of_fold import HeldOut
from attunet.selection.pieces import LabelPieces, take_apart

__all__ = ["judge", "mean_dice", "take_mask_apart", "view"]


def judge(held: HeldOut, plan: Plan, cleaning: Mapping[str, ComponentRules] | None = None) -> CaseScores:
    """Scores of a case's mask, cleaned first where asked; of the labels only that were drawn in it.

    Raises: DataError and its kind when the mask or the label cannot be read.
    """
    mask, truth = _read(held, plan, cleaning or {})
    scores = score_case(
        truth.array[0],
        mask.array[0],
        scored_labels(plan),
        mask.spacing,
        ignore=plan.ignore_label,
        annotated=held.case.annotated,
    )
    return CaseScores(held.case.id, scores, reference_file=str(held.case.label), prediction_file=str(held.mask))


def take_mask_apart(held: HeldOut, plan: Plan) -> dict[str, LabelPieces]:
    """The pieces of every label that was drawn in a case. Raises: as `judge`."""
    mask, truth = _read(held, plan, {})
    drawn = held.case.annotated
    united = {name: values for name, values in scored_labels(plan).items() if drawn is None or name in drawn}
    return take_apart(mask.array[0], truth.array[0], plan, united, mask.spacing)


def mean_dice(scores: CaseScores) -> float:
    """Mean Dice of the labels that are in the reference or the mask of a case; nan where none is."""
    return nan_mean(entry.counts.dice for entry in scores.scores.values())


def view(held: HeldOut, plan: Plan, cleaning: Mapping[str, ComponentRules], name: str) -> CaseView:
    """A case to be drawn: its image, cleaned mask and reference. Raises: as `judge`."""
    mask, truth = _read(held, plan, cleaning)
    return CaseView(name, read_case_image(held.case), mask, truth)


def _read(held: HeldOut, plan: Plan, cleaning: Mapping[str, ComponentRules]) -> tuple[Volume, Volume]:
    """The mask and the truth on one grid, which is the image's: the mask was written on it."""
    mask = read_label(held.mask)
    truth = read_case_label(held.case, mask, geometry=held.geometry)
    if not cleaning:
        return mask, truth
    cleaned = clean(mask.array[0], cleaning, plan.labels, mask.spacing, regions=plan.regions)
    return mask.with_array(cleaned[None]), truth
