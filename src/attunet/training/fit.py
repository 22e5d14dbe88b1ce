"""Train one fold of a plan, from the data set to a complete model folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import torch
import yaml

from attunet.bundle import fold_folder, save_plan
from attunet.bundle.manifest import alone
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import Case, Dataset, GeometryPolicy
from attunet.data.folds import Split, assign_groups
from attunet.data.labels import rename_annotated
from attunet.errors import ConfigError, EngineError
from attunet.files import write_text
from attunet.forks import refuse_fork
from attunet.locks import exclusive_if_writable
from attunet.training.callbacks.progress import SILENT, ProgressReporter, TrainingCallbacks, raise_if_cancelled
from attunet.training.callbacks.threads import adapts_threads
from attunet.training.finish import FoldResult, finish_fold, finished_fold
from attunet.training.int8 import Int8Training, without_int8_time
from attunet.training.localizers import LocalizerStage, member_cases, train_localizers
from attunet.training.processes import barrier, cpu_contention, is_rank_zero
from attunet.training.resume import check_data, continued_settings, record_data
from attunet.training.run_folder import FoldPaths, FoldTraining, any_started, default_store, fix_folds, require_fold
from attunet.training.start import emulates_bf16, settle_precision
from attunet.training.store import StoredCase, store_cases
from attunet.training.trainer import TrainerOptions, train_network

__all__ = ["fit", "training_device"]

_SHOWN = 5


def fit(
    dataset: Dataset,
    plan: Plan,
    config: TrainingConfig,
    run: Path,
    *,
    fold: int = 0,
    device: str = "auto",
    resume: bool = False,
    geometry: GeometryPolicy = "fail",
    store: Path | None = None,
    callbacks: TrainingCallbacks = SILENT,
    cancelled: Event | None = None,
) -> FoldResult:
    """Train a fold and write a model into `run` that needs neither torch nor pickle for prediction.

    Args:
        dataset: the labelled cases.
        plan: what to train, from `plan_dataset` or a plan.json.
        config: the training settings.
        run: the model folder, created if it does not exist; other folds in it are kept.
        fold: index of the fold of the cross-validation.
        device: auto, cpu or cuda.
        resume: continue from the last checkpoint, if there is one.
        geometry: what to do when the grids of an image and its label differ.
        store: folder of the preprocessed cases; ~/.cache/attunet/store by default.
        callbacks: receive the progress.
        cancelled: an event that stops training like Ctrl-C; it can be resumed.
    Returns:
        The finished fold; returned at once if it is finished and the budget is used up.
    Raises:
        ConfigError: when the fold does not exist, was already started and `resume` is not set, or the run was started
            with another plan.
        DatasetError: when cases of one patient or equal images are on both sides of the fold.
        TrainingError: when training diverges twice or memory runs out.
        BusyError: when another program trains this fold.
        EngineError: in a process that was forked from one that has trained or predicted with torch.
        CancelledError: when `cancelled` was set.
    """
    refuse_fork("torch")
    accelerator = training_device(device)
    config = settle_precision(continued_settings(run, config), accelerator)
    paths = FoldPaths(fold_folder(run, fold))
    with exclusive_if_writable([paths.folder] if is_rank_zero() else [], "attunet train"):
        return _fit(
            dataset, plan, config, run, paths,
            fold=fold, accelerator=accelerator, resume=resume, geometry=geometry, store=store,
            callbacks=callbacks, cancelled=cancelled,
        )  # fmt: skip


def _fit(
    dataset: Dataset,
    plan: Plan,
    config: TrainingConfig,
    run: Path,
    paths: FoldPaths,
    *,
    fold: int,
    accelerator: str,
    resume: bool,
    geometry: GeometryPolicy,
    store: Path | None,
    callbacks: TrainingCallbacks,
    cancelled: Event | None,
) -> FoldResult:
    dataset = rename_annotated(assign_groups(dataset, config.group_by), plan.labels)
    require_fold(dataset, config, run, fold)
    if is_rank_zero():
        _check_run(run, plan, paths, resume)
    if not paths.last.exists() and (sealed := finished_fold(run, fold, paths)):
        return sealed  # without its checkpoint it cannot be trained further
    cases = {case.id: case for case in dataset.labelled if case.split != "test"}
    stored = _store(list(cases.values()), plan, store, geometry, callbacks, cancelled)
    coarse = {}
    if plan.localizer is not None:
        coarse = _store(list(cases.values()), plan.coarse, store, geometry, callbacks, cancelled)
    with alone(run) if is_rank_zero() else nullcontext():
        split = fix_folds(dataset, config, run, stored)[fold]
        contents = {name: stored[name].contents() for name in (*split.train, *split.validation)}
        check_data(run, contents)
        if is_rank_zero():
            record_data(paths, contents)
            described = Split(dataset.root.resolve(), geometry, split.train, split.validation, dataset.options)
            _describe(run, plan, config, described, paths)
    if is_rank_zero():
        _warn(run, sorted(set(stored) - set(contents)), config, accelerator, callbacks)
    training = FoldTraining(
        train=[stored[name] for name in split.train],
        validation=[stored[name] for name in split.validation],
        plan=plan,
        config=without_int8_time(config, accelerator),
        paths=paths,
    )
    options = TrainerOptions(
        accelerator=accelerator,
        resume=resume,
        callbacks=lambda schedule, history: (
            ProgressReporter(schedule, history, callbacks, cancelled),
            *callbacks.lightning(schedule, history),
        ),
        warn=callbacks.on_warning,
    )
    if plan.localizer is not None:
        stage = LocalizerStage(
            stored=coarse,
            seen=member_cases(dataset, split.train, stored, plan.localizer.members, config.seed),
            on_network=callbacks.on_network_start,
            advance=lambda: raise_if_cancelled(cancelled),
        )
        training = train_localizers(training, stage, options)
    history = train_network(training, options)
    if not is_rank_zero():
        return _result_of_rank_zero(run, fold, paths)
    result = None if history.grown else finished_fold(run, fold, paths)
    if result is None:
        evaluated = [cases[name] for name in split.validation]
        advance = _advance(callbacks.on_case_evaluated, cancelled)
        result = finish_fold(
            *(plan, run, fold, history, evaluated),
            train=[cases[name] for name in split.train],
            stored=[(stored[name], coarse[name]) for name in split.validation if name in coarse],
            geometry=geometry,
            precision=config.precision,
            case_images=config.case_images,
            int8=Int8Training(
                train=training.train,
                config=config,
                accelerator=accelerator,
                trained_seconds=history.rows[-1]["minutes"] * 60 if history.rows else 0.0,
            ),
            advance=advance,
        )
    barrier()
    return result


def _warn(
    run: Path, added: Sequence[str], config: TrainingConfig, accelerator: str, callbacks: TrainingCallbacks
) -> None:
    """Warn of cases that are not in the run's folds, of a busy CPU and of emulated bf16."""
    names = ", ".join(added[:_SHOWN]) + (", …" if len(added) > _SHOWN else "")
    left_out = (
        f"{len(added)} cases were added since {run} was started, and are not part of its folds: {names}; "
        "train into another -o to use them"
    )
    keeps_threads = accelerator == "cpu" and not adapts_threads(config, accelerator)
    contention = cpu_contention(torch.get_num_threads()) if keeps_threads else ""
    for warning in filter(None, (left_out if added else "", contention, emulates_bf16(config, accelerator))):
        callbacks.on_warning(warning)


