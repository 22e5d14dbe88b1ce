"""Runs judged on the cases that none of their folds concerned has seen, and compared pair by pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from attunet.bundle import HeldOutCase, check_agreement, finished_folds, fold_folder, held_out_cases, load_bundle
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.folds import Split
from attunet.errors import AttunetError, ConfigError
from attunet.evaluation.comparison import ComparedModel, ModelComparison
from attunet.evaluation.comparison_file import comparison_to_json
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import summarize
from attunet.files import write_text
from attunet.planning.layers import count_flops, count_parameters
from attunet.report.comparison import write_comparison_report
from attunet.report.training import read_history
from attunet.selection.comparison import check_datasets
from attunet.selection.verdicts import CaseVerdict, Judge

__all__ = ["compare_runs", "shared_cases", "write_comparison"]

Advance = Callable[[int, int], None]
Shared = dict[str, HeldOutCase]
"""Run to one case as its fold knows it."""


def compare_runs(
    runs: Mapping[str, Path],
    folder: Path,
    *,
    device: str = "auto",
    folds: Collection[int] | None = None,
    descriptions: Mapping[str, str] | None = None,
    advance: Advance = lambda _done, _total: None,
) -> ModelComparison:
    """Let every fold segment cases it has not seen, as the networks are, and compare the first run with each other one.

    Args: the runs by name; where verdicts are kept, so that a second call predicts nothing again; the device; folds to
        leave it at (all that all have finished, by default); what is different about each run; called with the
        predictions done and in all.
    Raises: ConfigError when the runs differ in task or data set, or have no case in common; BundleError for what is no
        finished run; DatasetError, DataError and their kinds for cases that are gone or cannot be read.
    """
    plans = {name: load_bundle(run).plan for name, run in runs.items()}
    check_agreement(plans)
    shared = shared_cases(runs, folds)
    judges = {name: Judge(run, plans[name], folder / "judged" / name, device) for name, run in runs.items()}
    verdicts: dict[str, list[CaseVerdict]] = {name: [] for name in runs}
    for done, unseen in enumerate(shared):
        for place, (name, judge) in enumerate(judges.items()):
            verdicts[name].append(judge.judge(unseen[name]))
            advance(done * len(runs) + place + 1, len(shared) * len(runs))
    used = {name: tuple(sorted({unseen[name].fold for unseen in shared})) for name in runs}
    told = descriptions or {}
    models = tuple(
        _compared_model(name, told.get(name, ""), run, plans[name], used[name], verdicts[name])
        for name, run in runs.items()
    )
    first = next(iter(runs))
    return ModelComparison(plans[first].name, used[first], models, _notes(runs, used, models))


def shared_cases(runs: Mapping[str, Path], folds: Collection[int] | None = None) -> tuple[Shared, ...]:
    """The cases that a finished fold of every run has not seen, as each run knows them, fold by fold of the first.

    Raises: ConfigError when the data sets differ or there is no such case; otherwise as `unseen_cases`.
    """
    check_datasets({name: Split.read(fold_folder(run, finished_folds(run)[0])).dataset for name, run in runs.items()})
    known = {
        name: {unseen.case.id: unseen for unseen in held_out_cases(run)[0] if folds is None or unseen.fold in folds}
        for name, run in runs.items()
    }
    first = next(iter(known.values()))
    shared = [case for case in first if all(case in cases for cases in known.values())]
    if not shared:
        told = "; ".join(f"{name} has folds {_listed(finished_folds(run))}" for name, run in runs.items())
        raise ConfigError(
            f"there is no case that all runs can be judged on: {told}", hint="train the same fold of each run"
        )
    return tuple({name: cases[case] for name, cases in known.items()} for case in shared)


def write_comparison(comparison: ModelComparison, folder: Path) -> None:
    """Write report.html, its figures, and summary.json into a folder. Raises: FormatError when it cannot be written."""
    write_comparison_report(folder / "report.html", comparison)
    text = json.dumps(comparison_to_json(comparison), indent=2, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")


def _compared_model(
    name: str, description: str, run: Path, plan: Plan, folds: Sequence[int], verdicts: Sequence[CaseVerdict]
) -> ComparedModel:
    logs = {fold: rows[-1] for fold in folds if (rows := _history(fold_folder(run, fold)))}
    network = plan.network
    return ComparedModel(
        name=name,
        description=description,
        gate=network.gate if network.gate_widths else None,
        summary=summarize([verdict.scores for verdict in verdicts], scored_labels(plan)),
        seconds={verdict.scores.case: verdict.seconds for verdict in verdicts},
        engine=", ".join(dict.fromkeys(verdict.engine for verdict in verdicts)),
        parameters=count_parameters(network),
        flops=count_flops(network, plan.patch_size),
        patch=plan.patch_size[: network.spatial_dims],
        budget=_budget(run),
        steps={fold: int(row["step"]) for fold, row in logs.items()},
        minutes={fold: row["minutes"] for fold, row in logs.items()},
    )


def _history(folder: Path) -> list[dict[str, float]]:
    """The rows of a fold's log; none where it was copied without."""
    log = folder / "log.csv"
    return read_history(log) if log.is_file() else []


def _budget(run: Path) -> str:
    """What each fold was given; empty where the run does not tell."""
    try:
        config = load_settings(TrainingConfig, run / "training.yaml")
    except AttunetError:
        return ""
    if config.max_time:
        return f"{config.max_time / 60:g} min a fold"
    return f"{config.epochs} epochs of {config.steps_per_epoch} steps a fold"


def _notes(
    runs: Mapping[str, Path], used: Mapping[str, Sequence[int]], models: Sequence[ComparedModel]
) -> tuple[str, ...]:
    """What a reader must know about how these runs were trained."""
    notes = []
    budgets = {model.name: model.budget for model in models}
    known = next(iter(budgets.values()))
    if len(set(budgets.values())) > 1:
        told = "; ".join(f"{name}: {budget or 'unknown'}" for name, budget in budgets.items())
        notes.append(f"The runs had different budgets, which is a difference in itself: {told}.")
    elif "min" in known:
        notes.append(f"Bounded by time, {known}: a cheaper network makes more steps; the table says how many.")
    elif known:
        notes.append(f"Bounded by steps, {known}, the same for all; what they cost in time is in the table.")
    if not _same_folds(runs, used):
        notes.append("The runs were trained on different folds: some of a difference may come from that.")
    return tuple(notes)


def _same_folds(runs: Mapping[str, Path], used: Mapping[str, Sequence[int]]) -> bool:
    splits = [
        {fold: set(Split.read(fold_folder(run, fold)).train) for fold in used[name]} for name, run in runs.items()
    ]
    return all(split == splits[0] for split in splits)


def _listed(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))
