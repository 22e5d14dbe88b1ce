"""Runs evaluated on the cases held out of all of them, and compared pair by pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from threading import Event

from attunet.bundle import HeldOutCase, check_agreement, finished_folds, fold_folder, held_out_cases, load_bundle
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.folds import Split
from attunet.errors import AttunetError, ConfigError
from attunet.evaluation.comparison import ComparedModel, ModelComparison
from attunet.evaluation.comparison_file import comparison_to_json
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import summarize
from attunet.failures import Failures
from attunet.files import write_text
from attunet.planning.layers import count_flops, count_parameters
from attunet.report.comparison import write_comparison_report
from attunet.report.training import read_history
from attunet.selection.held_out import evaluate_held_out
from attunet.selection.held_out_cache import HeldOutCache, HeldOutResult

__all__ = ["common_folds", "compare_runs", "shared_cases", "write_comparison"]

Progress = Callable[[int, int], None]
Shared = dict[str, HeldOutCase]
"""The same case in each run, by run name."""


def compare_runs(
    runs: Mapping[str, Path],
    folder: Path,
    *,
    device: str = "auto",
    folds: Collection[int] | None = None,
    descriptions: Mapping[str, str] | None = None,
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
) -> ModelComparison:
    """Let every fold segment its held-out cases, without post-processing, and compare the first run with each other.

    Args:
        runs: at least two model folders by name.
        folder: folder for the results of cases, so that a second call does not predict them again.
        device: auto, cpu or cuda.
        folds: the folds to evaluate; None for all that all runs have finished.
        descriptions: run name to a description of its difference.
        progress: called with the number of finished predictions and of all predictions.
        cancelled: an event that ends the call; the next call reuses finished results.
    Returns: scores, differences and conclusions.
    Raises: ConfigError when the runs differ in task or data set, or have no case in common; BundleError for a folder
        that is not a finished run; DatasetError, DataError and their subclasses for cases that are missing or cannot be
        read; CancelledError once `cancelled` is set.
    """
    plans = {name: load_bundle(run).plan for name, run in runs.items()}
    check_agreement(plans)
    shared = shared_cases(runs, folds)
    failures = Failures()
    evaluations = {
        name: evaluate_held_out(
            run,
            [cases[name] for cases in shared],
            _cache(folder, name),
            device=device,
            cancelled=cancelled,
            failures=failures,
        )
        for name, run in runs.items()
    }
    results: dict[str, list[HeldOutResult]] = {name: [] for name in runs}
    done, total = 0, len(shared) * len(runs)
    for row in zip_longest(*evaluations.values()):
        for name, result in zip(runs, row, strict=True):
            results[name] += [] if result is None else [result]
            done += 1
            progress(done, total)
    kept = set.intersection(*({each.case.case.id for each in entries} for entries in results.values()))
    failures.raise_if_all(len(kept))
    results = {name: [each for each in entries if each.case.case.id in kept] for name, entries in results.items()}
    shared = tuple(cases for cases in shared if next(iter(cases.values())).case.id in kept)
    used = {name: tuple(sorted({cases[name].fold for cases in shared})) for name in runs}
    models = tuple(
        _compared_model(name, (descriptions or {}).get(name, ""), run, plans[name], results[name])
        for name, run in runs.items()
    )
    first = next(iter(runs))
    left_out = tuple(f"{case} is in no score: {reason}" for case, reason in failures.messages.items())
    return ModelComparison(plans[first].name, used[first], models, (*left_out, *_notes(runs, used, models)))


def shared_cases(runs: Mapping[str, Path], folds: Collection[int] | None = None) -> tuple[Shared, ...]:
    """The cases held out of a finished fold of every run, as recorded in each run, in the first run's order of folds.

    Raises: ConfigError when the data sets differ or there is no such case; otherwise as `held_out_cases`.
    """
    _check_datasets({name: Split.read(fold_folder(run, finished_folds(run)[0])).dataset for name, run in runs.items()})
    known = {
        name: {entry.case.id: entry for entry in held_out_cases(run)[0] if folds is None or entry.fold in folds}
        for name, run in runs.items()
    }
    first = next(iter(known.values()))
    shared = [case for case in first if all(case in cases for cases in known.values())]
    if not shared:
        finished = "; ".join(f"{name} has folds {_listed(finished_folds(run))}" for name, run in runs.items())
        raise ConfigError(f"no case is held out of all runs: {finished}", hint="train the same fold of each run")
    return tuple({name: cases[case] for name, cases in known.items()} for case in shared)


def common_folds(runs: Mapping[str, Path]) -> tuple[int, ...]:
    """The folds that all runs, given by name, have finished with the same held-out cases of the same data set.

    Raises: ConfigError when there is none or the held-out cases differ, FormatError when the cases of a fold are not
        recorded.
    """
    finished = {name: set(finished_folds(run)) for name, run in runs.items()}
    shared = sorted(set.intersection(*finished.values()))
    if not shared:
        listed = "; ".join(f"{name} has {_listed(sorted(folds))}" for name, folds in finished.items())
        raise ConfigError(f"the runs have no finished fold in common: {listed}", hint="train the same fold of each")
    for fold in shared:
        _check_fold(runs, fold)
    return tuple(shared)


def write_comparison(comparison: ModelComparison, folder: Path) -> None:
    """Write report.html, its figures, and summary.json into a folder. Raises: FormatError when it cannot be written."""
    write_comparison_report(folder / "report.html", comparison)
    text = json.dumps(comparison_to_json(comparison), indent=2, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")


def _cache(folder: Path, name: str) -> HeldOutCache:
    """Earlier versions stored the same records in `judged`."""
    return HeldOutCache(records=folder / "held_out" / name, earlier=folder / "judged" / name)


def _check_datasets(datasets: Mapping[str, Path]) -> None:
    """Raises: ConfigError unless all runs, by name, were trained on a data set at the same path."""
    first, *others = datasets
    for name in others:
        if datasets[name].resolve() != datasets[first].resolve():
            raise ConfigError(
                f"{first} and {name} were trained on different data sets: {datasets[first]} and {datasets[name]}",
                hint="only runs of one data set can be compared",
            )


def _check_fold(runs: Mapping[str, Path], fold: int) -> None:
    splits = {name: Split.read(fold_folder(run, fold)) for name, run in runs.items()}
    first, *others = splits
    for name, split in splits.items():
        if not split.held_out:
            raise ConfigError(
                f"fold {fold} of {name} was validated on its own training cases, so its scores mean nothing",
                hint="train with more cases",
            )
    _check_datasets({name: split.dataset for name, split in splits.items()})
    for name in others:
        if set(splits[name].validation) != set(splits[first].validation):
            apart = sorted(set(splits[name].validation) ^ set(splits[first].validation))
            raise ConfigError(
                f"{first} and {name} validated fold {fold} on different cases, such as {', '.join(apart[:3])}",
                hint="train them with the same folds, seed and groups",
            )


def _compared_model(
    name: str, description: str, run: Path, plan: Plan, results: Sequence[HeldOutResult]
) -> ComparedModel:
    folds = sorted({result.case.fold for result in results})
    logs = {fold: rows[-1] for fold in folds if (rows := _history(fold_folder(run, fold)))}
    network = plan.network
    return ComparedModel(
        name=name,
        description=description,
        gate=network.gate if network.gate_widths else None,
        summary=summarize([result.scores for result in results], scored_labels(plan)),
        seconds={result.scores.case: result.seconds for result in results},
        engine=", ".join(dict.fromkeys(result.engine for result in results)),
        parameters=count_parameters(network),
        flops=count_flops(network, plan.patch_size),
        patch=plan.patch_size[: network.spatial_dims],
        budget=_budget(run),
        steps={fold: int(row["step"]) for fold, row in logs.items()},
        minutes={fold: row["minutes"] for fold, row in logs.items()},
    )


def _history(folder: Path) -> list[dict[str, float]]:
    """The rows of a fold's log; empty if the fold was copied without it."""
    log = folder / "log.csv"
    return read_history(log) if log.is_file() else []


