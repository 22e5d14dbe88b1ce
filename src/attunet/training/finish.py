"""From trained weights to a finished fold: graph, scores of whole cases, curves, report, manifest."""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from attunet.bundle import fold_folder, load_bundle, resealed, save_manifest, withdraw_fold, write_skipping
from attunet.bundle.execution import write_air
from attunet.bundle.run import write_postprocessing
from attunet.config import Plan, Postprocessing
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.folds import Split
from attunet.errors import BundleError
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import Summary, summarize
from attunet.export.fold_int8 import HeldOutDice
from attunet.export.formats import export_openvino
from attunet.failures import Failures
from attunet.files import staged
from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
from attunet.inference.segmenter import Segmenter
from attunet.nn import AttentionUNet
from attunet.nn.weights import load_weights, save_weights
from attunet.report.cases import CaseView, choose_cases
from attunet.report.decisions import decision_tables
from attunet.report.figures import curves, save_figure
from attunet.report.training import write_training_report
from attunet.selection.fold_decision import FoldDecision, ReferenceMasks
from attunet.training.air_audit import audit_air, with_air
from attunet.training.callbacks.history import History
from attunet.training.int8 import Int8Training
from attunet.training.run_folder import FoldPaths
from attunet.training.skipping_audit import audit_skipping, with_skipping
from attunet.training.store import StoredCase

__all__ = ["FoldResult", "finish_fold", "finished_fold", "validated_held_out"]


_log = logging.getLogger(__name__)

_PICTURE_SECONDS = 60.0
"""For a case of the report, which was evaluated with all windows before."""


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """A finished fold.

    Args:
        fold: its index.
        folder: its folder.
        summary: scores of its validation cases, on their own grid, and those that could not be used.
        trained: False when it was already finished.
        decided: what was decided on its validation cases alone; None if it is not the only fold of the run, or was
            validated on its training cases.
    """

    fold: int
    folder: Path
    summary: Summary
    trained: bool = True
    decided: Postprocessing | None = None


def finish_fold(
    plan: Plan,
    run: Path,
    fold: int,
    history: History,
    cases: Sequence[Case],
    *,
    train: Sequence[Case] = (),
    stored: Sequence[tuple[StoredCase, StoredCase]] = (),
    geometry: GeometryPolicy = "fail",
    precision: str = "",
    case_images: bool = True,
    int8: Int8Training | None = None,
    advance: Callable[[], None] = lambda: None,
) -> FoldResult:
    """Turn the best weights into a usable fold and evaluate it with the predictor that users will run.

    Args:
        plan: the trained plan.
        run: the model folder.
        fold: index of the fold.
        history: the training history.
        cases: the fold's validation cases.
        train: its training cases, whose reference masks a post-processing must leave as they are.
        stored: of a cascade: the same, preprocessed for the fine and for the coarse grid.
        geometry: what to do when the grids of an image and its label differ.
        precision: precision of the training, for the report.
        case_images: whether the report shows cases.
        int8: builds the graph in 8-bit integers; None builds none.
        advance: called after every evaluated case.
    Returns: the finished fold.
    Raises: TrainingError when the exported graph does not agree with the network; the error of the first validation
        case when none can be used.
    """
    paths = FoldPaths(fold_folder(run, fold))
    with ExitStack() as stages:  # all complete before the fold is withdrawn, which takes only a moment
        _export(plan, paths, stages)
        for member in range(plan.localizer.members if plan.localizer else 0):
            _export(plan.coarse, paths.localizer(member), stages)
        withdraw_fold(run, paths.name)
    save_manifest(run, changed=paths.name)
    segmenter = _audited(run, fold, paths, cases, stored, geometry)
    alone = _decides_alone(run, paths)
    decision = FoldDecision(segmenter, ReferenceMasks([*train, *cases], plan)) if alone else None
    summary = _evaluate(segmenter, cases, geometry, advance, decision)
    decided = decision.decide(fold) if decision else None
    save_figure(curves(history.rows), paths.curves)
    shown = replace(segmenter, postprocessing=decided) if decided else segmenter
    which = "held out of its training" if validated_held_out(paths.folder) else "which it was also trained on"
    write_training_report(
        paths.report,
        title=f"{plan.name}, fold {fold}",
        subtitle=f"Attention U-Net, evaluated on {len(summary.cases)} whole validation cases, {which}",
        plan=plan,
        history=history.rows,
        precision=precision,
        summary=summary,
        views=_case_views(shown, cases, summary, geometry=geometry) if case_images else (),
        attention_frames=paths.attention_frames if case_images else None,
        more=decision_tables(decided) if decided else (),
    )
    if int8 is not None:
        dice = {each.case: each.mean_dice for each in summary.cases}
        held_out = cases if validated_held_out(paths.folder) else ()
        int8.build(segmenter, run, paths, HeldOutDice(cases=held_out, dice=dice, geometry=geometry), advance)
    with resealed(run) as folder:
        summary.write(folder / paths.name / paths.metrics.name)
        decided = decided if _decides_alone(run, paths) else None  # another fold may have been finished meanwhile
        if decided:
            write_postprocessing(decided, folder)
    return FoldResult(fold=fold, folder=paths.folder, summary=summary, decided=decided)


