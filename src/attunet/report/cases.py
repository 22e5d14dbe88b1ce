"""The cases that a report shows: their selection, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from statistics import fmean

from matplotlib.figure import Figure

from attunet.config import Plan
from attunet.data.volume import Volume
from attunet.evaluation.summary import Summary
from attunet.report.html import Picture
from attunet.report.overlay import overlay

__all__ = ["CaseView", "case_pictures", "choose_cases"]


@dataclass(frozen=True)
class CaseView:
    """A case to show; all volumes are on the grid of its image.

    Args:
        name: its name or description.
        image: the image.
        segmentation: the mask, one channel of label values.
        reference: the reference mask; None if there is none.
        attention: gate to coefficients, one channel per map.
    """

    name: str
    image: Volume
    segmentation: Volume
    reference: Volume | None = None
    attention: dict[str, Volume] = field(default_factory=dict)


def choose_cases(summary: Summary) -> dict[str, str]:
    """The best, median and worst case by mean Dice: case name to a description; fewer if there are fewer cases."""
    means = {}
    for case in summary.cases:
        dice = [scores.counts.dice for scores in case.scores.values()]
        known = [value for value in dice if not isnan(value)]
        if known:
            means[case.case] = fmean(known)
    ranked = sorted(means, key=lambda name: means[name], reverse=True)
    if not ranked:
        return {}
    places = {ranked[len(ranked) // 2]: "median", ranked[-1]: "worst", ranked[0]: "best"}
    return {name: f"{places[name]} case, mean Dice {means[name]:.3f}" for name in ranked if name in places}


def case_pictures(views: Sequence[CaseView], plan: Plan, what: str) -> list[Picture]:
    """Draw a picture of every case, named case_1 and so on.

    Args:
        views: the cases.
        plan: its labels name the colours, its modality sets the grey window.
        what: description of the pictures, for their captions.
    Returns: the pictures in the order of the cases.
    Raises: GeometryError when a mask or map has another shape than its image.
    """
    return [
        Picture(f"{view.name}: {what}", _draw(view, plan), f"case_{number}")
        for number, view in enumerate(views, start=1)
    ]


def _draw(view: CaseView, plan: Plan) -> Figure:
    return overlay(
        view.image,
        view.segmentation,
        plan.labels,
        reference=view.reference,
        attention=view.attention,
        modality=plan.modality,
        title=view.name,
    )
