"""What each further fold adds, measured on labelled cases that no fold of the run has seen.

A cross-validation cannot tell: every one of its cases was seen by all folds but one. An average of folds scored on
cases that some of them were trained on would look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from attunet.bundle import finished_folds, fold_cases, fold_folder, load_bundle, save_postprocessing
from attunet.config import Plan, Postprocessing, TrainingConfig, load_settings
from attunet.config.prediction_choice import FOLDS_AVERAGED
from attunet.data.cases import Case, Dataset, read_dataset
from attunet.data.file_states import content_digest
from attunet.data.folds import Split, group_in_name
from attunet.data.labels import describe_values, rename_annotated, values_by_label
from attunet.errors import ConfigError, DatasetError
from attunet.evaluation.scores import scored_labels
from attunet.failures import Failures
from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
from attunet.inference.segmenter import Segmenter
from attunet.selection.prediction_choice import PredictionScores, case_dice, decide_folds, settle

__all__ = ["measure_folds", "unseen_cases"]

Progress = Callable[[int, int], None]
Measured = dict[str, tuple[float, float]]
"""Case name to its Dice and seconds."""


def unseen_cases(run: Path, dataset: Path) -> tuple[Case, ...]:
    """The labelled cases of a data set that no finished fold was trained or validated on.

    A case counts as seen if its image has the same content as one of theirs, if both are of one patient, or, in the
    data set of the run, if it has the same name.

    Args:
        run: the model folder.
        dataset: folder or CSV file; also that of the run, with cases that are marked as test or were added later.
    Returns: the cases.
    Raises: DatasetError when there is none, or a label has other values than in the run; ConfigError when the run has
        one fold; otherwise as `fold_cases`.
    """
    folds = _several_folds(run)
    seen = [case for fold in folds for side in ("train", "validation") for case in fold_cases(run, fold, side)]
    recipe = run / "training.yaml"
    pattern = load_settings(TrainingConfig, recipe).group_by if recipe.is_file() else None
    contents = {content_digest(case.images) for case in seen}
    patients = {_patient(case, pattern) for case in seen} - {None}
    split = Split.read(fold_folder(run, folds[0]))
    same = dataset.resolve() == split.dataset.resolve()
    names = {case.id for case in seen} if same else set()
    read = read_dataset(dataset, split.options) if same else read_dataset(dataset)
    plan = load_bundle(run).plan
    if not same:
        _check_labels(read, plan)
    labelled = rename_annotated(read, plan.labels).labelled
    found = tuple(
        case
        for case in labelled
        if case.id not in names
        and _patient(case, pattern) not in patients
        and content_digest(case.images) not in contents
    )
    if not found:
        raise DatasetError(
            f"all {len(labelled)} labelled cases of {dataset} were seen by a fold of {run}",
            hint="give labelled cases of other patients",
        )
    return found


def measure_folds(
    run: Path,
    cases: Sequence[Case],
    *,
    device: str = "auto",
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
    failures: Failures | None = None,
) -> Postprocessing:
    """Predict unseen cases with the first fold, the first two, and so on, and decide how many are averaged.

    Mirroring, temperature and post-processing are those that a cross-validation decided before. The result is saved in
    the run; every prediction follows it.

    Args:
        run: the model folder.
        cases: from `unseen_cases`.
        device: auto, cpu or cuda.
        progress: called with the number of finished predictions and of all predictions.
        cancelled: an event that ends the call.
        failures: receives the cases that cannot be used, which count nowhere; None for a new one.
    Returns: what the run has decided, the number of folds included.
    Raises: BundleError for a folder that is not a finished run, ConfigError when it has one fold or was not
        cross-validated, CancelledError once `cancelled` is set, an error of the first case when none can be used.
    """
    folds, before = _several_folds(run), load_bundle(run).postprocessing
    failures = Failures() if failures is None else failures
    used = next((row for row in before.prediction.measured if row.used), None)
    if used is None:
        raise ConfigError(f"{run} was not cross-validated", hint="run attunet evaluate --cross-validation first")
    options = EvaluateOptions(geometry=Split.read(fold_folder(run, folds[0])).geometry)
    measured: list[Measured] = []
    for count in range(1, len(folds) + 1):
        segmenter = Segmenter.load(run, folds=folds[:count], device=device)

        def advance(done: int, total: int, before: int = count - 1) -> None:
            progress(before * total + done, len(folds) * total)

        evaluated = evaluate_cases(segmenter, cases, options, progress=advance, cancelled=cancelled, failures=failures)
        measured.append({each.name: (case_dice(each.dice.values()), each.seconds) for each in evaluated})
    kept = [case.id for case in cases if case.id not in failures.errors]
    failures.raise_if_all(len(kept))
    scored = [
        PredictionScores.of(count, used.copies, [each[name] for name in kept])
        for count, each in enumerate(measured, start=1)
    ]
    choice, reason = decide_folds(scored, folds)
    held_out = tuple(row for row in before.prediction.measured if row.measured_on == "held-out")
    update = {"folds": choice.folds, "measured": held_out + choice.measured}
    prediction = settle(before.prediction.model_copy(update=update), len(folds))
    lost = f"; {len(failures.errors)} cases could not be used" if failures.errors else ""  # a model names no case
    reasons = {**before.reasons, FOLDS_AVERAGED: reason + lost}
    decided = before.model_copy(update={"prediction": prediction, "reasons": reasons})
    save_postprocessing(decided, run)
    return decided


def _several_folds(run: Path) -> tuple[int, ...]:
    """The finished folds. Raises: ConfigError when there is one, so that there is nothing to choose."""
    folds = finished_folds(run)
    if len(folds) == 1:
        raise ConfigError(f"{run} has one fold, so there is no number of folds to decide", hint="train with --fold all")
    return folds


def _check_labels(dataset: Dataset, plan: Plan) -> None:
    """Raises: DatasetError when a label that both declare has none of the run's values: its Dice would be 0."""
    declared = values_by_label(dataset)
    for name, known in scored_labels(plan).items():
        own = known if isinstance(known, tuple) else (known,)
        if name in declared and not set(own) & set(declared[name]):
            raise DatasetError(
                f"{name} is {describe_values(declared[name])} in {dataset.root}, but {describe_values(own)} in the run",
                hint="give labels with the values of the run",
            )


def _patient(case: Case, pattern: str | None) -> str | None:
    """The group of a case: as its data set says, or from its name; None where neither is known."""
    return case.group if case.group is not None or pattern is None else group_in_name(case.id, pattern)
