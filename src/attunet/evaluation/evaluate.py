"""Score a folder of predictions against a folder of references, or one file against another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from attunet.data import formats
from attunet.data.volume import Volume
from attunet.errors import GeometryError
from attunet.evaluation.pairs import Pair, label_names, match
from attunet.evaluation.scores import CaseScores, LabelScores, foreground, score_case
from attunet.evaluation.summary import Summary, summarize

__all__ = ["evaluate"]

TOLERANCE_MM = 0.1
WORKERS = 2


@dataclass(frozen=True)
class _Scored:
    case: CaseScores
    labels: dict[str, int]
    voxels: int


def evaluate(
    reference: Path,
    prediction: Path,
    *,
    labels: Mapping[str, int] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Summary:
    """Score predictions against references.

    Args:
        reference, prediction: two files, or two folders whose files are matched by name without suffix.
        labels: label name to value; by default every value other than 0 that the masks hold, named by the
            `dataset.json` in or beside the reference folder. Its `ignore` label is left out of every metric.
        advance: called with (cases done, cases in all) after every case.
    Raises: DatasetError when there is nothing to compare, GeometryError naming the case whose grids differ by
        more than 0.1 mm, FormatError or LabelError for a file that cannot be used.
    """
    pairs, extra = match(reference, prediction)
    names = label_names(reference)
    ignore = names.get("ignore")
    wanted = None if labels is None else foreground(labels)
    known = {value: name for name, value in names.items()}
    results: list[_Scored] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(_score_pair, pair, wanted, known, ignore) for pair in pairs]
        try:
            for future in futures:
                results.append(future.result())
                if advance:
                    advance(len(results), len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    every = wanted if wanted is not None else _union(result.labels for result in results)
    return summarize([_completed(result, every) for result in results], every, extra)


def _score_pair(pair: Pair, wanted: dict[str, int] | None, known: Mapping[int, str], ignore: int | None) -> _Scored:
    truth = formats.read_label(pair.reference)
    guess = truth.with_array(np.zeros_like(truth.array))
    if pair.prediction is not None:
        guess = formats.read_label(pair.prediction)
        _require_same_grid(pair.case, truth, guess)
    labels = wanted if wanted is not None else _found(truth, guess, known, ignore)
    case = CaseScores(
        case=pair.case,
        scores=score_case(truth.array[0], guess.array[0], labels, truth.spacing, ignore=ignore),
        reference_file=str(pair.reference),
        prediction_file=None if pair.prediction is None else str(pair.prediction),
        missing=pair.prediction is None,
    )
    voxels = truth.array.size if ignore is None else np.count_nonzero(truth.array != ignore)
    return _Scored(case, labels, int(voxels))


def _found(truth: Volume, guess: Volume, known: Mapping[int, str], ignore: int | None) -> dict[str, int]:
    """The values of both masks, by name where it is known."""
    values = {int(value) for mask in (truth, guess) for value in np.unique(mask.array)} - {0, ignore}
    return {known.get(value, str(value)): value for value in sorted(values)}


def _union(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    every = {name: value for labels in found for name, value in labels.items()}
    return dict(sorted(every.items(), key=lambda item: item[1]))


def _completed(result: _Scored, labels: Mapping[str, int]) -> CaseScores:
    """A case with an entry for every label, also for those that only other cases hold."""
    absent = LabelScores.absent(result.voxels)
    return replace(result.case, scores={name: result.case.scores.get(name, absent) for name in labels})


def _require_same_grid(case: str, reference: Volume, prediction: Volume) -> None:
    if prediction.spatial_shape != reference.spatial_shape:
        raise GeometryError(
            f"case {case}: prediction has shape {prediction.spatial_shape}, expected the reference's "
            f"{reference.spatial_shape}",
            hint="resample the prediction onto the reference's grid",
        )
    distance = _corner_distance(reference, prediction)
    if distance > TOLERANCE_MM:
        raise GeometryError(
            f"case {case}: prediction and reference lie {distance:.2f} mm apart at a corner, "
            f"expected at most {TOLERANCE_MM} mm",
            hint="resample the prediction onto the reference's grid, or repair the header that is wrong",
        )


def _corner_distance(first: Volume, second: Volume) -> float:
    """Largest distance in mm between the same corner voxels of two grids of one shape."""
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in first.spatial_shape))])
    return float(np.linalg.norm(corners @ (first.affine - second.affine).T, axis=1).max())
