"""Score a folder of predictions against a folder of references, or one file against another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attunet.data import formats
from attunet.data.alignment import check_same_grid
from attunet.data.labels import background_value
from attunet.data.layouts.description import DeclaredLabels
from attunet.data.volume import Volume
from attunet.evaluation.pairs import Pair, declared_labels, match
from attunet.evaluation.scores import CaseScores, LabelScores, Values, foreground, label_values, score_case
from attunet.evaluation.summary import Summary

__all__ = ["evaluate"]

GRID_HINT = "resample the prediction onto the grid of the reference, or repair the header that is wrong"
WORKERS = 2


@dataclass(frozen=True)
class _Scored:
    case: CaseScores
    labels: dict[str, Values]
    voxels: int


@dataclass(frozen=True)
class _Task:
    """What is scored in every case; wanted: None for the labels that each case holds."""

    wanted: dict[str, Values] | None
    declared: DeclaredLabels
    annotated: Mapping[str, Collection[str]]


def evaluate(
    reference: Path,
    prediction: Path,
    *,
    labels: Mapping[str, Values] | None = None,
    annotated: Mapping[str, Collection[str]] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Summary:
    """Score predictions against references.

    Args:
        reference, prediction: two files, or two folders whose files are matched by name without suffix.
        labels: label name to value, or region to the values it unites, in both masks. By default what the
            `dataset.json` in or beside the reference folder declares: its regions, or else the names of the
            values, other than the background's, that the masks hold. Its `ignore` label counts in no metric.
        annotated: of partly labelled cases, case name to the names of the labels that were drawn.
        advance: called with (cases done, cases in all) after every case.
    Raises: DatasetError when there is nothing to compare, GeometryError naming the case whose grids differ by
        more than 0.1 mm, FormatError or LabelError for a file that cannot be used.
    """
    pairs, extra = match(reference, prediction)
    declared = declared_labels(reference)
    wanted = label_values(declared.regions if labels is None else foreground(labels))
    task = _Task(None if labels is None and not declared.regions else wanted, declared, annotated or {})
    results: list[_Scored] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(_score_pair, pair, task) for pair in pairs]
        try:
            for future in futures:
                results.append(future.result())
                if advance:
                    advance(len(results), len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    every = task.wanted if task.wanted is not None else _union(result.labels for result in results)
    return Summary(every, tuple(_completed(result, every, task) for result in results), tuple(extra))


def _score_pair(pair: Pair, task: _Task) -> _Scored:
    truth = formats.read_label(pair.reference)
    guess = truth.with_array(np.full_like(truth.array, background_value(task.declared.names)))
    if pair.prediction is not None:
        guess = formats.read_label(pair.prediction)
        check_same_grid(truth, guess, f"reference and prediction of case {pair.case}", hint=GRID_HINT)
    ignore = task.declared.ignore
    labels = task.wanted if task.wanted is not None else _found(truth, guess, task.declared)
    case = CaseScores(
        case=pair.case,
        scores=score_case(
            truth.array[0],
            guess.array[0],
            labels,
            truth.spacing,
            ignore=ignore,
            annotated=task.annotated.get(pair.case),
        ),
        reference_file=str(pair.reference),
        prediction_file=None if pair.prediction is None else str(pair.prediction),
        missing=pair.prediction is None,
    )
    voxels = truth.array.size if ignore is None else np.count_nonzero(truth.array != ignore)
    return _Scored(case, labels, int(voxels))


def _found(truth: Volume, guess: Volume, declared: DeclaredLabels) -> dict[str, Values]:
    """The foreground values of both masks, by name where it is known."""
    known = {value: name for name, value in declared.names.items()}
    values = {int(value) for mask in (truth, guess) for value in np.unique(mask.array)}
    values -= {background_value(declared.names), declared.ignore}
    return label_values({known.get(value, str(value)): value for value in sorted(values)})


def _union(found: Iterable[Mapping[str, Values]]) -> dict[str, Values]:
    every = {name: value for labels in found for name, value in labels.items()}
    return dict(sorted(every.items(), key=lambda item: (item[1],) if isinstance(item[1], int) else item[1]))


def _completed(result: _Scored, labels: Mapping[str, Values], task: _Task) -> CaseScores:
    """A case with an entry for every label that was drawn in it, also for those that only other cases hold."""
    absent = LabelScores.absent(result.voxels)
    drawn = task.annotated.get(result.case.case, labels)
    return replace(result.case, scores={name: result.case.scores.get(name, absent) for name in labels if name in drawn})
