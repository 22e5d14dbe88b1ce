"""From trained weights to a sealed fold: graph, metrics on whole cases, curves, manifest."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.bundle import EXECUTION, discard_postprocessing, load_bundle, save_manifest
from attunet.bundle.execution import AIR, write_air
from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy
from attunet.errors import BundleError
from attunet.evaluation.summary import Summary
from attunet.export.formats import export_openvino
from attunet.inference.segmenter import Segmenter
from attunet.nn import AttentionUNet
from attunet.nn.weights import load_weights, save_weights
from attunet.report.figures import curves, save_figure
from attunet.report.training import write_training_report
from attunet.training.air_audit import audit_air, with_air
from attunet.training.callbacks.history import History
from attunet.training.judge import judge_cases, show_cases, validated_held_out
from attunet.training.run_folder import FoldPaths

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
    (paths.folder / AIR).unlink(missing_ok=True)
    discard_postprocessing(run)  # learnt, and the others exported, from other weights than these
    for stale in (run / EXECUTION, paths.onnx, paths.program):
        stale.unlink(missing_ok=True)
    save_manifest(run)
    segmenter = Segmenter.load(run, folds=[fold], device="cpu")
    air = audit_air(segmenter, cases, geometry=geometry)
    write_air(air, paths.folder)
    segmenter = with_air(segmenter, air)
    summary = judge_cases(segmenter, cases, geometry=geometry, advance=advance)
    save_figure(curves(history.rows), paths.curves)
    unseen = "cases it had not seen" if validated_held_out(paths.folder) else "the cases it was trained on"
    write_training_report(
        paths.report,
        title=f"{plan.name}, fold {fold}",
        subtitle=f"Attention U-Net, judged on {len(cases)} whole validation cases: {unseen}",
        plan=plan,
        history=history.rows,
        summary=summary,
        views=show_cases(segmenter, cases, summary, geometry=geometry),
        attention_frames=paths.attention_frames,
    )
    summary.write(paths.metrics)
    save_manifest(run)
    return FoldResult(fold, paths.folder, summary)


def finished_fold(run: Path, fold: int, paths: FoldPaths) -> FoldResult | None:
    """The result that `finish_fold` left of the best weights as they are now; None when it was not all done.

    Checkpoints may have been deleted since.
    """
    try:
        load_bundle(run, [fold])
    except BundleError:
        return None
    grown = paths.best.exists() and not filecmp.cmp(paths.best, paths.weights, shallow=False)
    if grown or not paths.metrics.exists():
        return None
    return FoldResult(fold, paths.folder, Summary.read(paths.metrics), trained=False)
