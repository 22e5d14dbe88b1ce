"""Runs and ensembles of them, judged on the cases that their folds have not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attunet.bundle import check_agreement, finished_folds, fold_cases, fold_folder, load_bundle
from attunet.config import Plan
from attunet.data.cases import Case, read_case_label
from attunet.data.folds import Split
from attunet.data.slabs import few_rows
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError
from attunet.evaluation.scores import dice_case, nan_mean, scored_labels
from attunet.inference.outputs import DiceSums, codes_of
from attunet.inference.segmenter import Segmenter
from attunet.selection.candidates import EnsembleCandidate, Verdict, candidates_of

__all__ = ["check_datasets", "common_folds", "judge_runs"]

Floats = npt.NDArray[np.float32]
Advance = Callable[[int, int], None]

_SLAB = 2**24  # numbers of all classes that are averaged at once


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
    scratch: Path | None = None,
    advance: Advance = lambda _done, _total: None,
) -> tuple[EnsembleCandidate, ...]:
    """Let every fold segment the cases it has not seen, and score each run, each pair and all runs together.

    The networks are judged as they are, without what a run's own cross-validation taught. Of one case the
    probabilities of all runs are kept at once, in files where they are large.
    Args: the runs by name; a folder for probabilities that are too large for memory; called with the cases done and the
        cases in all.
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
            truth = read_case_label(case, image, geometry=geometry).array[0]
            for members, verdict in _judge_case(segmenters, case, image, truth, list(verdicts), scratch):
                verdicts[members][case.id] = verdict
            done += 1
            advance(done, total)
    return tuple(EnsembleCandidate(members, found) for members, found in verdicts.items())


def _check_fold(runs: Mapping[str, Path], fold: int) -> None:
    splits = {name: Split.read(fold_folder(run, fold)) for name, run in runs.items()}
    first, *others = splits
    for name, split in splits.items():
        if not split.held_out:
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
    """Probabilities (outputs, I, J, K), in a file where large, mask (I, J, K), expected Dice, seconds it took."""

    probabilities: Floats
    mask: Array
    expected: float
    seconds: float


def _judge_case(
    segmenters: Mapping[str, Segmenter],
    case: Case,
    image: Volume,
    truth: Array,
    candidates: Sequence[tuple[str, ...]],
    scratch: Path | None,
) -> Iterator[tuple[tuple[str, ...], Verdict]]:
    plan = next(iter(segmenters.values())).plan
    alone = {name: _say(segmenter, image, scratch) for name, segmenter in segmenters.items()}
    for members in candidates:
        said = [alone[name] for name in members]
        mask, expected = (said[0].mask, said[0].expected) if len(said) == 1 else _join(said, plan)
        pairs = combinations([each.mask for each in said], 2)
        verdict = Verdict(
            dice=_dice(truth, mask, plan, case.annotated),
            expected=expected,
            agreement=nan_mean([nan_mean(_dice(first, second, plan)) for first, second in pairs]),
            seconds=sum(each.seconds for each in said),
        )
        yield members, verdict


def _say(segmenter: Segmenter, image: Volume, scratch: Path | None) -> _Said:
    started = time.perf_counter()
    result = segmenter.predict(image, probabilities=True, scratch=scratch)
    assert result.probabilities is not None
    expected = _mean_of(result.expected_dice)
    return _Said(result.probabilities.array, result.segmentation.array[0], expected, time.perf_counter() - started)


def _join(said: Sequence[_Said], plan: Plan) -> tuple[Array, float]:
    """Mask and expected Dice of the average, as of an ensemble; slab by slab."""
    mask, sums = np.empty_like(said[0].mask), DiceSums.none(plan)
    values = np.array(tuple(plan.labels.values()), mask.dtype)
    outputs, i, j, depth = said[0].probabilities.shape
    for planes in few_rows(slice(0, depth), max(1, _SLAB // (outputs * i * j))):
        average = np.zeros((outputs, i, j, planes.stop - planes.start), np.float32)
        for each in said:
            average += each.probabilities[..., planes] / np.float32(len(said))
        mask[..., planes] = values.take(codes_of(average, plan))
        sums += DiceSums.of_all(average, plan)
    return mask, _mean_of(sums.expected_dice(plan))


def _mean_of(expected: Mapping[str, float | None]) -> float:
    return nan_mean([dice for dice in expected.values() if dice is not None])


def _dice(truth: Array, mask: Array, plan: Plan, annotated: Sequence[str] | None = None) -> tuple[float, ...]:
    """Of each foreground label; nan where it was not drawn."""
    scores = dice_case(truth, mask, plan, annotated)
    return tuple(scores.get(name, nan) for name in scored_labels(plan))
