"""The report of a trained model: scores, curves, and what it saw in some cases."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

from matplotlib.figure import Figure

from attunet.config import Plan
from attunet.data.volume import Volume
from attunet.evaluation.summary import Summary
from attunet.report.figures import curves, score_boxes
from attunet.report.html import Table, write_report
from attunet.report.overlay import overlay

__all__ = ["CaseView", "choose_cases", "read_history", "write_training_report"]

_COLUMNS = {"Dice": 3, "Precision": 3, "Recall": 3, "MSD": 2, "HD95": 2, "VolumeErrorMl": 2}
_HEADINGS = ("Label", "Dice", "Precision", "Recall", "MSD mm", "HD95 mm", "Volume error ml")
_NOTES = (
    "Filled: the prediction. Dashed: the reference.",
    "Attention: the coefficient by which each gate multiplies the skip connection, 0 (suppressed) to 1 (passed). "
    "It is a weight inside the network, not a cause: a bright region was let through, which need not mean that it "
    "decided.",
    "This is research software and no medical device.",
)


@dataclass(frozen=True)
class CaseView:
    """A case to show: its image, mask and attention on one grid, and the reference if there is one."""

    name: str
    image: Volume
    segmentation: Volume
    reference: Volume | None = None
    attention: dict[str, Volume] = field(default_factory=dict)


def write_training_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    plan: Plan,
    history: Sequence[dict[str, float]],
    summary: Summary,
    views: Sequence[CaseView],
) -> None:
    """One self-contained HTML file: facts of the model, score table, learning curves, box plot, cases.

    Args: the plan; rows of log.csv; scores; the cases to draw, in order.
    """
    figures: list[tuple[str, Figure]] = [
        (f"{view.name}: prediction and attention", _draw(view, plan)) for view in views
    ]
    figures += [("Learning curves", curves(history)), ("Dice of every case", score_boxes(summary))]
    write_report(
        path,
        title=title,
        subtitle=subtitle,
        facts=_facts(plan, history, summary),
        tables=[_scores(summary), _decisions(plan)],
        figures=figures,
        notes=_NOTES,
    )


def choose_cases(summary: Summary) -> dict[str, str]:
    """The best, median and worst case by mean Dice: case name to what it is; fewer where there are fewer."""
    means = {}
    for case in summary.cases:
        dice = [scores.values()["Dice"] for scores in case.scores.values()]
        known = [value for value in dice if not isnan(value)]
        if known:
            means[case.case] = sum(known) / len(known)
    ranked = sorted(means, key=lambda name: means[name], reverse=True)
    if not ranked:
        return {}
    places = {ranked[len(ranked) // 2]: "median", ranked[-1]: "worst", ranked[0]: "best"}
    return {name: f"{places[name]} case, mean Dice {means[name]:.3f}" for name in ranked if name in places}


def read_history(log: Path) -> list[dict[str, float]]:
    """The rows of a fold's log.csv, without the empty fields."""
    with log.open(encoding="utf-8", newline="") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


def _draw(view: CaseView, plan: Plan) -> Figure:
    return overlay(
        view.image,
        view.segmentation,
        plan.labels,
        reference=view.reference,
        attention=view.attention or None,
        modality=plan.modality,
        title=view.name,
    )


def _facts(plan: Plan, history: Sequence[dict[str, float]], summary: Summary) -> dict[str, object]:
    network = plan.network
    return {
        "Mean Dice": _number(summary.foreground_mean("Dice"), 3),
        "Cases scored": len(summary.cases),
        "Network": f"{plan.preset}, {network.spatial_dims}-D, gate: {network.gate or 'none'}",
        "Training": f"{history[-1]['minutes']:.1f} min, {int(history[-1]['step'])} steps" if history else "none",
        "Spacing": " × ".join(f"{value:.2f}" for value in plan.preprocessing.spacing) + " mm",
        "Patch": " × ".join(str(value) for value in plan.patch_size),
    }


def _scores(summary: Summary) -> Table:
    rows = [
        [label, *(_cell(summary, label, metric, digits) for metric, digits in _COLUMNS.items())]
        for label in summary.labels
    ]
    if len(summary.labels) > 1:
        means = (_number(summary.foreground_mean(metric), digits) for metric, digits in _COLUMNS.items())
        rows.append(["mean", *means])
    return Table(f"Scores over {len(summary.cases)} cases (mean ± standard deviation)", _HEADINGS, rows)


def _cell(summary: Summary, label: str, metric: str, digits: int) -> str:
    mean, deviation = summary.mean(label, metric), summary.deviation(label, metric)
    return _number(mean, digits) if isnan(deviation) else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _number(value: float, digits: int) -> str:
    return "–" if isnan(value) else f"{value:.{digits}f}"


def _decisions(plan: Plan) -> Table:
    rows = [[name.replace("_", " "), reason] for name, reason in plan.reasons.items()]
    return Table("Why the model is as it is", ("Decision", "Reason"), rows)
