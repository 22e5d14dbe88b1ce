"""Runs and ensembles of them, judged on the cases that their folds have not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt

from attunet.bundle import check_agreement, finished_folds, fold_cases, fold_folder, load_bundle
from attunet.config import Plan
from attunet.data.cases import Case, read_label_of
from attunet.data.folds import Split
from attunet.data.preprocess import untouched
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError
from attunet.evaluation.bootstrap import means_interval
from attunet.evaluation.scores import dice_case, scored_labels
from attunet.inference.member import Pass, ask
from attunet.inference.outputs import decide, expected_dice, on_image
from attunet.inference.segmenter import Segmenter

__all__ = ["Candidate", "Verdict", "candidates_of", "check_datasets", "common_folds", "judge_runs"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Verdict:
    """What one candidate made of one case.

    Args:
        dice: of each foreground label; nan where it is in neither mask, or was not drawn in this case.
        expected: mean of the Dice that the probabilities themselves promise; nan when every label seems absent.
        agreement: mean Dice of its members' masks, pair by pair; nan for a single run.
        seconds: what its members took together.
    """

    dice: tuple[float, ...]
    expected: float
    agreement: float
    seconds: float

    @property
    def mean_dice(self) -> float:
        """Mean of the labels that count; nan when none does."""
        return _mean(self.dice)


@dataclass(frozen=True)
class Candidate:
    """A run, or several whose probabilities are averaged, and its verdict on each case, by the case's id."""

    members: tuple[str, ...]
    verdicts: Mapping[str, Verdict]

    @property
    def name(self) -> str:
        """The members, joined by a plus."""
        return " + ".join(self.members)

    @property
    def table(self) -> Doubles:
        """Dice (cases, labels)."""
        return np.array([verdict.dice for verdict in self.verdicts.values()], np.float64)

    @property
    def mean_dice(self) -> float:
        """Mean of the labels' mean Dice; nan when no label occurs anywhere."""
        return _mean([_mean(column) for column in self.table.T])

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap confidence interval of the mean Dice, the cases drawn anew."""
        return means_interval(self.table)

    @property
    def seconds(self) -> float:
        """Mean time a case."""
        return fmean(verdict.seconds for verdict in self.verdicts.values())


def candidates_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every run, every pair and all of them."""
    sizes = sorted({1, min(2, len(names)), len(names)})
    return [members for size in sizes for members in combinations(names, size)]


def common_folds(runs: Mapping[str, Path]) -> tuple[int, ...]:
    """The folds that all runs, given by name, have finished on the same unseen cases of the same data set.

    Raises: ConfigError when there is none or they do not agree, FormatError when a fold does not tell its cases.
    """
    finished = {name: set(finished_folds(run)) for name, run in runs.items()}
    shared = sorted(set.intersection(*finished.values()))
    if not shared:
        told = "; ".join(f"{name} has {', '.join(map(str, sorted(folds)))}" for name, folds in finished.items())
        raise ConfigError(f"the runs have no finished fold in common: {told}", hint="train the same fold of each")
    for fold in shared:
        _check_fold(runs, fold)
    return tuple(shared)


def check_datasets(sources: Mapping[str, Path]) -> None:
    """Raises: ConfigError unless all runs, by name, were trained on the data set at one path."""
    first, *others = sources
    for name in others:
        if sources[name].resolve() != sources[first].resolve():
            raise ConfigError(
                f"{first} and {name} were trained on different data sets: {sources[first]} and {sources[name]}",
                hint="only runs of one data set can be compared",
            )


