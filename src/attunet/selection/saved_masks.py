"""Scores and components of the saved masks of held-out cases, with and without post-processing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attunet.bundle import HeldOutCase
from attunet.config import ComponentRules, Plan
from attunet.data.cases import read_case_image, read_case_label
from attunet.data.formats import read_label
from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, score_case, scored_labels
from attunet.inference.postprocess import clean
from attunet.report.cases import CaseView
from attunet.selection.connected_components import LabelComponents, connected_components

__all__ = ["mask_components", "score_mask", "view_mask"]

Rules = Mapping[str, ComponentRules]


def score_mask(case: HeldOutCase, mask: Path, plan: Plan, rules: Rules | None = None) -> CaseScores:
    """Score the mask of a case, on the labels that are annotated in it.

    Args:
        case: the case and its fold.
        mask: its mask, on the grid of its image.
        plan: the plan, which determines what is scored.
        rules: the post-processing of each label before scoring; None for none.
    Returns: every metric of every label.
    Raises: DataError and its subclasses when the mask or the reference cannot be read.
    """
    predicted, reference = _read(case, mask, plan, rules or {})
    scores = score_case(
        reference.array[0],
        predicted.array[0],
        scored_labels(plan),
        predicted.voxel,
        ignore=plan.ignore_label,
        annotated=case.case.annotated,
    )
    return CaseScores(case.case.id, scores, reference_file=str(case.case.label), prediction_file=str(mask))


def mask_components(case: HeldOutCase, mask: Path, plan: Plan) -> dict[str, LabelComponents]:
    """The connected components of every label that is annotated in a case.

    Args:
        case: the case and its fold.
        mask: its mask, on the grid of its image.
        plan: the plan, for its labels.
    Returns: label to its components.
    Raises: DataError and its subclasses when the mask or the reference cannot be read.
    """
    predicted, reference = _read(case, mask, plan, {})
    annotated = case.case.annotated
    labels = {name: values for name, values in scored_labels(plan).items() if annotated is None or name in annotated}
    return connected_components(predicted.array[0], reference.array[0], plan, labels, predicted.voxel)


def view_mask(case: HeldOutCase, mask: Path, plan: Plan, rules: Rules, title: str) -> CaseView:
    """A case for a report: its image, post-processed mask and reference.

    Args:
        case: the case and its fold.
        mask: its mask, on the grid of its image.
        plan: plan of the run.
        rules: the post-processing of each label; empty for none.
        title: description of the case.
    Returns: the view.
    Raises: DataError and its subclasses when a file cannot be read.
    """
    predicted, reference = _read(case, mask, plan, rules)
    return CaseView(title, read_case_image(case.case), predicted, reference)


def _read(case: HeldOutCase, mask: Path, plan: Plan, rules: Rules) -> tuple[Volume, Volume]:
    """The mask and the reference on one grid, which is the image's: the mask was written on it."""
    predicted = read_label(mask)
    reference = read_case_label(case.case, predicted, geometry=case.geometry)
    if not rules:
        return predicted, reference
    cleaned = clean(predicted.array[0], rules, plan.labels, predicted.voxel, regions=plan.regions)
    return predicted.with_array(cleaned[None]), reference
