"""The report of a cross-validation: scores on held-out cases, calibration and post-processing, the worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attunet.config import Plan, Postprocessing
from attunet.evaluation.metrics import TABULATED
from attunet.evaluation.summary import Summary
from attunet.report.calibration import Bins, DicePair, dice_scatter, reliability_diagram
from attunet.report.cases import CaseView, case_pictures
from attunet.report.cells import between, mean_cells, number, spread
from attunet.report.decisions import decision_tables
from attunet.report.figures import score_boxes
from attunet.report.html import Picture, Section, Table, write_report
from attunet.report.intervals import interval_sections

__all__ = ["write_cross_validation_report"]

_DICE, *_OTHERS = TABULATED
_HEADINGS = ("Label", "Cases", _DICE.column, "95% interval", *(spec.column for spec in _OTHERS))
_NOTES = (
    "Every case was segmented by the fold that held it out. A model of all folds averages them and tends to "
    "be slightly better.",
    "The 95% intervals are percentile bootstraps over cases: how much the mean would vary with other such patients.",
    "Confidence is the probability of the predicted class, within three voxels of predicted or true foreground; ECE is "
    "its mean distance from the share of correct decisions, in 15 bins. After: each fold at the temperature fitted on "
    "the other folds.",
    "A prediction interval contains the true value of that share of new cases like these, on average over all cases. "
    "Leaving out each case gives about this share by construction; the share of small, medium and large values, and "
    "that of each fold inside the intervals of the others, say more.",
    "Filled: the mask, post-processed. Dashed: the reference.",
    "This is research software, not a medical device.",
)


def write_cross_validation_report(
    path: Path,
    *,
    plan: Plan,
    subtitle: str,
    summary: Summary,
    postprocessed: Summary,
    postprocessing: Postprocessing,
    reliability: Mapping[str, Bins],
    dice: Mapping[str, DicePair],
    worst: Sequence[str],
    views: Sequence[CaseView],
) -> None:
    """Write one self-contained HTML file: scores with intervals, post-processing, box plot, calibration, worst cases.

    Args:
        path: the HTML file.
        plan: the plan of the model.
        subtitle: one line on the origin of the scores.
        summary: scores before post-processing.
        postprocessed: scores after it; the same when none is applied.
        postprocessing: post-processing and calibration, with reasons.
        reliability: name to confidence and accuracy; empty when they were not measured.
        dice: expected and measured Dice of each case.
        worst: names of the worst cases.
        views: the cases to draw.
    """
    sections: list[Section] = [_scores(summary, "as predicted")]
    if postprocessing.components:
        sections.append(_scores(postprocessed, "after post-processing"))
    boxes = score_boxes(postprocessed)
    sections.append(Picture("Dice of every case, after post-processing", boxes, "dice"))
    sections += [_worst(worst, dice, postprocessed), *case_pictures(views, plan, "one of the worst cases")]
    if reliability:
        sections.append(Picture("Confidence against accuracy", reliability_diagram(reliability), "reliability"))
    scatter = dice_scatter(dice, postprocessing.quality)
    sections += [
        Picture("Expected against measured Dice", scatter, "expected_dice"),
        *interval_sections(postprocessing, postprocessed),
        *decision_tables(postprocessing),
    ]
    write_report(
        path,
        title=f"{plan.name}: cross-validation",
        subtitle=subtitle,
        facts=_facts(summary, postprocessed, postprocessing, reliability),
        sections=sections,
        notes=_NOTES,
    )


def _facts(
    summary: Summary, postprocessed: Summary, postprocessing: Postprocessing, reliability: Mapping[str, Bins]
) -> dict[str, object]:
    facts: dict[str, object] = {
        "Mean Dice": number(summary.foreground_mean(), 3),
        "95% interval": between(summary.foreground_interval(), 3),
    }
    if postprocessing.logit_bias:
        facts["Operating point"] = ", ".join(f"{name} {bias:+.2f}" for name, bias in postprocessing.logit_bias.items())
    if postprocessing.components or postprocessing.logit_bias:
        facts["After post-processing"] = number(postprocessed.foreground_mean(), 3)
    facts["Temperature"] = number(postprocessing.temperature, 2)
    if reliability:
        shown = list(reliability.values())[: 1 if postprocessing.temperature == 1 else None]
        facts["Calibration error"] = " → ".join(f"{bins.ece:.4f}" for bins in shown)
    if quality := postprocessing.quality:
        ends = between((quality.low, quality.high), 2)
        facts["Expected and measured Dice"] = f"rank correlation {quality.spearman:.2f} ({ends})"
    return facts


def _scores(summary: Summary, when: str) -> Table:
    rows = [_score_row(summary, label) for label in summary.labels]
    if len(summary.labels) > 1:
        dice, *others = mean_cells(summary)
        interval = between(summary.foreground_interval(), _DICE.digits)
        rows.append(["mean", len(summary.cases), dice, interval, *others])
    return Table(f"Mean scores {when} (Dice ± its standard deviation)", _HEADINGS, rows)


def _score_row(summary: Summary, label: str) -> list[object]:
    others = (number(summary.mean(label, spec.name), spec.digits) for spec in _OTHERS)
    dice = spread(summary, label, _DICE.name, _DICE.digits)
    return [label, len(summary.values(label)), dice, between(summary.interval(label), _DICE.digits), *others]


def _worst(worst: Sequence[str], dice: Mapping[str, DicePair], summary: Summary) -> Table:
    by_label = {label: summary.values(label) for label in summary.labels}
    rows = [
        [
            case,
            *(number(value, 3) for value in (dice[case].measured, dice[case].expected)),
            *(f"{values[case]:.3f}" if case in values else "–" for values in by_label.values()),
        ]
        for case in worst
    ]
    return Table("Worst cases (Dice)", ("Case", "Mean", "Expected by the model", *by_label), rows)
