"""The trainings of `attunet compare`: variants of one plan, alike in all else, fold by fold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.cli.console import notes
from attunet.cli.options import Geometry
from attunet.cli.training_run import choose_plan, train_fold, wanted_folds
from attunet.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from attunet.config import Plan, TrainingConfig
    from attunet.data.cases import Dataset
    from attunet.planning.options import PlanOptions
    from attunet.planning.variants import Variant

__all__ = ["Request", "train_variants"]

_AGAIN = "the same command; folds that all variants have finished are judged by: attunet compare {runs} -o {folder}"


@dataclass(frozen=True)
class Request:
    """What is to be compared: the data, names of the variants, the recipe of all, the folder, folds, how to compute."""

    source: Dataset
    names: tuple[str, ...]
    config: TrainingConfig
    output: Path
    fold: str
    device: str
    geometry: Geometry
    store: Path | None


def train_variants(request: Request, plan: Path | None, options: PlanOptions, labels: str | None) -> None:
    """Train every variant of every fold that is not finished: fold by fold, so that a stop leaves whole comparisons.

    Args: the request; the plan to vary, or what to make one with.
    Raises: ConfigError and DatasetError for what cannot be compared, before anything is trained; as `fit`.
    """
    from attunet.planning.variants import make_variants
    from attunet.training.start import check_start

    _refuse_other_settings(request)
    base = choose_plan(request.output, plan, True, request.source, options, labels)
    _refuse_other_plan(request.output, base)
    variants = make_variants(request.names, base, request.config)
    folds = wanted_folds(request.fold, request.source, request.config, request.output / variants[0].name)
    for variant in variants:
        _refuse_other_training(request, variant)
        _refuse_other_cases(request, variant, folds)
        check_start(variant.plan, variant.config)
    _settle(request, base)
    _tell(request, variants, folds)
    for fold in folds:
        for variant in variants:
            _train(request, variant, fold)


def _train(request: Request, variant: Variant, fold: int) -> None:
    from attunet.bundle import fold_folder
    from attunet.training.finish import finished_fold
    from attunet.training.run_folder import FoldPaths

    run = request.output / variant.name
    result = finished_fold(run, fold, FoldPaths(fold_folder(run, fold)))
    if result is None:
        notes().print(f"[bold]fold {fold}, {variant.name}[/bold]: {variant.description}", highlight=False)
        result = train_fold(
            request.source,
            variant.plan,
            variant.config,
            run,
            fold,
            device=request.device,
            resume=True,
            geometry=request.geometry,
            store=request.store,
            again=_again(request),
        )
    dice = result.summary.foreground_mean()
    done = "" if result.trained else " (finished before)"
    notes().print(f"fold {fold}, {variant.name}: mean Dice {dice:.4f}{done}", markup=False, highlight=False)


def _again(request: Request) -> str:
    runs = " ".join(str(request.output / name) for name in request.names)
    return _AGAIN.format(runs=runs, folder=request.output)


def _settle(request: Request, base: Plan) -> None:
    """Write what this comparison is of, so that the same command again, or with more variants, is of the same."""
    import yaml

    from attunet.bundle import save_plan
    from attunet.files import write_text

    save_plan(base, request.output)
    text = yaml.safe_dump(request.config.model_dump(mode="json"), sort_keys=False)
    write_text(request.output / "training.yaml", text)


def _tell(request: Request, variants: tuple[Variant, ...], folds: list[int]) -> None:
    from attunet.planning.layers import count_parameters

    weights = ", ".join(f"{each.name} {count_parameters(each.plan.network):,}" for each in variants)
    many = f"{len(variants)} variants, {len(folds)} fold{'s' * (len(folds) != 1)}"
    notes().print(f"{many}; weights: {weights}", markup=False, highlight=False, soft_wrap=True)
    if request.config.max_time:
        minutes = len(variants) * len(folds) * request.config.max_time / 60
        notes().print(f"training takes {minutes:.0f} min, less for what is finished", markup=False, highlight=False)


def _refuse_other_settings(request: Request) -> None:
    """One comparison has one recipe and one budget."""
    from attunet.config import TrainingConfig, load_settings

    if any(request.output.glob("fold_*")):
        raise ConfigError(f"{request.output} is a model folder itself", hint="choose another -o for the comparison")
    if request.config.devices * request.config.nodes > 1:
        raise ConfigError("a comparison trains on one device", hint="set devices and nodes to 1 in the recipe")
    written = request.output / "training.yaml"
    if written.exists() and (changed := _changed(load_settings(TrainingConfig, written), request.config)):
        raise ConfigError(f"{request.output} was begun with another {changed}", hint="choose another -o")


def _refuse_other_plan(output: Path, plan: Plan) -> None:
    from attunet.config import Plan, load_settings

    written = output / "plan.json"
    if written.exists() and load_settings(Plan, written) != plan:
        raise ConfigError(f"{output} was begun with another plan", hint="leave out --plan, or choose another -o")


def _refuse_other_training(request: Request, variant: Variant) -> None:
    from attunet.config import Plan, TrainingConfig, load_settings
    from attunet.training.run_folder import any_started

    run = request.output / variant.name
    if not any_started(run):
        return
    same_plan = load_settings(Plan, run / "plan.json") == variant.plan
    changed = _changed(load_settings(TrainingConfig, run / "training.yaml"), variant.config)
    if changed or not same_plan:
        raise ConfigError(
            f"{run} was trained with another {changed or 'plan'}, so it cannot be part of this comparison",
            hint="choose another -o, or compare finished runs: attunet compare RUN_A RUN_B",
        )


def _changed(before: TrainingConfig, now: TrainingConfig) -> str:
    """The settings that differ and matter, in words; empty when none does."""
    fields = [name for name in type(now).model_fields if name not in ("workers", "loggers")]
    differing = [name for name in fields if getattr(before, name) != getattr(now, name)]
    return ", ".join(f"{name} ({getattr(before, name)}, not {getattr(now, name)})" for name in differing)


def _refuse_other_cases(request: Request, variant: Variant, folds: list[int]) -> None:
    """A variant that joins later must see the cases that the first ones saw; and there must be unseen ones."""
    from attunet.data.folds import assign_groups
    from attunet.training.run_folder import run_folds

    run, source = request.output / variant.name, assign_groups(request.source, request.config.group_by)
    settled = run_folds(source, request.config, run)
    cases = {case.id for case in source.labelled if case.split != "test"}
    if other := cases.symmetric_difference(settled[0].train + settled[0].validation):
        raise DatasetError(
            f"the data set has changed since {run} was begun: {', '.join(sorted(other)[:5])}",
            hint="restore it, or choose another -o",
        )
    for fold in folds:
        if set(settled[fold].train) & set(settled[fold].validation):
            raise DatasetError(
                "the data set has too few cases to keep some unseen, so nothing could be judged", hint="add cases"
            )
