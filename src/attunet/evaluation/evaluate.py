"""Score a folder of predictions against a folder of references, or one file against another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from attunet.data import formats
from attunet.data.alignment import check_same_grid
from attunet.data.labels import Values, background_value, describe_values
from attunet.data.layouts import read_dataset
from attunet.data.layouts.description import DeclaredLabels, load_description, read_declared_labels
from attunet.data.layouts.image_files import by_stem, image_files
from attunet.data.volume import Volume
from attunet.errors import CancelledError, DatasetError, LabelError
from attunet.evaluation.scores import CaseScores, LabelScores, foreground, label_values, score_case
from attunet.evaluation.summary import Summary
from attunet.failures import Failures

__all__ = ["Pair", "declared_labels", "evaluate", "match"]

GRID_HINT = "resample the prediction onto the grid of the reference, or repair the header that is wrong"
WORKERS = 2


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction.

    Args:
        case: name of the case.
        reference: its label file.
        prediction: its predicted mask; None when there is none.
    """

    case: str
    reference: Path
    prediction: Path | None


def match(reference: Path, prediction: Path) -> tuple[list[Pair], list[str]]:
    """Pair two files, or the files of two folders by their name without suffix.

    Where no names are the same, the references are the labels of a data set of any layout, by the ids of its cases.

    Returns: one pair per reference, in order of name, and the names of predictions without a reference.
    Raises: DatasetError when a path is missing, the two are not of one kind, no reference is found, no
        prediction belongs to any reference, or two files of a folder are the same case.
    """
    for path in (reference, prediction):
        if not path.exists():
            raise DatasetError(f"{path} does not exist", hint="check the path")
    if reference.is_dir() != prediction.is_dir():
        raise DatasetError(
            f"got a file and a folder ({reference}, {prediction}), expected two files or two folders",
            hint="pass the reference file and the prediction file, or the two folders that contain them",
        )
    if reference.is_file():
        return [Pair(formats.stem_of(reference), reference, prediction)], []
    references, predictions = (by_stem(image_files(folder)) for folder in (reference, prediction))
    if not references.keys() & predictions.keys():
        references = _of_cases(reference) or references
    if not references:
        raise DatasetError(
            f"no label file was found in {reference}",
            hint="pass the folder that contains the label files; where each label has a file of its own, evaluate the "
            "run with --cross-validation RUN, which knows their values",
        )
    if not references.keys() & predictions.keys():
        raise DatasetError(
            f"none of the {len(predictions)} files in {prediction} is named like one of the "
            f"{len(references)} in {reference}",
            hint=f"name each prediction like its reference, such as {next(iter(references.values())).name}",
        )
    pairs = [Pair(case, path, predictions.get(case)) for case, path in references.items()]
    return pairs, [case for case in predictions if case not in references]


def _of_cases(folder: Path) -> dict[str, Path]:
    """The label file of each case of a data set, by id; empty where the folder is none, or a label is several files."""
    try:
        return {case.id: case.label for case in read_dataset(folder).labelled if isinstance(case.label, Path)}
    except DatasetError:
        return {}


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
    selected = label_values(declared.regions if labels is None else foreground(labels))
    targets = _Targets(None if labels is None and not declared.regions else selected, declared, annotated or {}, key)
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
    reference = formats.read_label(pair.reference, key=targets.key)
    prediction = reference.with_array(np.full_like(reference.array, background_value(targets.declared.names)))
    if pair.prediction is not None:
        prediction = formats.read_label(pair.prediction, key=targets.key)
        check_same_grid(reference, prediction, f"reference and prediction of case {pair.case}", hint=GRID_HINT)
    ignore = targets.declared.ignore
    labels = targets.labels if targets.labels is not None else _present(reference, prediction, targets.declared)
    grid = reference if reference.calibrated else prediction  # either may be a file without a spacing
    scores = CaseScores(
        case=pair.case,
        scores=score_case(
            reference.array[0],
            prediction.array[0],
            labels,
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
    others = _present(reference, prediction, targets.declared).values() if empty and targets.labels is not None else ()
    return _ScoredPair(scores, labels, int(voxels), frozenset(value for value in others if isinstance(value, int)))


def _present(reference: Volume, prediction: Volume, declared: DeclaredLabels) -> dict[str, Values]:
    """The foreground values of both masks, by name if it is known."""
    known = {value: name for name, value in declared.names.items()}
    values = {int(value) for mask in (reference, prediction) for value in np.unique(mask.array)}
    values -= {background_value(declared.names), declared.ignore}
    return label_values({known.get(value, str(value)): value for value in sorted(values)})


def _union(labels_of_cases: Iterable[Mapping[str, Values]]) -> dict[str, Values]:
    union = {name: value for labels in labels_of_cases for name, value in labels.items()}
    return dict(sorted(union.items(), key=lambda item: (item[1],) if isinstance(item[1], int) else item[1]))


def _completed(result: _ScoredPair, labels: Mapping[str, Values], targets: _Targets) -> CaseScores:
    """A case with an entry for every label annotated in it, including labels that occur only in other cases."""
    absent, scores = LabelScores.absent(result.voxels), result.scores
    annotated = targets.annotated.get(scores.case, labels)
    return replace(scores, scores={name: scores.scores.get(name, absent) for name in labels if name in annotated})
