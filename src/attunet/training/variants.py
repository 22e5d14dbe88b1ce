"""Train variants of one plan, otherwise equal, and compare them: called by `attunet compare DATASET`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import yaml

from attunet.bundle import save_plan
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import Dataset, GeometryPolicy
from attunet.data.folds import assign_groups
from attunet.errors import ConfigError, DatasetError
from attunet.evaluation.comparison import ModelComparison
from attunet.files import write_text
from attunet.planning.options import PlanOptions
from attunet.planning.variants import VARIANTS, Variant, make_variants, parse_variants
from attunet.selection.comparison import compare_runs, write_comparison
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.finish import FoldResult, finished_fold
from attunet.training.fit import training_device
from attunet.training.fold_jobs import FoldJob, FoldRunner, train_in_turn
from attunet.training.resume import changed_settings
from attunet.training.run_folder import any_started, run_folds
from attunet.training.start import check_start, settle_precision
from attunet.training.train import plan_for_training, resolve_plan, select_folds

__all__ = ["VariantCallbacks", "VariantOptions", "compare_variants", "train_variants"]

_WITHOUT_EFFECT = ("workers", "loggers", "case_images", "int8")
"""Settings that may differ between the runs of one comparison, because they do not affect the result."""


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """The options for training and comparing variants of one plan.

    Args:
        plan: the plan with gates to vary, or the options to make one, unless the folder already has a plan;
            `device`, `geometry` and `precision` of the options are replaced by those given here.
        variants: names of the variants (see `VARIANTS`); the first is compared with each other one.
        config: the training settings of all variants.
        folds: indices of the folds of the cross-validation; None for all.
        device: auto, cpu or cuda.
        geometry: what to do when the grids of an image and its label differ.
        store: folder of the preprocessed cases; ~/.cache/attunet/store by default.
    """

    plan: Plan | PlanOptions = field(default_factory=PlanOptions)
    variants: tuple[str, ...] = ("gated", "ungated", "wider")
    config: TrainingConfig = field(default_factory=TrainingConfig)
    folds: tuple[int, ...] | None = None
    device: str = "auto"
    geometry: GeometryPolicy = "fail"
    store: Path | None = None


class VariantCallbacks(TrainingCallbacks):
    """Receives the steps of the experiment, in addition to the reports of training."""

    def on_variants(self, variants: Sequence[Variant], folds: Sequence[int], config: TrainingConfig) -> None:
        """All checks passed; these variants will be trained, fold by fold."""

    def on_variant_start(self, variant: Variant, fold: int) -> None:
        """Training of an unfinished variant in a fold starts."""

    def on_variant_end(self, variant: Variant, fold: int, dice: float, trained: bool) -> None:
        """A variant finished in a fold, with its mean Dice; `trained` is False when it was already finished."""


_DEFAULTS = VariantOptions()
_SILENT = VariantCallbacks()


def compare_variants(
    dataset: Dataset,
    output: Path,
    options: VariantOptions = _DEFAULTS,
    *,
    callbacks: VariantCallbacks = _SILENT,
    cancelled: Event | None = None,
    runner: FoldRunner = train_in_turn,
) -> ModelComparison:
    """Train every variant in every selected fold, and compare them on the cases that their folds held out.

    Repeating the call resumes an interrupted comparison, and may add variants.

    Args:
        dataset: the labelled cases.
        output: folder of the comparison: a model folder per variant, report.html and summary.json.
        options: variants, plan, settings, folds and device.
        callbacks: receive the progress.
        cancelled: an event that stops the experiment like Ctrl-C.
        runner: trains the folds of the variants, here or on other machines.
    Returns:
        Scores, costs and differences of the variants; written to `output`, too.
    Raises:
        CancelledError: when `cancelled` was set; otherwise as `train_variants` and `compare_runs`.
    """
    train_variants(dataset, output, options, callbacks=callbacks, cancelled=cancelled, runner=runner)
    comparison = compare_runs(
        {name: output / name for name in options.variants},
        output,
        device=options.device,
        descriptions=VARIANTS,
        progress=callbacks.on_evaluation,
        cancelled=cancelled,
    )
    write_comparison(comparison, output)
    return comparison


def train_variants(
    dataset: Dataset,
    output: Path,
    options: VariantOptions = _DEFAULTS,
    *,
    callbacks: VariantCallbacks = _SILENT,
    cancelled: Event | None = None,
    runner: FoldRunner = train_in_turn,
) -> None:
    """Train unfinished variants fold by fold, so that an interrupted experiment has complete folds to compare.

    Args:
        dataset: the labelled cases.
        output: folder of the comparison; each variant is a model folder in it.
        options: variants, plan, settings, folds and device.
        callbacks: receive the progress.
        cancelled: an event that stops training like Ctrl-C.
        runner: trains the folds of the variants, here or on other machines.
    Raises:
        ConfigError: when the folder was started with another plan or other settings, or is a model folder itself.
        DatasetError: when the data set has changed since, or has too few cases to hold any out.
        CancelledError: when `cancelled` was set; otherwise as `fit`.
    """
    config = settle_precision(_as_started(output, options.config), training_device(options.device))
    config = config.model_copy(update={"int8": False})  # variants are compared in one precision, with the whole budget
    _check_settings(output, config)
    planned = plan_for_training(options.plan, options.config, device=options.device, geometry=options.geometry)
    plan = resolve_plan(dataset, output, planned, resume=True, callbacks=callbacks, cancelled=cancelled)
    _check_plan(output, plan)
    variants = make_variants(parse_variants(",".join(options.variants)), plan, config)
    folds = select_folds(dataset, config, output / variants[0].name, options.folds)
    for variant in variants:
        _check_training(output / variant.name, variant)
        _check_cases(output / variant.name, dataset, config, folds)
        check_start(variant.plan, variant.config)
    save_plan(plan, output)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(output / "training.yaml", settings)
    callbacks.on_variants(variants, folds, config)
    jobs = [
        FoldJob(
            dataset=dataset,
            plan=variant.plan,
            config=variant.config,
            run=output / variant.name,
            fold=fold,
            device=options.device,
            resume=True,
            geometry=options.geometry,
            store=options.store,
        )
        for fold in folds
        for variant in variants
    ]
    _train(jobs, {output / variant.name: variant for variant in variants}, runner, callbacks, cancelled)


def _train(
    jobs: Sequence[FoldJob],
    variants: Mapping[Path, Variant],
    runner: FoldRunner,
    callbacks: VariantCallbacks,
    cancelled: Event | None,
) -> None:
    """Train what is unfinished, and report all."""

    def start(job: FoldJob) -> None:
        callbacks.on_variant_start(variants[job.run], job.fold)
        callbacks.on_fold_start(job.fold, job.run)

    def end(job: FoldJob, result: FoldResult) -> None:
        callbacks.on_fold_end(result)
        report(job, result)

    def report(job: FoldJob, result: FoldResult) -> None:
        callbacks.on_variant_end(variants[job.run], job.fold, result.summary.foreground_mean(), result.trained)

    unfinished = []
    for job in jobs:
        if (result := finished_fold(job.run, job.fold, job.paths)) is None:
            unfinished.append(job)
        else:
            report(job, result)
    runner(unfinished, callbacks=callbacks, cancelled=cancelled, on_start=start, on_end=end)


def _check_settings(output: Path, config: TrainingConfig) -> None:
    """Check that the comparison uses one recipe and one budget."""
    if any(output.glob("fold_*")):
        raise ConfigError(f"{output} is a model folder itself", hint="choose another -o for the comparison")
    if config.devices * config.nodes > 1:
        raise ConfigError("a comparison trains on one device", hint="set devices and nodes to 1 in the recipe")
    written = output / "training.yaml"
    if written.exists() and (
        changed := changed_settings(load_settings(TrainingConfig, written), config, may_change=_WITHOUT_EFFECT)
    ):
        raise ConfigError(f"{output} was started with another {changed}", hint="choose another -o")


def _as_started(output: Path, config: TrainingConfig) -> TrainingConfig:
    """The recipe with the precision in which an earlier call trained, instead of auto."""
    written = output / "training.yaml"
    if config.precision != "auto" or not written.exists():
        return config
    return config.model_copy(update={"precision": load_settings(TrainingConfig, written).precision})


def _check_plan(output: Path, plan: Plan) -> None:
    written = output / "plan.json"
    if written.exists() and load_settings(Plan, written) != plan:
        raise ConfigError(f"{output} was started with another plan", hint="leave out --plan, or choose another -o")


def _check_training(run: Path, variant: Variant) -> None:
    if not any_started(run):
        return
    same_plan = load_settings(Plan, run / "plan.json") == variant.plan
    changed = _changed(run / "training.yaml", variant.config)
    if changed or not same_plan:
        raise ConfigError(
            f"{run} was trained with another {changed or 'plan'}, so it cannot be part of this comparison",
            hint="choose another -o, or compare finished runs: attunet compare RUN_A RUN_B",
        )


def _changed(written: Path, config: TrainingConfig) -> str:
    return changed_settings(load_settings(TrainingConfig, written), config, may_change=_WITHOUT_EFFECT)


def _check_cases(run: Path, dataset: Dataset, config: TrainingConfig, folds: Sequence[int]) -> None:
    """Check that a variant that is added later trains on the same cases, and that some cases are held out."""
    groups = assign_groups(dataset, config.group_by)
    settled = run_folds(groups, config, run)
    cases = {case.id for case in groups.labelled if case.split != "test"}
    if other := cases.symmetric_difference(settled[0].train + settled[0].validation):
        raise DatasetError(
            f"the data set has changed since {run} was started: {', '.join(sorted(other)[:5])}",
            hint="restore it, or choose another -o",
        )
    for fold in folds:
        if set(settled[fold].train) & set(settled[fold].validation):
            raise DatasetError(
                "the data set has too few cases to hold some out, so nothing could be evaluated", hint="add cases"
            )
