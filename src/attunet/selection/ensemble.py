"""Select the best run or ensemble by cross-validated Dice, and write it as a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from pathlib import Path
from threading import Event
from typing import Any

from attunet.bundle import copy_run, load_bundle, save_ensemble, save_postprocessing
from attunet.claims import claimed
from attunet.config import Postprocessing, QualityCalibration
from attunet.errors import ConfigError
from attunet.failures import Failures
from attunet.files import refuse_existing, staged, write_text
from attunet.inference.intervals import DICE_INTERVAL, VOLUME_INTERVAL
from attunet.selection.candidates import CandidateRunner, EnsembleCandidate, evaluate_candidates, evaluate_in_turn
from attunet.selection.comparison import common_folds
from attunet.selection.intervals import calibrate_dice
from attunet.selection.quality import fit_quality

__all__ = ["SLACK", "Selection", "choose", "name_runs", "select", "write_selection"]

SLACK = 0.001
"""The Dice by which a larger ensemble must exceed a smaller one to be chosen."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The candidates and the chosen one.

    Args:
        runs: model folders by name.
        folds: the folds compared.
        candidates: every run and ensemble that was evaluated, single runs first.
        chosen: the chosen candidate.
        quality: how well its expected Dice predicts the measured one; None when there are too few cases.
        agreement: how well the agreement of its members predicts it; None also for a single member.
        failed: cases that could not be used, and why; they count for no candidate.
    """

    runs: Mapping[str, Path]
    folds: tuple[int, ...]
    candidates: tuple[EnsembleCandidate, ...]
    chosen: EnsembleCandidate
    quality: QualityCalibration | None
    agreement: QualityCalibration | None
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def conclusion(self) -> str:
        """The chosen candidate and the reason, in one sentence."""
        best = max(self.candidates, key=lambda candidate: candidate.mean_dice)
        what = f"{self.chosen.name} has a cross-validated Dice of {self.chosen.mean_dice:.4f}"
        if best.members == self.chosen.members:
            others = [candidate for candidate in self.candidates if candidate.members != best.members]
            second = max(others, key=lambda candidate: candidate.mean_dice)
            return f"{what}, the best of {len(self.candidates)}; next is {second.name} with {second.mean_dice:.4f}."
        return f"{what}, within {SLACK} of the best ({best.name}, {best.mean_dice:.4f}) with fewer members."


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Runs by the name of their folder, numbered if two names are the same.

    Raises: ConfigError for fewer than two different folders.
    """
    different = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(different) < 2:
        raise ConfigError(f"got {len(different)} run, expected two or more to choose from", hint="pass another RUN")
    named: dict[str, Path] = {}
    for folder in different:
        name, number = folder.name, 2
        while name in named:
            name, number = f"{folder.name}_{number}", number + 1
        named[name] = folder
    return named


def select(
    runs: Mapping[str, Path],
    output: Path | None = None,
    *,
    device: str = "auto",
    keep_cases: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    cancelled: Event | None = None,
    runner: CandidateRunner = evaluate_in_turn,
) -> Selection:
    """Evaluate runs and their ensembles on held-out cases, choose the best, and write it as a model.

    Args:
        runs: at least two model folders by name (see `name_runs`).
        output: the model folder to write; None to write nothing (see `write_selection`). Temporary files for large
            probabilities are next to it.
        device: auto, cpu or cuda.
        keep_cases: see `write_selection`.
        progress: called with the number of finished cases and of all cases.
        cancelled: an event that ends the call.
        runner: evaluates the folds, here or on other machines.
    Returns: every candidate with its scores, and the chosen one.
    Raises: as `evaluate_candidates`; BusyError when another program writes `output`; ConfigError when it exists
        already, before anything is computed.
    """
    if output is None:
        return _select(runs, device=device, progress=progress, cancelled=cancelled, runner=runner)
    refuse_existing(output)
    with claimed(output, "attunet select"):
        scratch = output.resolve().parent
        selection = _select(runs, device=device, scratch=scratch, progress=progress, cancelled=cancelled, runner=runner)
        write_selection(selection, output, keep_cases=keep_cases)
    return selection


def _select(
    runs: Mapping[str, Path],
    *,
    device: str,
    scratch: Path | None = None,
    progress: Callable[[int, int], None],
    cancelled: Event | None,
    runner: CandidateRunner,
) -> Selection:
    """As `select`, without writing."""
    failures = Failures()
    candidates = evaluate_candidates(
        runs,
        device=device,
        scratch=scratch,
        progress=progress,
        cancelled=cancelled,
        failures=failures,
        runner=runner,
    )
    chosen = choose(candidates)
    scores = chosen.scores.values()
    measured = [score.mean_dice for score in scores]
    quality = fit_quality([score.expected for score in scores], measured)
    agreement = fit_quality([score.agreement for score in scores], measured)
    return Selection(
        runs=runs,
        folds=common_folds(runs),
        candidates=candidates,
        chosen=chosen,
        quality=quality,
        agreement=agreement,
        failed=failures.messages,
    )


