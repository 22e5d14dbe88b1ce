"""How a finished fold does on whole cases, through the model folder as users will load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.folds import Split
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import Summary, summarize
from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
from attunet.inference.segmenter import Segmenter
from attunet.report.cases import CaseView, choose_cases

__all__ = ["judge_cases", "show_cases", "validated_held_out"]


def judge_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    geometry: GeometryPolicy = "fail",
    advance: Callable[[], None] = lambda: None,
) -> Summary:
    """Scores on labelled cases, each on its own grid."""
    evaluated = evaluate_cases(segmenter, cases, EvaluateOptions(geometry=geometry), progress=lambda *_: advance())
    scores = tuple(map(attrgetter("scores"), evaluated))  # a map holds no case while the next one is segmented
    return summarize(scores, scored_labels(segmenter.plan))


def show_cases(
    segmenter: Segmenter, cases: Sequence[Case], summary: Summary, *, geometry: GeometryPolicy = "fail"
) -> list[CaseView]:
    """The best, the median and the worst case with their attention."""
    known = {case.id: case for case in cases}
    views = []
    for name, what in choose_cases(summary).items():
        image, label = read_case(known[name], geometry=geometry)
        result = segmenter.predict(image, attention=_has_gates(segmenter.plan))
        views.append(CaseView(f"{name}: {what}", image, result.segmentation, label, result.attention))
    return views


def validated_held_out(folder: Path) -> bool:
    """Whether a fold's validation cases were kept out of its training, as its split.yaml says."""
    return not (folder / "split.yaml").is_file() or Split.read(folder).held_out


def _has_gates(plan: Plan) -> bool:
    return bool(plan.network.gate_widths)
