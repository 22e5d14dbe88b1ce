"""Train the folds of a data set one after another, and cross-validate them: called by `attunet train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal, cast

from attunet.bundle import fold_folder
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import Dataset, GeometryPolicy
from attunet.data.folds import assign_groups
from attunet.errors import ConfigError
from attunet.locks import exclusive_if_writable
from attunet.planning.hardware import Machine
from attunet.planning.options import PlanOptions
from attunet.planning.plan_dataset import plan_dataset
from attunet.planning.plan_fit import check_plan_fits
from attunet.selection.cross_validation import CrossValidation, cross_validate
from attunet.training.callbacks.progress import SILENT, TrainingCallbacks, raise_if_cancelled
from attunet.training.finish import FoldResult
from attunet.training.fold_jobs import FoldJob, FoldRunner, train_in_turn
from attunet.training.processes import is_rank_zero, wait_until
from attunet.training.resume import check_planning, continued_settings
from attunet.training.run_folder import FoldPaths, any_started, require_fold, run_folds
from attunet.training.start import check_start

__all__ = [
    "TrainOptions",
    "TrainResult",
    "plan_for_training",
    "resolve_config",
    "resolve_plan",
    "select_folds",
    "train",
]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options for training the folds of a data set.

    Args:
        plan: the plan to train, or the options to make one, unless the run already has a plan; `device`,
            `geometry` and `precision` of the options are replaced by those given here.
        config: the training settings; None for those of the run when resuming, otherwise for the defaults.
        folds: indices of the folds of the cross-validation; None for all.
        device: auto, cpu or cuda.
        resume: continue from the last checkpoints in the run.
        geometry: what to do when the grids of an image and its label differ.
        store: folder of the preprocessed cases; ~/.cache/attunet/store by default.
    """

    plan: Plan | PlanOptions = field(default_factory=PlanOptions)
    config: TrainingConfig | None = None
    folds: tuple[int, ...] | None = (0,)
    device: str = "auto"
    resume: bool = False
    geometry: GeometryPolicy = "fail"
    store: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model folder.

    Args:
        run: the model folder.
        plan: the trained plan.
        folds: the finished folds, in the order in which they were trained.
        cross_validation: scores of all finished folds on their held-out cases; None after a single fold.
    """

    run: Path
    plan: Plan
    folds: tuple[FoldResult, ...]
    cross_validation: CrossValidation | None = None


_DEFAULTS = TrainOptions()


def train(
    dataset: Dataset,
    run: Path,
    options: TrainOptions = _DEFAULTS,
    *,
    callbacks: TrainingCallbacks = SILENT,
    cancelled: Event | None = None,
    runner: FoldRunner = train_in_turn,
) -> TrainResult:
    """Train the selected folds into a model folder and, when there are several, cross-validate them.

    All checks that do not need the images run before the first case is read.

    Args:
        dataset: the labelled cases.
        run: the model folder.
        options: plan, settings, folds and device.
        callbacks: receive the progress.
        cancelled: an event that stops training like Ctrl-C; it can be resumed.
        runner: trains the folds; in this process, or each on a machine that locks its own fold.
    Returns:
        The finished folds.
    Raises:
        ConfigError: when a fold does not exist, or was already started and `resume` is not set, the run has another
            plan, or the settings conflict.
        BusyError: when another program trains one of the folds.
        CancelledError: when `cancelled` was set; otherwise as `fit` and `cross_validate`.
    """
    config = continued_settings(run, options.config or resolve_config(run, resume=options.resume))
    folds = select_folds(dataset, config, run, options.folds)
    _require_resume(run, folds, options.resume)
    here = runner is train_in_turn and is_rank_zero()
    folders = [fold_folder(run, fold) for fold in folds] if here else []
    with exclusive_if_writable(folders, "attunet train"):
        return _train(dataset, run, options, config, folds, callbacks=callbacks, cancelled=cancelled, runner=runner)


def _train(
    dataset: Dataset,
    run: Path,
    options: TrainOptions,
    config: TrainingConfig,
    folds: Sequence[int],
    *,
    callbacks: TrainingCallbacks,
    cancelled: Event | None,
    runner: FoldRunner,
) -> TrainResult:
    planned = plan_for_training(options.plan, config, device=options.device, geometry=options.geometry)
    plan = resolve_plan(dataset, run, planned, resume=options.resume, callbacks=callbacks, cancelled=cancelled)
    if transfer := check_start(plan, config, transfer=not options.resume):
        callbacks.on_transfer(transfer, str(config.init_weights))
    job = FoldJob(
        dataset=dataset,
        plan=plan,
        config=config,
        run=run,
        fold=0,
        device=options.device,
        resume=options.resume,
        geometry=options.geometry,
        store=options.store,
    )
    results = runner(
        [replace(job, fold=fold) for fold in folds],
        callbacks=callbacks,
        cancelled=cancelled,
        on_start=lambda job: callbacks.on_fold_start(job.fold, job.run),
        on_end=lambda _, result: callbacks.on_fold_end(result),
    )
    together = len(results) > 1 and is_rank_zero()
    if not together:
        return TrainResult(run=run, plan=plan, folds=tuple(results))
    validated = cross_validate(run, device=options.device, progress=callbacks.on_evaluation, cancelled=cancelled)
    return TrainResult(run=run, plan=plan, folds=tuple(results), cross_validation=validated)


def plan_for_training(
    plan: Plan | PlanOptions, config: TrainingConfig, *, device: str, geometry: GeometryPolicy
) -> Plan | PlanOptions:
    """The planning options with the device, the precision and the geometry policy of the training.

    Args:
        plan: a plan, which is returned unchanged, or the options to make one with.
        config: the recipe.
        device: where the training computes: auto, cpu or cuda.
        geometry: what to do when the grids of an image and its label differ.
    Returns: the plan or the options.
    """
    if isinstance(plan, Plan):
        return plan
    machine = cast(Machine | Literal["auto"], device)
    return replace(plan, device=machine, geometry=geometry, precision=config.precision)


def resolve_config(run: Path, recipe: Path | None = None, *, resume: bool = False, **changes: Any) -> TrainingConfig:
    """The settings of a recipe or, without one, those of the run, if it was started or is resumed.

    Args:
        run: the model folder.
        recipe: a YAML file of training settings.
        resume: whether the run is resumed.
        changes: settings that override those of the recipe; None values are ignored.
    Returns:
        The settings, checked.
    Raises:
        ConfigError: when both `epochs` and `max_time` are given, or a setting is unknown or has a wrong value.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if "epochs" in given and "max_time" in given:
        raise ConfigError("both --epochs and --max-time were given", hint="give one of them")
    if "epochs" in given:
        given["max_time"] = None
    earlier = run / "training.yaml"
    continued = recipe is None and earlier.exists() and (resume or any_started(run))
    source = earlier if continued else recipe
    return load_settings(TrainingConfig, source or {}, **given)