def _store(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path | None,
    geometry: GeometryPolicy,
    callbacks: TrainingCallbacks,
    cancelled: Event | None,
) -> dict[str, StoredCase]:
    advance = _advance(callbacks.on_case_stored, cancelled)
    return store_cases(cases, plan, folder or default_store(), geometry=geometry, advance=advance)


def _advance(report: Callable[[], None], cancelled: Event | None) -> Callable[[], None]:
    """Report a step. Raises: CancelledError when training was cancelled."""

    def advance() -> None:
        report()
        raise_if_cancelled(cancelled)

    return advance


def _result_of_rank_zero(run: Path, fold: int, paths: FoldPaths) -> FoldResult:
    """Wait for the result of the first process and return it."""
    barrier()
    result = finished_fold(run, fold, paths)
    assert result is not None
    return result


def training_device(device: str) -> str:
    """The accelerator for auto, cpu or cuda. Raises: EngineError when it is not available."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("no CUDA device can be used here", hint="use --device cpu, or install a CUDA build of torch")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is unknown", hint="choose auto, cpu or cuda")
    return device


def _check_run(run: Path, plan: Plan, paths: FoldPaths, resume: bool) -> None:
    if paths.started and not resume:
        raise ConfigError(
            f"{paths.folder} already contains a training run", hint="add --resume to continue, or choose another -o"
        )
    written = run / "plan.json"
    if any_started(run) and written.exists() and load_settings(Plan, written) != plan:
        raise ConfigError(f"{run} was started with another plan", hint="leave out --plan, or choose another -o")


def _describe(run: Path, plan: Plan, config: TrainingConfig, split: Split, paths: FoldPaths) -> None:
    save_plan(plan, run)
    write_text(run / "training.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    split.write(paths.folder)