def _budget(run: Path) -> str:
    """The training budget of each fold; empty if the run does not record it."""
    try:
        config = load_settings(TrainingConfig, run / "training.yaml")
    except AttunetError:
        return ""
    if config.max_time:
        return f"{config.max_time / 60:g} min per fold"
    return f"{config.epochs} epochs of {config.steps_per_epoch} steps per fold"


def _notes(
    runs: Mapping[str, Path], used: Mapping[str, Sequence[int]], models: Sequence[ComparedModel]
) -> tuple[str, ...]:
    """Notes on differences in how these runs were trained."""
    notes = []
    budgets = {model.name: model.budget for model in models}
    known = next(iter(budgets.values()))
    if len(set(budgets.values())) > 1:
        listed = "; ".join(f"{name}: {budget or 'unknown'}" for name, budget in budgets.items())
        notes.append(f"The runs had different training budgets, which may explain some of a difference: {listed}.")
    elif "min" in known:
        notes.append(f"Training was limited by time, {known}: a cheaper network takes more steps; see the table.")
    elif known:
        notes.append(f"Training was limited by steps, {known}, the same for all; the table shows the time they took.")
    if not _same_folds(runs, used):
        notes.append("The runs were trained on different folds, which may explain some of a difference.")
    return tuple(notes)


def _same_folds(runs: Mapping[str, Path], used: Mapping[str, Sequence[int]]) -> bool:
    splits = [
        {fold: set(Split.read(fold_folder(run, fold)).train) for fold in used[name]} for name, run in runs.items()
    ]
    return all(split == splits[0] for split in splits)


def _listed(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))
