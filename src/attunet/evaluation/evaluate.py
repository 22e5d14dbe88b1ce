"""Score a folder of predictions against a folder of references, or one file against another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from attunet.data.dataset import LabelFiles
from attunet.data.label_files import split_value
from attunet.data.labels import Values, background_value, describe_values
from attunet.data.layouts.description import DeclaredLabels, load_description, read_declared_labels
from attunet.data.volume import Volume
from attunet.errors import CancelledError, LabelError
from attunet.evaluation.pairs import Pair, match, named_pairs, read_on_one_grid
from attunet.evaluation.scores import CaseScores, LabelScores, foreground, label_values, score_case
from attunet.evaluation.summary import Summary
from attunet.failures import Failures

__all__ = ["declared_labels", "evaluate"]

WORKERS = 2


def declared_labels(reference: Path) -> DeclaredLabels:
    """Labels or regions declared by the `dataset.json` in or next to the reference folder; none without such a file.

    MSD's {"1": "liver"} and nnU-Net's {"liver": 1, "all": [1, 2]} are both read.
    Raises: DatasetError when it cannot be used.
    """
    folder = reference if reference.is_dir() else reference.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            return read_declared_labels(load_description(path), path)
    return DeclaredLabels({}, {}, None)


@dataclass(frozen=True)
class _ScoredPair:
    """Scores of a case, the labels that were scored, how many voxels are not ignored, and values that are no label."""

    scores: CaseScores
    labels: dict[str, Values]
    voxels: int
    others: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Targets:
    """The labels to score (None for those present in each case), the declared labels, and the annotated ones."""

    labels: dict[str, Values] | None
    declared: DeclaredLabels
    annotated: Mapping[str, Collection[str]]
    key: str | None = None


def evaluate(
    reference: Path,
    prediction: Path,
    *,
    labels: Mapping[str, Values] | None = None,
    annotated: Mapping[str, Collection[str]] | None = None,
    key: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    cancelled: Event | None = None,
) -> Summary:
    """Score predictions against references.

    Args:
        reference: a label file, or a folder of them.
        prediction: a predicted file, or a folder of files named like the references.
        labels: label name to value, or region to the values it unites, in both masks. The default is the declaration in
            the `dataset.json` in or next to the reference folder: its regions, or else its names for the foreground
            values in the masks. Its `ignore` label counts in no metric.
        annotated: for partially annotated cases, case name to the names of the annotated labels; None for all.
        key: the array to read of label files that hold several, such as NPZ; None for their only one.
        progress: called with the number of finished cases and the number of all cases.
        cancelled: an event that ends the call after the current cases.
    Returns: the scores of every case, and their means; `Summary.failed` names the cases that could not be scored.
    Raises: DatasetError when there is nothing to compare, LabelError when the masks have no label in common and
        none are declared or given; when no case can be scored, the error of the first one, such as GeometryError or
        FormatError; CancelledError once `cancelled` is set.
    """
    pairs, extra = match(reference, prediction)
    declared = declared_labels(reference)
    if key is None:
        pairs, named = named_pairs(pairs, _single_values(labels or declared.names))
        declared = replace(declared, names=declared.names or named)
    selected = label_values(declared.regions if labels is None else foreground(labels))
    annotated = {pair.case: pair.annotated for pair in pairs if pair.annotated is not None} | dict(annotated or {})
    targets = _Targets(None if labels is None and not declared.regions else selected, declared, annotated, key)
    results: list[_ScoredPair] = []
    failures = Failures()

    def score(pair: Pair) -> _ScoredPair | None:
        with failures.of(pair.case):
            return _score_pair(pair, targets)
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(score, pair) for pair in pairs]
        try:
            for done, future in enumerate(futures, start=1):
                scored_pair = future.result()
                results.extend([] if scored_pair is None else [scored_pair])
                progress(done, len(pairs))
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError("the evaluation was cancelled")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    failures.raise_if_all(len(results))
    scored = targets.labels if targets.labels is not None else _union(result.labels for result in results)
    if targets.labels is None:
        _require_common(scored, results)
    else:
        _require_scored(scored, results)
    cases = tuple(_completed(result, scored, targets) for result in results)
    return Summary(scored, cases, tuple(extra), failures.messages)


def _require_common(labels: Mapping[str, Values], results: Iterable[_ScoredPair]) -> None:
    """Raises: LabelError when references and predictions hold labels, but have none in common in the whole set."""
    counts = [(name, entry.counts) for result in results for name, entry in result.scores.scores.items()]
    references = {name for name, count in counts if count.tp + count.fn}
    predictions = {name for name, count in counts if count.tp + count.fp}
    if references and predictions and references.isdisjoint(predictions):
        held, found = (", ".join(name for name in labels if name in names) for names in (references, predictions))
        raise LabelError(
            f"references and predictions have no label in common: the references hold {held}, the predictions {found}",
            hint='if these are the same labels in another encoding, score them with --labels "NAME=1+255"; otherwise '
            "check that the two folders belong together",
        )


def _require_scored(labels: Mapping[str, Values], results: Sequence[_ScoredPair]) -> None:
    """Raises: LabelError when no mask holds any of the labels to score, but they hold others."""
    counts = [entry.counts for result in results for entry in result.scores.scores.values()]
    others = frozenset().union(*(result.others for result in results))
    if others and not any(count.tp + count.fp + count.fn for count in counts):
        named = ", ".join(f"{name} ({value})" for name, value in labels.items())
        raise LabelError(
            f"no mask holds a label to score, {named}; they hold {describe_values(others)}",
            hint="correct --labels, or the labels in dataset.json",
        )


def _score_pair(pair: Pair, targets: _Targets) -> _ScoredPair:
    reference, predicted = read_on_one_grid(pair, targets.key)
    background = background_value(targets.declared.names)
    prediction = predicted or reference.with_array(np.full_like(reference.array, background))
    ignore = targets.declared.ignore
    held = _held(pair, reference, prediction)
    present = _present(held, targets.declared)
    labels = targets.labels if targets.labels is not None else present
    grid = reference if reference.calibrated else prediction  # either may be a file without a spacing
    scores = CaseScores(
        case=pair.case,
        scores=score_case(
            reference.array[0],
            prediction.array[0],
            _with_combinations(labels, held),
            grid.voxel,
            ignore=ignore,
            annotated=targets.annotated.get(pair.case),
        ),
        reference_file=str(pair.reference),
        prediction_file=None if pair.prediction is None else str(pair.prediction),
        missing=pair.prediction is None,
    )
    voxels = reference.array.size if ignore is None else np.count_nonzero(reference.array != ignore)
    empty = not any(entry.counts.tp + entry.counts.fp + entry.counts.fn for entry in scores.scores.values())
    others = present.values() if empty and targets.labels is not None else ()
    return _ScoredPair(scores, labels, int(voxels), frozenset(value for value in others if isinstance(value, int)))


def _held(pair: Pair, *masks: Volume) -> dict[int, tuple[int, ...]]:
    """The values of masks, each with those of the labels that it combines, see `combined_value`."""
    known = {
        value
        for source in (pair.reference, pair.prediction)
        if isinstance(source, LabelFiles)
        for value in source.values
    }
    values = {int(value) for mask in masks for value in np.unique(mask.array)}
    return {value: split_value(value, sorted(known)) for value in values}


def _with_combinations(labels: Mapping[str, Values], held: Mapping[int, tuple[int, ...]]) -> dict[str, Values]:
    """The labels, each with the values of its combinations with others."""
    if all(value == (only,) for only, value in held.items()):
        return dict(labels)
    united: dict[str, Values] = {}
    for name, value in labels.items():
        single = {value} if isinstance(value, int) else set(value)
        united[name] = tuple(sorted(single | {whole for whole, parts in held.items() if single & set(parts)}))
    return united


def _present(held: Mapping[int, tuple[int, ...]], declared: DeclaredLabels) -> dict[str, Values]:
    """The foreground values of both masks, by name if it is known."""
    known = {value: name for name, value in declared.names.items()}
    values = {value for parts in held.values() for value in parts} - {background_value(declared.names), declared.ignore}
    return label_values({known.get(value, str(value)): value for value in sorted(values)})


def _single_values(labels: Mapping[str, Values]) -> dict[str, int]:
    """The foreground labels of one value."""
    return {name: value for name, value in foreground(labels).items() if isinstance(value, int)}


def _union(labels_of_cases: Iterable[Mapping[str, Values]]) -> dict[str, Values]:
    union = {name: value for labels in labels_of_cases for name, value in labels.items()}
    return dict(sorted(union.items(), key=lambda item: (item[1],) if isinstance(item[1], int) else item[1]))


def _completed(result: _ScoredPair, labels: Mapping[str, Values], targets: _Targets) -> CaseScores:
    """A case with an entry for every label annotated in it, including labels that occur only in other cases."""
    absent, scores = LabelScores.absent(result.voxels), result.scores
    annotated = targets.annotated.get(scores.case, labels)
    return replace(scores, scores={name: scores.scores.get(name, absent) for name in labels if name in annotated})
