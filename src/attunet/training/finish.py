"""From trained weights to a sealed fold: graph, metrics on whole cases, curves, manifest."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.bundle import load_bundle, save_manifest
from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.errors import BundleError
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import Summary, summarize
from attunet.export.openvino import export_openvino
from attunet.inference.segmenter import Segmenter
from attunet.nn import AttentionUNet
from attunet.nn.weights import load_weights, save_weights
from attunet.report.figures import curves, save_figure
from attunet.training.history import History
from attunet.training.paths import FoldPaths

__all__ = ["FoldResult", "finish_fold", "finished_fold"]


@dataclass(frozen=True)
class FoldResult:
    """A finished fold: where it lies, and how it did on its validation cases, on their own grid.

    trained: False when it was finished before, so that nothing was left to do.
    """

    fold: int
    folder: Path
    summary: Summary
    trained: bool = True


def finish_fold(
    plan: Plan,
    run: Path,
    fold: int,
    paths: FoldPaths,
    history: History,
    cases: Sequence[Case],
    *,
    geometry: GeometryPolicy = "fail",
    advance: Callable[[], None] = lambda: None,
) -> FoldResult:
    """Turn the best weights into a usable fold and judge it with the predictor that users will run.

    Raises: TrainingError when the exported graph does not agree with the network.
    """
    network = AttentionUNet.from_config(plan.network)
    load_weights(paths.best, network)
    save_weights(network, paths.weights)
    export_openvino(network, plan, paths.graph)
    paths.metrics.unlink(missing_ok=True)  # those of a shorter training
    save_manifest(run)
    summary = validate(run, fold, plan, cases, geometry, advance)
    save_figure(curves(history.rows), paths.curves)
    summary.write(paths.metrics)
    save_manifest(run)
    return FoldResult(fold, paths.folder, summary)


def finished_fold(run: Path, fold: int, paths: FoldPaths) -> FoldResult | None:
    """The result that `finish_fold` left of the best weights as they are now; None when it was not all done."""
    try:
        load_bundle(run, [fold])
    except BundleError:
        return None
    if not paths.metrics.exists() or not filecmp.cmp(paths.best, paths.weights, shallow=False):
        return None
    return FoldResult(fold, paths.folder, Summary.read(paths.metrics), trained=False)


def validate(
    run: Path,
    fold: int,
    plan: Plan,
    cases: Sequence[Case],
    geometry: GeometryPolicy,
    advance: Callable[[], None],
) -> Summary:
    """Scores of a fold on labelled cases, each on its own grid, through the model folder as it lies on disk."""
    segmenter = Segmenter.load(run, folds=[fold], device="cpu")
    scores = []
    for case in cases:
        image, label = read_case(case, geometry=geometry)
        assert label is not None
        predicted = segmenter.predict(image)
        result = score_case(
            label.array[0],
            predicted.segmentation.array[0],
            plan.labels,
            image.spacing,
            ignore=plan.ignore_label,
        )
        scores.append(CaseScores(case.id, result, reference_file=str(case.label)))
        advance()
    return summarize(scores, plan.labels)