def resolve_plan(
    dataset: Dataset,
    run: Path,
    plan: Plan | PlanOptions,
    *,
    resume: bool = False,
    callbacks: TrainingCallbacks = SILENT,
    cancelled: Event | None = None,
) -> Plan:
    """The given plan, or that of a run that was already started, or a new one.

    If several processes share the training, they wait for the plan of the first.

    Args:
        dataset: the cases to make a plan for.
        run: the model folder.
        plan: a plan, or the options to make one.
        resume: use the plan of the folder even if no fold was started.
        callbacks: receive the plan and its origin.
        cancelled: an event that stops planning.
    Returns:
        The plan to train.
    Raises:
        ConfigError: when the options contradict the plan of the run.
        CancelledError: when `cancelled` was set; otherwise as `plan_dataset`, or as `check_plan_fits` for a given plan.
    """
    existing = run / "plan.json"
    if not is_rank_zero():
        wait_until(existing.exists)
        return load_settings(Plan, existing)
    labelled = sum(case.label is not None for case in dataset.cases)

    def on_case() -> None:
        callbacks.on_case_planned()
        raise_if_cancelled(cancelled)

    if isinstance(plan, Plan):
        callbacks.on_planning_start(labelled)
        warnings = check_plan_fits(plan, dataset, on_case=on_case)
        callbacks.on_plan(plan, "given", run)
        for warning in warnings:
            callbacks.on_warning(f"plan: {warning}")
        return plan
    if existing.exists() and (resume or any_started(run)):
        settled = load_settings(Plan, existing)
        check_planning(settled, plan, existing)
        callbacks.on_plan(settled, "run", run)
        return settled

    callbacks.on_planning_start(labelled)
    made = plan_dataset(dataset, plan, on_case=on_case, on_warning=callbacks.on_warning)
    callbacks.on_plan(made, "new", run)
    return made


def select_folds(dataset: Dataset, config: TrainingConfig, run: Path, folds: Sequence[int] | None) -> tuple[int, ...]:
    """The indices of the selected folds, each once.

    Args:
        dataset: the labelled cases.
        config: the recipe, for the number of folds and the grouping of cases.
        run: the model folder, whose folds are fixed when the first one starts.
        folds: the selected indices; None for all.
    Returns:
        The indices in the given order.
    Raises:
        ConfigError: when one of them does not exist.
    """
    groups = assign_groups(dataset, config.group_by)
    selected = range(len(run_folds(groups, config, run))) if folds is None else folds
    for index in selected:
        require_fold(groups, config, run, index)
    return tuple(dict.fromkeys(selected))


def _require_resume(run: Path, folds: Sequence[int], resume: bool) -> None:
    if is_rank_zero() and not resume and any(FoldPaths(fold_folder(run, index)).started for index in folds):
        raise ConfigError(
            f"{run} already contains a training run of this fold", hint="add --resume, or choose another -o"
        )
