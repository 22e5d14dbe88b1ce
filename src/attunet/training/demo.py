"""The whole life cycle of a model on a synthetic abdomen, up to a report: called by `attunet demo`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from attunet.config import TrainingConfig
from attunet.data.cases import Case, find_cases, read_dataset
from attunet.data.formats import read_volume
from attunet.data.phantom import write_phantom_dataset
from attunet.errors import ConfigError
from attunet.evaluation.evaluate import evaluate
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import Summary
from attunet.explanation.explain import ExplainOptions, explain
from attunet.explanation.prediction_hook import PredictionHook
from attunet.explanation.report import score_sections
from attunet.files import write_text
from attunet.inference.batch import predict_cases
from attunet.inference.case_worker import CaseResult
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.report.cases import CaseView
from attunet.report.training import read_history, write_training_report
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.run_folder import FoldPaths
from attunet.training.train import TrainOptions, train

__all__ = ["DemoCallbacks", "DemoOptions", "DemoResult", "run_demo"]

_SHOWN = 3
"""Number of test cases in the report."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The size of the demonstration.

    Args:
        max_time: training time in seconds.
        cases: number of synthetic training scans, at least 4.
        test_cases: number of synthetic test scans, at least 1.
        seed: random seed of the phantoms and the training.
    """

    max_time: float = 90.0
    cases: int = 20
    test_cases: int = 6
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The results of a demonstration.

    Args:
        summary: scores of the test cases; in summary.json, too.
        report: the HTML report.
    """

    summary: Summary
    report: Path


class DemoCallbacks(TrainingCallbacks):
    """Receives the steps of the demonstration, in addition to the reports of training."""

    def on_stage(self, number: int, text: str, folder: Path) -> None:
        """Step `number` of five starts; it writes to `folder`."""

    def on_prediction(self, result: CaseResult) -> None:
        """A test case was segmented."""


_DEFAULTS = DemoOptions()
_SILENT = DemoCallbacks()


def run_demo(
    output: Path,
    options: DemoOptions = _DEFAULTS,
    *,
    callbacks: DemoCallbacks = _SILENT,
    cancelled: Event | None = None,
) -> DemoResult:
    """Make a synthetic abdomen data set, train on it, segment and explain new scans, score them, write a report.

    Args:
        output: folder for all files; the files of an earlier demonstration are removed.
        options: number of scans, and training time.
        callbacks: receive the progress.
        cancelled: an event that stops the demonstration.
    Returns:
        The scores and the report.
    Raises:
        ConfigError: when the folder has other files of the same names.
        CancelledError: when `cancelled` was set.
    """
    data, run, masks, maps = (output / name for name in ("data", "model", "masks", "where"))
    _clear(output, (data, run, masks, maps))
    callbacks.on_stage(1, f"{options.cases} + {options.test_cases} synthetic scans", data)
    write_phantom_dataset(data, options.cases, options.seed, test_cases=options.test_cases)
    callbacks.on_stage(2, f"training for {options.max_time:g} s", run)
    config = TrainingConfig(max_time=options.max_time, seed=options.seed)
    training = TrainOptions(config=config, store=output / "store")
    trained = train(read_dataset(data), run, training, callbacks=callbacks, cancelled=cancelled)
    callbacks.on_stage(3, f"segmenting {options.test_cases} test scans", masks)
    cases = find_cases([data / "imagesTs"], 1)
    _predict(run, cases, masks, callbacks, cancelled)
    callbacks.on_stage(4, "where it looks", maps)
    labelled = [replace(case, label=data / "labelsTs" / f"{case.id}.nii.gz") for case in cases]
    explanation = explain(run, labelled, maps, ExplainOptions(ablation=True), cancelled=cancelled)
    callbacks.on_stage(5, "scores and report", output)
    summary = evaluate(data / "labelsTs", masks, labels=scored_labels(trained.plan))
    summary.write(output / "summary.json")
    paths = FoldPaths(trained.folds[0].folder)
    write_training_report(
        output / "report.html",
        title="Attention U-Net on a synthetic abdomen",
        subtitle=f"{options.cases} training scans, {options.test_cases} test scans segmented and scored",
        plan=trained.plan,
        history=read_history(paths.log),
        summary=summary,
        views=[_view(case, masks) for case in labelled[:_SHOWN]],
        attention_frames=paths.attention_frames,
        more=score_sections(explanation),
    )
    return DemoResult(summary=summary, report=output / "report.html")


def _predict(run: Path, cases: Sequence[Case], masks: Path, callbacks: DemoCallbacks, cancelled: Event | None) -> None:
    segmenter = Segmenter.load(run)
    hook = PredictionHook(masks / "preview", agreement=False, attention=True, modality=segmenter.plan.modality)
    predict_cases(
        segmenter,
        cases,
        masks,
        PredictOptions(attention=True),
        on_prediction=hook,
        on_result=callbacks.on_prediction,
        cancelled=cancelled,
    )


def _view(case: Case, masks: Path) -> CaseView:
    """A segmented phantom from disk."""
    assert isinstance(case.label, Path)
    gates = sorted((masks / "attention").glob(f"{case.id}_*.nii.gz"))
    return CaseView(
        name=case.id,
        image=read_volume(case.images[0]),
        segmentation=read_volume(masks / f"{case.id}.nii.gz"),
        reference=read_volume(case.label),
        attention={gate.name.removeprefix(f"{case.id}_").removesuffix(".nii.gz"): read_volume(gate) for gate in gates},
    )


def _clear(output: Path, folders: Sequence[Path]) -> None:
    """Remove the files of an earlier demonstration. Raises: ConfigError when other files have those names."""
    mark = output / ".attunet-demo"
    foreign = [folder for folder in folders if folder.exists() and not mark.exists()]
    if foreign:
        raise ConfigError(f"{foreign[0]} exists and was not made by the demo", hint="choose another folder with -o")
    write_text(mark, "This folder was made by `attunet demo`, which clears it when run again.\n")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
