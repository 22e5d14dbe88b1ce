"""The report of an explanation: pictures, scores and null maps, tests of the gates, agreement with the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

from attunet.data.formats import read_label, read_volume
from attunet.explanation.explanation import CaseExplanation, Explanation
from attunet.explanation.interventions.ablation import REPLACEMENTS
from attunet.explanation.interventions.ablation_summary import CAVEAT as ABLATION_CAVEAT
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.context import CONTEXT_REPLACEMENTS
from attunet.explanation.interventions.faithfulness import Kind
from attunet.explanation.interventions.faithfulness_summary import CAVEAT as FAITHFULNESS_CAVEAT
from attunet.explanation.interventions.faithfulness_summary import Faithfulness
from attunet.explanation.scoring.conclusions import Estimate
from attunet.explanation.scoring.scores import ATTENTION_METRICS, MAP_METRICS
from attunet.explanation.scoring.summary import AttentionSummary
from attunet.report.attention import ablation_bars, agreement_scatter, faithfulness_curves, score_bars
from attunet.report.cases import CaseView, case_pictures
from attunet.report.cells import number
from attunet.report.html import Picture, Section, Table, write_report
from attunet.report.windows import draw_windows

__all__ = ["score_sections", "write_explanation"]

_SCORES = {
    "lift": ("Lift", 2),
    "share": ("Share", 3),
    "auroc": ("AUROC", 3),
    "average_precision": ("Average precision", 3),
    "pointing": ("Pointing", 2),
    "distance": ("Distance mm", 1),
    "inside": ("Mean inside", 3),
    "outside": ("Mean outside", 3),
    "boundary_lift": ("Boundary lift", 2),
}
_MAPS = {"mean": "Mean", "sd": "Spread", "entropy": "Entropy", "closed": "Closed", "open": "Open"}
_CURVES: Mapping[Kind, str] = {
    "deletion": "Dice while the most attended voxels are blurred first",
    "insertion": "Dice while the most attended voxels are shown first",
}
_MAX_ROWS = 8


def write_explanation(explanation: Explanation, folder: Path) -> Path:
    """Write summary.json, report.html and its figures into a folder; returns the report's path.

    Raises: FormatError when an image, mask or map cannot be read again.
    """
    explanation.write(folder / "summary.json")
    report = folder / "report.html"
    write_report(
        report,
        title=f"Where {explanation.model} looks",
        subtitle=f"{len(explanation.cases)} cases, scored against {_against(explanation)}",
        facts=_facts(explanation),
        sections=_sections(explanation),
        notes=_notes(explanation),
    )
    return report


def _against(explanation: Explanation) -> str:
    return "their references" if explanation.has_references else "the model's own masks, as there are no references"


def _sections(explanation: Explanation) -> list[Section]:
    sections: list[Section] = [_findings(explanation)]
    scores = score_sections(explanation)
    shown = _shown(explanation)
    views = [_view(case, what) for case, what in shown]
    sections += [*scores[:1], *case_pictures(views, explanation.plan, "mask and attention"), *_windows(shown)]
    sections += scores[1:]
    if explanation.ablation:
        sections += _ablation(explanation.ablation)
    if explanation.faithfulness:
        sections += _faithfulness(explanation.faithfulness)
    return sections + _agreement(explanation)


def score_sections(explanation: Explanation) -> list[Section]:
    """The lifts as a picture, and every score as tables."""
    summary = explanation.summary
    tables = [*(_scores(summary, label) for label in summary.labels), _maps(summary)]
    picture = Picture("Lift of every gate and label, compared with its nulls", score_bars(explanation.lifts), "lift")
    return [picture, *tables] if summary.labels else list(tables)


def _facts(explanation: Explanation) -> dict[str, object]:
    facts: dict[str, object] = {"Cases": len(explanation.cases), "Gates": ", ".join(explanation.summary.gates)}
    dice = [case.mean_dice for case in explanation.cases if not isnan(case.mean_dice)]
    if dice:
        facts["Mean Dice"] = number(sum(dice) / len(dice), 3)
    if explanation.windows:
        facts["Windows"] = str(explanation.windows)
    gate = explanation.plan.network.gate
    return facts | {"Network": f"{explanation.plan.preset}, gate: {gate}", "Engine": explanation.engine}


def _findings(explanation: Explanation) -> Table:
    rows = [[index, sentence] for index, sentence in enumerate(explanation.findings, start=1)]
    return Table("Findings", ("", "Finding"), rows)


def _scores(summary: AttentionSummary, label: str) -> Table:
    columns = ("Gate", "Maps of", *(heading for heading, _ in _SCORES.values()))
    rows = [
        [gate, source, *(_cell(summary.estimate(source, gate, label, metric), metric) for metric in _SCORES)]
        for gate in summary.gates
        for source in summary.sources
    ]
    return Table(
        f"Attention and {label}: means over {len(summary.cases)} cases, 95% interval of the lift", columns, rows
    )


def _cell(value: Estimate, metric: str) -> str:
    text = number(value.mean, _SCORES[metric][1])
    return text if metric != "lift" or isnan(value.low) else f"{text} ({value.low:.2f} to {value.high:.2f})"


def _maps(summary: AttentionSummary) -> Table:
    sources = [source for source in summary.sources if summary.values(source, summary.gates[0], "", "mean")]
    rows = [
        [gate, source, *(number(summary.mean(source, gate, "", metric), 3) for metric in _MAPS)]
        for gate in summary.gates
        for source in sources
    ]
    return Table("The maps alone", ("Gate", "Maps of", *_MAPS.values()), rows)


def _ablation(ablation: Ablation) -> list[Section]:
    effects = ablation.effects()
    bars = [(effect.gate, effect.replacement, *effect.change[:3]) for effect in effects]
    rows = [
        [
            effect.gate,
            effect.replacement,
            str(effect.change),
            str(ablation.effect(effect.gate, effect.replacement, metric="Recall").change),
            number(ablation.effect(effect.gate, effect.replacement, metric="HD95").change.mean, 2),
        ]
        for effect in effects
    ]
    return [
        Picture("Change in Dice when a gate is replaced", ablation_bars(bars), "ablation"),
        Table(
            "Gate ablation, without retraining",
            ("Gate", "Replacement", "Change in Dice", "in recall", "in HD95 mm"),
            rows,
        ),
    ]


def _faithfulness(explanation: Faithfulness) -> list[Section]:
    rows = []
    for gate in explanation.gates:
        for kind in _CURVES:
            areas = explanation.areas(gate, kind)
            rows.append([gate, kind, number(areas.area.mean, 3), number(areas.control.mean, 3), str(areas.difference)])
    table = Table("Area under the Dice", ("Order", "Curve", "Area", "Random blobs", "Difference"), rows)
    pictures = [
        Picture(f"{kind.capitalize()} by attention", faithfulness_curves(explanation.figure(kind), title), kind)
        for kind, title in _CURVES.items()
    ]
    return [*pictures, table]


def _agreement(explanation: Explanation) -> list[Section]:
    sections: list[Section] = []
    if correlation := explanation.agreement_correlation:
        points = {case.name: (case.agreement.score, case.mean_dice) for case in explanation.cases}
        text = f"Spearman {correlation.spearman:.2f}, 95% interval {correlation.low:.2f} to {correlation.high:.2f}"
        sections.append(Picture(explanation.agreement_finding, agreement_scatter(points, text), "agreement"))
    known = sorted(explanation.cases, key=lambda case: (isnan(case.agreement.score), case.agreement.score))[:_MAX_ROWS]
    return [
        *sections,
        Table("Least agreement of attention and mask", _AGREEMENT, [_disagreement(case) for case in known]),
    ]


_AGREEMENT = ("Case", "Agreement", "Dice", "Attended only ml", "Segmented only ml", "Largest attended only")


def _disagreement(case: CaseExplanation) -> list[object]:
    explanation = case.agreement
    where = "; ".join(
        f"{region.ml:g} ml at {' '.join(f'{place:g}' for place in region.centre)} mm"
        for region in explanation.attended_only
    )
    sizes = [number(explanation.attended_only_ml, 2), number(explanation.segmented_only_ml, 2)]
    return [case.name, number(explanation.score, 3), number(case.mean_dice, 3), *sizes, where or "–"]


def _shown(explanation: Explanation) -> list[tuple[CaseExplanation, str]]:
    """The best, median and worst case by Dice, or by agreement where there is no reference."""

    def rank(case: CaseExplanation) -> float:
        return case.mean_dice if explanation.has_references else case.agreement.score

    ranked = sorted((case for case in explanation.cases if not isnan(rank(case))), key=rank, reverse=True)
    if not ranked:
        return []
    what = "mean Dice" if explanation.has_references else "agreement"
    places = {len(ranked) // 2: "median", len(ranked) - 1: "worst", 0: "best"}
    return [(ranked[place], f"{places[place]} case, {what} {rank(ranked[place]):.3f}") for place in sorted(places)]


def _windows(shown: Sequence[tuple[CaseExplanation, str]]) -> list[Picture]:
    """Which windows of these cases a prediction runs; nothing without a localizer."""
    return [
        Picture(f"{case.name}: {case.windows}", draw_windows(case.windows, case.name), f"windows_{number}")
        for number, (case, _) in enumerate(shown, start=1)
        if case.windows is not None
    ]


def _view(case: CaseExplanation, what: str) -> CaseView:
    image = case.image()
    reference = case.reference() if case.dice else None
    attention = {gate: read_volume(path) for gate, path in case.maps.items()}
    return CaseView(f"{case.name}: {what}", image, read_label(case.mask), reference, attention)


def _notes(explanation: Explanation) -> list[str]:
    notes = [
        "Attention is the coefficient by which a gate multiplies its skip connection, 0 (suppressed) to 1 (passed). It "
        "is a multiplier inside the network, not a cause: a region that passes need not determine the mask.",
        "Nulls: the same network with the weights of every layer shuffled, and the maps of other cases stretched over "
        "this one. Attention that scores no better than these shows no more than the architecture or an atlas would.",
        *(f"{heading}: {ATTENTION_METRICS[name]}." for name, (heading, _) in _SCORES.items()),
        *(f"{_MAPS[name]}: {MAP_METRICS[name]}." for name in _MAPS),
        "Agreement: AUROC of the mean attention of all gates for the mask. Attended: above half-way between the mean "
        "inside the mask and outside it. Positions are in RAS mm.",
    ]
    if explanation.plan.localizer is not None:
        notes += _localizer_notes(explanation)
    if explanation.ablation:
        notes += [f"Gate replaced by {name}: {what}." for name, what in REPLACEMENTS.items()] + [ABLATION_CAVEAT]
    if explanation.faithfulness:
        notes.append(FAITHFULNESS_CAVEAT)
    return [*notes, "This is research software, not a medical device."]


def _localizer_notes(explanation: Explanation) -> list[str]:
    """What differs for a cascade."""
    notes = [
        "Localizer: how probable the localizer finds any label, on the coarse grid, interpolated. It decides which "
        "windows a prediction runs. Here all windows were run, so that the gates are scored on the whole image; the "
        "agreement is that of the gates alone, where there are any.",
    ]
    if explanation.ablation and explanation.plan.context:
        notes += [f"Context replaced by {name}: {what}." for name, what in CONTEXT_REPLACEMENTS.items()]
    elif explanation.ablation:
        notes.append("The networks see no context of the localizer, so there was none to replace.")
    if explanation.faithfulness:
        notes.append(
            "The order of the localizer's map was not tested by deletion and insertion. The networks see the context "
            "of the whole image also where it is blurred, so these curves show less than those of a single network."
            if explanation.plan.context
            else "The order of the localizer's map was not tested by deletion and insertion."
        )
    return notes