def choose(candidates: Sequence[EnsembleCandidate]) -> EnsembleCandidate:
    """Choose, among the candidates within `SLACK` of the best mean Dice, the best one with the fewest members.

    Raises: ConfigError when no case has a label.
    """
    known = [candidate for candidate in candidates if not isnan(candidate.mean_dice)]
    if not known:
        raise ConfigError(
            "no validation case has a label, so the runs cannot be ranked", hint="train with labelled cases"
        )
    best = max(candidate.mean_dice for candidate in known)
    close = [candidate for candidate in known if candidate.mean_dice >= best - SLACK]
    return min(close, key=lambda candidate: (len(candidate.members), -candidate.mean_dice))


def write_selection(selection: Selection, output: Path, *, keep_cases: bool = False) -> None:
    """Write the chosen model as a new folder with selection.json; all files are copied, so the runs may be deleted.

    A single run is copied with the results of its own cross-validation if it has any. The folder appears whole or not
    at all.

    Args:
        selection: the chosen model.
        output: the folder to write.
        keep_cases: whether it keeps the names of the cases and the paths of runs and data sets (see `copy_run`).
    Raises: ConfigError when the folder exists already.
    """
    refuse_existing(output)
    postprocessing = _learnt(selection)
    put = partial(copy_run, keep_cases=keep_cases)
    with staged(output) as stage:
        members = {name: selection.runs[name] for name in selection.chosen.members}
        if len(members) > 1:
            save_ensemble(members, postprocessing, stage, put=put)
        else:
            (run,) = members.values()
            put(run, stage)
            own = load_bundle(run).postprocessing
            alone = own.quality is None and own.evidence is not None and len(own.evidence.folds) == 1
            if alone or own.model_copy(update={"attention_agreement": None}) == Postprocessing():
                more = {
                    name: getattr(postprocessing, name) for name in ("quality", "dice_interval", "volume_intervals")
                }
                reasons = {**postprocessing.reasons, **own.reasons}  # what a single fold decided stays
                save_postprocessing(own.model_copy(update={**more, "reasons": reasons}), stage)
        content = json.dumps(_record(selection, keep_cases=keep_cases), indent=2)
        write_text(stage / "selection.json", content + "\n")


def _learnt(selection: Selection) -> Postprocessing:
    """What the chosen candidate's held-out cases tell about its predicted Dice; their volumes were not kept."""
    scores = selection.chosen.scores.values()
    pairs = [score.expected for score in scores], [score.mean_dice for score in scores]
    of_dice = calibrate_dice(*pairs, [0] * len(scores), selection.quality)
    labels = load_bundle(selection.runs[selection.chosen.members[0]]).plan.foreground
    volumes = {f"{VOLUME_INTERVAL}{label}": "none: select compares Dice, not volumes" for label in labels}
    return Postprocessing(
        quality=selection.quality,
        dice_interval=of_dice.calibration,
        reasons={"members": selection.conclusion, DICE_INTERVAL: of_dice.reason, **volumes},
    )


def _record(selection: Selection, *, keep_cases: bool) -> dict[str, Any]:
    cases = selection.chosen.scores.items()
    return {
        "chosen": list(selection.chosen.members),
        "reason": selection.conclusion,
        "runs": {name: str(run) for name, run in selection.runs.items()} if keep_cases else list(selection.runs),
        "folds": list(selection.folds),
        "candidates": [_row(candidate) for candidate in selection.candidates],
        "expected_dice": selection.quality and selection.quality.model_dump(),
        "agreement": selection.agreement and selection.agreement.model_dump(),
        "cases": {
            case if keep_cases else f"case_{number}": {
                "dice": _plain(score.mean_dice),
                "expected": _plain(score.expected),
                "agreement": _plain(score.agreement),
            }
            for number, (case, score) in enumerate(cases, start=1)
        },
    }


def _row(candidate: EnsembleCandidate) -> dict[str, Any]:
    return {
        "members": list(candidate.members),
        "dice": _plain(candidate.mean_dice),
        "ci95": [_plain(end) for end in candidate.interval],
        "seconds_per_case": round(candidate.seconds, 3),
    }


def _plain(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)
