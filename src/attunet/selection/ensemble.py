"""The best run or ensemble by cross-validated Dice, written as a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from attunet.bundle import copy_run, load_bundle, save_ensemble, save_postprocessing
from attunet.config import Postprocessing, QualityCalibration
from attunet.errors import ConfigError
from attunet.files import staged, write_text
from attunet.selection.candidates import EnsembleCandidate
from attunet.selection.comparison import common_folds, judge_runs
from attunet.selection.quality import fit_quality

__all__ = ["SLACK", "Selection", "choose", "name_runs", "select", "write_selection"]

SLACK = 0.001
"""A larger ensemble must be better than a smaller one by more than this Dice."""


@dataclass(frozen=True)
class Selection:
    """What was compared, and what was chosen.

    Args:
        runs: by name.
        folds: the folds compared; candidates: every run and ensemble judged, in the order of the table.
        chosen: one of them.
        quality: what its expected Dice is worth; agreement: what its members' agreement is worth for the same purpose.
            None when there are too few cases, or, for agreement, one member only.
    """

    runs: Mapping[str, Path]
    folds: tuple[int, ...]
    candidates: tuple[EnsembleCandidate, ...]
    chosen: EnsembleCandidate
    quality: QualityCalibration | None
    agreement: QualityCalibration | None

    @property
    def sentence(self) -> str:
        """What was chosen and why, in one sentence."""
        best = max(self.candidates, key=lambda candidate: candidate.mean_dice)
        what = f"{self.chosen.name} has a cross-validated Dice of {self.chosen.mean_dice:.4f}"
        if best.members == self.chosen.members:
            others = [candidate for candidate in self.candidates if candidate.members != best.members]
            second = max(others, key=lambda candidate: candidate.mean_dice)
            return f"{what}, the best of {len(self.candidates)}; next is {second.name} with {second.mean_dice:.4f}."
        return f"{what}, within {SLACK} of the best ({best.name}, {best.mean_dice:.4f}) with fewer members."


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Runs by the name of their folder, numbered where two are the same.

    Raises: ConfigError for fewer than two different folders.
    """
    different = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(different) < 2:
        raise ConfigError(f"got {len(different)} run, expected two or more to choose from", hint="name another RUN")
    named: dict[str, Path] = {}
    for folder in different:
        name, number = folder.name, 2
        while name in named:
            name, number = f"{folder.name}_{number}", number + 1
        named[name] = folder
    return named


def select(
    runs: Mapping[str, Path],
    *,
    device: str = "auto",
    scratch: Path | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> Selection:
    """Judge runs, given by name, and their ensembles on cases they have not seen, and choose.

    Args: a folder for probabilities that are too large for memory; called with the cases done and the cases in all.
    Raises: as `judge_runs`.
    """
    candidates = judge_runs(runs, device=device, scratch=scratch, advance=advance)
    chosen = choose(candidates)
    verdicts = chosen.verdicts.values()
    measured = [verdict.mean_dice for verdict in verdicts]
    quality = fit_quality([verdict.expected for verdict in verdicts], measured)
    agreement = fit_quality([verdict.agreement for verdict in verdicts], measured)
    return Selection(runs, common_folds(runs), candidates, chosen, quality, agreement)


def choose(candidates: Sequence[EnsembleCandidate]) -> EnsembleCandidate:
    """The best mean Dice; of those within `SLACK` of it, the best of those with the fewest members.

    Raises: ConfigError when no case held any label, so that nothing can be told.
    """
    known = [candidate for candidate in candidates if not isnan(candidate.mean_dice)]
    if not known:
        raise ConfigError("no validation case holds a label, so no run is better", hint="train with labelled cases")
    best = max(candidate.mean_dice for candidate in known)
    close = [candidate for candidate in known if candidate.mean_dice >= best - SLACK]
    return min(close, key=lambda candidate: (len(candidate.members), -candidate.mean_dice))


def write_selection(selection: Selection, output: Path) -> None:
    """Write the chosen model as a folder of its own, with selection.json: copies, so that the runs may go.

    A single run is written as it is, with what its own cross-validation taught, if it did. It appears whole or not
    at all.
    Raises: ConfigError when the folder is there already.
    """
    if output.exists():
        raise ConfigError(f"{output} is there already", hint="choose another -o, or remove it")
    reasons = {"members": selection.sentence}
    postprocessing = Postprocessing(quality=selection.quality, reasons=reasons)
    with staged(output) as stage:
        members = {name: selection.runs[name] for name in selection.chosen.members}
        if len(members) > 1:
            save_ensemble(members, postprocessing, stage)
        else:
            (run,) = members.values()
            copy_run(run, stage)
            if load_bundle(run).postprocessing.model_copy(update={"attention_agreement": None}) == Postprocessing():
                save_postprocessing(postprocessing, stage)
        write_text(stage / "selection.json", json.dumps(_record(selection), indent=2) + "\n")


def _record(selection: Selection) -> dict[str, Any]:
    return {
        "chosen": list(selection.chosen.members),
        "reason": selection.sentence,
        "runs": {name: str(run) for name, run in selection.runs.items()},
        "folds": list(selection.folds),
        "candidates": [_row(candidate) for candidate in selection.candidates],
        "expected_dice": selection.quality and selection.quality.model_dump(),
        "agreement": selection.agreement and selection.agreement.model_dump(),
        "cases": {
            case: {
                "dice": _plain(found.mean_dice),
                "expected": _plain(found.expected),
                "agreement": _plain(found.agreement),
            }
            for case, found in selection.chosen.verdicts.items()
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