def _decides_alone(run: Path, paths: FoldPaths) -> bool:
    """Whether the fold is the only finished one of the run, and its validation cases were held out."""
    return [fold.name for fold in load_bundle(run).folds] == [paths.name] and validated_held_out(paths.folder)


def _export(plan: Plan, paths: FoldPaths, stages: ExitStack) -> None:
    """Write the best weights and the graph, which appear when the stages are left."""
    network = AttentionUNet.from_config(plan.network)
    load_weights(paths.best, network)
    graph = stages.enter_context(staged(paths.graph))
    save_weights(network, graph.with_name(paths.weights.name))
    export_openvino(network, plan, graph)


def _audited(
    run: Path,
    fold: int,
    paths: FoldPaths,
    cases: Sequence[Case],
    stored: Sequence[tuple[StoredCase, StoredCase]],
    geometry: GeometryPolicy,
) -> Segmenter:
    """The finished fold as users run it, once it is known which windows may be skipped.

    Near what a localizer finds there is no air, and to audit its windows takes two predictions of each case.
    """
    segmenter = Segmenter.load(run, folds=[fold], device="cpu")
    if segmenter.plan.localizer is not None:
        engines, held_out = segmenter.members[0].localizers[0], validated_held_out(paths.folder)
        skipping = audit_skipping(engines, segmenter.plan, stored, held_out=held_out)
        with resealed(run) as folder:
            write_skipping(skipping, folder / paths.name)
        segmenter = with_skipping(segmenter, skipping)
        if skipping.used:
            cases = ()
    air = audit_air(segmenter, cases, geometry=geometry)
    with resealed(run) as folder:
        write_air(air, folder / paths.name)
    return with_air(segmenter, air)


def _evaluate(
    segmenter: Segmenter,
    cases: Sequence[Case],
    geometry: GeometryPolicy,
    advance: Callable[[], None],
    decision: FoldDecision | None,
) -> Summary:
    """Score the validation cases; those whose files are no longer usable are named in the summary."""
    failures = Failures()
    options = EvaluateOptions(geometry=geometry)
    evaluated = evaluate_cases(segmenter, cases, options, progress=lambda *_: advance(), failures=failures)
    score = decision.observe if decision else attrgetter("scores")
    scores = tuple(map(score, evaluated))  # map keeps no case in memory while the next one is segmented
    failures.raise_if_all(len(scores))
    return replace(summarize(scores, scored_labels(segmenter.plan)), failed=failures.messages)


def finished_fold(run: Path, fold: int, paths: FoldPaths) -> FoldResult | None:
    """The result of `finish_fold` for the current best weights; checkpoints may have been deleted since.

    Args:
        run: the model folder.
        fold: index of the fold.
        paths: the files of the fold.
    Returns: the finished fold; None when it is not finished, or was trained further.
    """
    try:
        load_bundle(run, [fold])
    except BundleError:
        return None
    trained_further = paths.best.exists() and not filecmp.cmp(paths.best, paths.weights, shallow=False)
    if trained_further or not paths.metrics.exists():
        return None
    found = load_bundle(run).postprocessing
    own = found.evidence is not None and found.evidence.folds == (fold,)
    summary = Summary.read(paths.metrics)
    return FoldResult(fold=fold, folder=paths.folder, summary=summary, trained=False, decided=found if own else None)


def validated_held_out(folder: Path) -> bool:
    """Whether a fold's validation cases were held out of its training, according to its split.yaml."""
    return not (folder / "split.yaml").is_file() or Split.read(folder).held_out


def _case_views(
    segmenter: Segmenter, cases: Sequence[Case], summary: Summary, *, geometry: GeometryPolicy = "fail"
) -> list[CaseView]:
    """The best, the median and the worst case with their attention; of large cases with fewer windows, as it says."""
    by_id = {case.id: case for case in cases}
    views = []
    failures = Failures(lambda case, error: _log.warning("the report does not show case %s: %s", case, error))
    for name, rank in choose_cases(summary).items():
        with failures.of(name):
            image, label = read_case(by_id[name], geometry=geometry)
            attention = bool(segmenter.plan.network.gate_widths)
            result = segmenter.predict(image, attention=attention, time_limit=_PICTURE_SECONDS)
            title = "; ".join([f"{name}: {rank}", *result.warnings])
            views.append(CaseView(title, image, result.segmentation, label, result.attention))
    return views
