"""A comparison as summary.json: every number, nan as null, and the conventions behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attunet.evaluation.comparison import ComparedModel, Difference, ModelComparison
from attunet.evaluation.summary_file import plain

__all__ = ["CONVENTIONS", "comparison_to_json"]

CONVENTIONS: Mapping[str, str] = {
    "difference": "The first model minus the other one, case by case.",
    "pairs": "Cases are left out for a label that is not annotated, or is in neither the reference nor a model's mask.",
    "p": "Two-sided Wilcoxon signed-rank test; cases without a difference are left out of the ranks.",
    "holm": "Holm's correction, for each metric over all labels (and their mean, where there are several) and models.",
    "effect": "Matched-pairs rank-biserial correlation, in [-1, 1].",
    "ci95": "Percentile bootstrap of the mean difference, 2000 resamples of the cases.",
    "unit": "Cases are the unit. Each fold was trained once: no interval includes the effect of another seed.",
    "flops": "Of one window, without mirroring; a multiply-add counts as 2; convolutions only.",
    "seconds": "Measured on this machine during the comparison: one case at a time, all windows and mirrored copies, "
    "without reading and writing.",
}


def comparison_to_json(comparison: ModelComparison) -> dict[str, Any]:
    """The content of summary.json."""
    return {
        "dataset": comparison.dataset,
        "folds": list(comparison.folds),
        "cases": comparison.cases,
        "conclusion": comparison.conclusion,
        "further_conclusions": list(comparison.further_conclusions),
        "models": [_compared_model(model) for model in comparison.models],
        "differences": [_difference(comparison, difference) for difference in comparison.differences],
        "notes": list(comparison.notes),
        "conventions": dict(CONVENTIONS),
    }


def _compared_model(model: ComparedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "description": model.description,
        "gate": model.gate,
        "parameters": model.parameters,
        "flops": model.flops,
        "patch_size": list(model.patch),
        "engine": model.engine,
        "median_seconds": plain(model.median_seconds),
        "seconds": dict(model.seconds),
        "budget": model.budget,
        "steps": {str(fold): steps for fold, steps in model.steps.items()},
        "minutes": {str(fold): minutes for fold, minutes in model.minutes.items()},
        "scores": model.summary.to_dict(),
    }


def _difference(comparison: ModelComparison, difference: Difference) -> dict[str, Any]:
    test = difference.test
    return {
        "model": comparison.baseline.name,
        "other": difference.other,
        "label": difference.label,
        "metric": difference.metric,
        "cases": test.cases,
        "equal_cases": test.zeros,
        "mean": plain(test.mean),
        "ci95": [plain(test.low), plain(test.high)],
        "effect": plain(test.effect),
        "p": plain(test.p),
        "holm": plain(test.holm),
    }