def judge_runs(
    runs: Mapping[str, Path],
    *,
    device: str = "auto",
    advance: Advance = lambda _done, _total: None,
) -> tuple[Candidate, ...]:
    """Let every fold segment the cases it has not seen, and score each run, each pair and all runs together.

    The networks are judged as they are, without what a run's own cross-validation taught. Of one case the
    probabilities of all runs are held at once.
    Args: the runs by name; called with the cases done and the cases in all.
    Raises: ConfigError when the runs differ in task, data set or folds; DatasetError, DataError and their kinds for
        cases that are gone or cannot be read.
    """
    check_agreement({name: load_bundle(run).plan for name, run in runs.items()})
    first = next(iter(runs.values()))
    work = [(fold, fold_cases(first, fold)) for fold in common_folds(runs)]
    total = sum(len(cases) for _, cases in work)
    verdicts: dict[tuple[str, ...], dict[str, Verdict]] = {members: {} for members in candidates_of(list(runs))}
    done = 0
    for fold, cases in work:
        segmenters = {name: Segmenter.load(run, folds=[fold], device=device, raw=True) for name, run in runs.items()}
        geometry = Split.read(fold_folder(first, fold)).geometry
        for case in cases:
            _, image = next(iter(segmenters.values())).read(case)
            truth = read_label_of(case, image, geometry=geometry).array[0]
            for members, verdict in _judge_case(segmenters, case, image, truth, list(verdicts)):
                verdicts[members][case.id] = verdict
            done += 1
            advance(done, total)
    return tuple(Candidate(members, found) for members, found in verdicts.items())


def _check_fold(runs: Mapping[str, Path], fold: int) -> None:
    splits = {name: Split.read(fold_folder(run, fold)) for name, run in runs.items()}
    first, *others = splits
    for name, split in splits.items():
        if not split.unseen:
            raise ConfigError(
                f"fold {fold} of {name} was validated on the cases it was trained on, which judges nothing",
                hint="train with more cases",
            )
    check_datasets({name: split.dataset for name, split in splits.items()})
    for name in others:
        if set(splits[name].validation) != set(splits[first].validation):
            apart = sorted(set(splits[name].validation) ^ set(splits[first].validation))
            raise ConfigError(
                f"{first} and {name} validated fold {fold} on different cases, such as {', '.join(apart[:3])}",
                hint="train them with the same folds, seed and groups",
            )


@dataclass(frozen=True)
class _Said:
    """Probabilities (outputs, I, J, K) and mask (I, J, K) on the image's grid, expected Dice, seconds it took."""

    probabilities: Floats
    mask: Array
    expected: float
    seconds: float


def _judge_case(
    segmenters: Mapping[str, Segmenter], case: Case, image: Volume, truth: Array, candidates: Sequence[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Verdict]]:
    plan = next(iter(segmenters.values())).plan
    alone = {name: _say(segmenter, image) for name, segmenter in segmenters.items()}
    for members in candidates:
        said = [alone[name] for name in members]
        result = said[0] if len(said) == 1 else _join(said, image, plan)
        pairs = combinations([each.mask for each in said], 2)
        verdict = Verdict(
            dice=_dice(truth, result.mask, plan, case.annotated),
            expected=result.expected,
            agreement=_mean([_mean(_dice(first, second, plan)) for first, second in pairs]),
            seconds=result.seconds,
        )
        yield members, verdict


def _say(segmenter: Segmenter, image: Volume) -> _Said:
    """As `Segmenter.predict` does it for a single run."""
    started, plan = time.perf_counter(), segmenter.plan
    answer = ask(segmenter.members, image, Pass(), lambda _done, _total: None)
    mask = decide(answer.probabilities, answer.trail, plan)
    seconds = time.perf_counter() - started
    restored = on_image(answer.probabilities, answer.trail, plan)
    return _Said(restored, mask, _expected(answer.probabilities, plan), seconds)


def _join(said: Sequence[_Said], image: Volume, plan: Plan) -> _Said:
    """As `Segmenter.predict` does it for an ensemble."""
    average = np.zeros_like(said[0].probabilities)
    for each in said:
        average += each.probabilities / np.float32(len(said))
    mask = decide(average, untouched(image, plan.preprocessing), plan)
    return _Said(average, mask, _expected(average, plan), sum(each.seconds for each in said))


def _expected(probabilities: Floats, plan: Plan) -> float:
    return _mean([dice for dice in expected_dice(probabilities, plan).values() if dice is not None])


def _dice(truth: Array, mask: Array, plan: Plan, annotated: Sequence[str] | None = None) -> tuple[float, ...]:
    """Of each foreground label; nan where it was not drawn."""
    scores = dice_case(truth, mask, plan, annotated)
    return tuple(scores.get(name, nan) for name in scored_labels(plan))


def _mean(values: Sequence[float] | Doubles) -> float:
    known = [float(value) for value in values if not np.isnan(value)]
    return fmean(known) if known else nan
