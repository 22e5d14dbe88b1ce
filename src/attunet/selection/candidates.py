"""The candidates for a model: runs and their ensembles, evaluated on held-out cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from math import nan
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import Protocol

import numpy as np
import numpy.typing as npt

from attunet.bundle import check_agreement, fold_cases, fold_folder, load_bundle
from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy
from attunet.data.folds import Split
from attunet.data.slabs import row_chunks
from attunet.data.volume import Array
from attunet.errors import AttunetError
from attunet.evaluation.bootstrap import means_interval
from attunet.evaluation.scores import dice_case, nan_mean, scored_labels
from attunet.failures import Failures
from attunet.inference.evaluation import EvaluatedCase, EvaluateOptions, LoadedCase, evaluate_case
from attunet.inference.outputs import DiceSums, class_indices
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.selection.comparison import common_folds

__all__ = [
    "CandidateFold",
    "CandidateRunner",
    "CandidateScore",
    "EnsembleCandidate",
    "candidates_of",
    "evaluate_candidates",
    "evaluate_in_turn",
]

Doubles = npt.NDArray[np.float64]
Members = tuple[str, ...]
Scored = dict[Members, "CandidateScore"]
Progress = Callable[[int, int], None]

_SLAB = 2**24  # values (of all classes) averaged at once


@dataclass(frozen=True, kw_only=True)
class CandidateScore:
    """The score of one candidate on one case.

    Args:
        dice: Dice of each foreground label; nan if it is in neither mask, or not annotated in this case.
        expected: mean of the Dice expected from the probabilities; nan when every label seems absent.
        agreement: mean Dice between the members' masks, over all pairs; nan for a single run.
        seconds: total time of its members, including probabilities on the image's grid.
    """

    dice: tuple[float, ...]
    expected: float
    agreement: float
    seconds: float

    @property
    def mean_dice(self) -> float:
        """Mean over the labels with a Dice; nan when there is none."""
        return nan_mean(self.dice)


@dataclass(frozen=True)
class EnsembleCandidate:
    """A run, or several runs whose probabilities are averaged.

    Args:
        members: names of its runs.
        scores: case name to score.
    """

    members: Members
    scores: Mapping[str, CandidateScore]

    @property
    def name(self) -> str:
        """The names of the members, joined by a plus sign."""
        return " + ".join(self.members)

    @property
    def table(self) -> Doubles:
        """Dice (cases, labels)."""
        return np.array([score.dice for score in self.scores.values()], np.float64)

    @property
    def mean_dice(self) -> float:
        """Mean of the labels' mean Dice; nan when no label occurs."""
        return nan_mean([nan_mean(column) for column in self.table.T])

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap confidence interval of the mean Dice over cases."""
        return means_interval(self.table)

    @property
    def seconds(self) -> float:
        """Mean time per case."""
        return fmean(score.seconds for score in self.scores.values())


def candidates_of(names: Sequence[str]) -> list[Members]:
    """Every run, every pair, and all runs together."""
    sizes = sorted({1, min(2, len(names)), len(names)})
    return [members for size in sizes for members in combinations(names, size)]


@dataclass(frozen=True, kw_only=True)
class CandidateFold:
    """The held-out cases of one fold, for every candidate: complete, so that another machine can evaluate them.

    Args:
        runs: model folders by name.
        fold: index of the fold.
        cases: its held-out cases.
        device: auto, cpu or cuda.
        scratch: folder for probabilities too large for memory; None for the system's.
    """

    runs: Mapping[str, Path]
    fold: int
    cases: tuple[Case, ...]
    device: str = "auto"
    scratch: Path | None = None

    def evaluate(
        self, on_case: Callable[[], None] = lambda: None, cancelled: Event | None = None
    ) -> tuple[dict[str, Scored], dict[str, AttunetError]]:
        """Let the fold of every run segment the cases.

        Args: called after each case; an event that ends the call.
        Returns: the scores of every candidate by case, and the cases that cannot be used, with the reason.
        Raises: CancelledError once `cancelled` is set.
        """
        segmenters = {
            name: Segmenter.load(run, folds=[self.fold], device=self.device, raw=True)
            for name, run in self.runs.items()
        }
        geometry = Split.read(fold_folder(next(iter(self.runs.values())), self.fold)).geometry
        options = EvaluateOptions(prediction=PredictOptions(probabilities=True, scratch=self.scratch))
        scores: dict[str, Scored] = {}
        failures = Failures()
        for case in self.cases:
            with failures.of(case.id):
                candidates = candidates_of(list(self.runs))
                scores[case.id] = dict(_score_case(segmenters, case, geometry, options, candidates, cancelled))
            on_case()
        return scores, failures.errors


class CandidateRunner(Protocol):
    """Evaluates folds, here or on other machines."""

    def __call__(
        self, folds: Sequence[CandidateFold], *, progress: Progress, cancelled: Event | None
    ) -> list[tuple[dict[str, Scored], dict[str, AttunetError]]]:
        """Evaluate every fold.

        Args:
            folds: the folds.
            progress: called with the number of finished cases and of all cases.
            cancelled: an event that ends the call.
        Returns: what `CandidateFold.evaluate` returns, in the order of the folds.
        Raises: CancelledError once `cancelled` is set.
        """


def evaluate_in_turn(
    folds: Sequence[CandidateFold], *, progress: Progress, cancelled: Event | None
) -> list[tuple[dict[str, Scored], dict[str, AttunetError]]]:
    """See `CandidateRunner`: in this process, one fold after another."""
    total, done = sum(len(fold.cases) for fold in folds), count(1)
    return [fold.evaluate(lambda: progress(next(done), total), cancelled) for fold in folds]


def evaluate_candidates(
    runs: Mapping[str, Path],
    *,
    device: str = "auto",
    scratch: Path | None = None,
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
    failures: Failures | None = None,
    runner: CandidateRunner = evaluate_in_turn,
) -> tuple[EnsembleCandidate, ...]:
    """Let every fold segment its held-out cases, and score each run, each pair and all runs together.

    The networks are evaluated as they are, without the results of a run's own cross-validation. The probabilities of
    all runs for one case are stored at the same time, in files if they are large.

    Args:
        runs: model folders by name.
        device: auto, cpu or cuda.
        scratch: folder for probabilities too large for memory; None for the system's.
        progress: called with the number of finished cases and of all cases.
        cancelled: an event that ends the call.
        failures: receives the cases that cannot be used, which are left out of every candidate.
        runner: evaluates the folds, here or on other machines.
    Returns: the candidates, single runs first.
    Raises: ConfigError when the runs differ in task, data set or folds; DatasetError, DataError and their subclasses
        for cases that are missing or cannot be read; CancelledError once `cancelled` is set.
    """
    check_agreement({name: load_bundle(run).plan for name, run in runs.items()})
    first = next(iter(runs.values()))
    folds = [
        CandidateFold(runs=runs, fold=fold, cases=fold_cases(first, fold), device=device, scratch=scratch)
        for fold in common_folds(runs)
    ]
    scores: dict[Members, dict[str, CandidateScore]] = {members: {} for members in candidates_of(list(runs))}
    failures = Failures() if failures is None else failures
    for evaluated, failed in runner(folds, progress=progress, cancelled=cancelled):
        failures.add(failed)
        for case, scored in evaluated.items():
            for members, score in scored.items():
                scores[members][case] = score
    failures.raise_if_all(len(next(iter(scores.values()))))
    return tuple(EnsembleCandidate(members, entries) for members, entries in scores.items())


def _score_case(
    segmenters: Mapping[str, Segmenter],
    case: Case,
    geometry: GeometryPolicy,
    options: EvaluateOptions,
    candidates: Sequence[Members],
    cancelled: Event | None,
) -> list[tuple[Members, CandidateScore]]:
    """The scores of every candidate on a case, all or none, with nothing of the case left in memory."""
    loaded = LoadedCase.read(case, next(iter(segmenters.values())), geometry)
    evaluated = {
        name: evaluate_case(segmenter, loaded, options, cancelled=cancelled) for name, segmenter in segmenters.items()
    }
    return [*_scores(evaluated, candidates)]


def _scores(
    evaluated: Mapping[str, EvaluatedCase], candidates: Sequence[Members]
) -> Iterator[tuple[Members, CandidateScore]]:
    for members in candidates:
        results = [evaluated[name] for name in members]
        first, masks = results[0], [result.prediction.segmentation.array[0] for result in results]
        plan, case = first.plan, first.loaded.case
        mask, expected = (masks[0], _mean_of(first.prediction.expected_dice)) if len(results) == 1 else _join(results)
        assert first.reference is not None
        pairs = [nan_mean(_dice(first_mask, second_mask, plan)) for first_mask, second_mask in combinations(masks, 2)]
        yield (
            members,
            CandidateScore(
                dice=_dice(first.reference.array[0], mask, plan, case.annotated),
                expected=expected,
                agreement=nan_mean(pairs),
                seconds=sum(result.seconds for result in results),
            ),
        )


def _join(results: Sequence[EvaluatedCase]) -> tuple[Array, float]:
    """Mask and expected Dice of the averaged probabilities, as for an ensemble, slab by slab."""
    plan = results[0].plan
    volumes = [result.prediction.probabilities for result in results]
    arrays = [volume.array for volume in volumes if volume is not None]
    mask, sums = np.empty_like(results[0].prediction.segmentation.array[0]), DiceSums.zero(plan)
    values = np.array(tuple(plan.labels.values()), mask.dtype)
    outputs, i, j, depth = arrays[0].shape
    for planes in row_chunks(slice(0, depth), max(1, _SLAB // (outputs * i * j))):
        average = np.zeros((outputs, i, j, planes.stop - planes.start), np.float32)
        for array in arrays:
            average += array[..., planes] / np.float32(len(arrays))
        mask[..., planes] = values.take(class_indices(average, plan))
        sums += DiceSums.of_all(average, plan)
    return mask, _mean_of(sums.expected_dice(plan))


def _mean_of(expected: Mapping[str, float | None]) -> float:
    return nan_mean([dice for dice in expected.values() if dice is not None])


def _dice(reference: Array, mask: Array, plan: Plan, annotated: Sequence[str] | None = None) -> tuple[float, ...]:
    """Dice of each foreground label; nan if it is not annotated."""
    scores = dice_case(reference, mask, plan, annotated)
    return tuple(scores.get(name, nan) for name in scored_labels(plan))
