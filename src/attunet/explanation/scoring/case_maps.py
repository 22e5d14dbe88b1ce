"""The attention maps of a case: their names, their scores, and the maps of other cases as a null.

A gate that has learnt no more than where an organ usually lies scores as well with the maps of other cases as with the
case's own; a gate that looks at the image does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from attunet.data.formats import read_volume
from attunet.data.orientation import canonical, oriented
from attunet.data.resample import resize
from attunet.data.volume import Affine, Volume
from attunet.explanation.scoring.organs import Box, Organs
from attunet.explanation.scoring.scores import ATTENTION_METRICS, Floats, map_statistics, score_organs
from attunet.explanation.scoring.summary import OTHER_CASES, AttentionScores
from attunet.gates import attention_map_names

__all__ = [
    "MAPS_PER_CASE",
    "CaseMaps",
    "MapGrid",
    "case_scores",
    "fit_maps",
    "named_maps",
    "other_case_indices",
    "other_case_scores",
]


class MapGrid(NamedTuple):
    """The grid of a case's maps.

    Args:
        affine: of the image.
        shape: of the image, (I, J, K).
        content: the box in which attention is defined.
    """

    affine: Affine
    shape: tuple[int, int, int]
    content: Box


def named_maps(attention: Mapping[str, Volume]) -> dict[str, Volume]:
    """Split gates into single maps (1, I, J, K): a gate of one map is "level3", of two "level3.1" and "level3.2"."""
    named = {}
    for gate, volume in attention.items():
        for index, name in enumerate(attention_map_names(gate, volume.channels)):
            named[name] = volume.with_array(volume.array[index : index + 1])
    return named


def case_scores(
    source: str, case: str, attention: Mapping[str, Volume], content: Box, organs: Organs | None
) -> tuple[AttentionScores, ...]:
    """Score the maps of one case: each map alone (label ""), then each map and organ.

    Args:
        source: origin of the maps, one of `SOURCES`.
        case: name of the case.
        attention: the maps by gate, as in `Prediction.attention`.
        content: the box in which attention is defined.
        organs: the organs of the case within that box; None where it has no reference.
    Returns: a row for each map, and for each map and organ.
    Raises: GeometryError when the organs lie on another grid, DataError for coefficients outside [0, 1].
    """
    rows = []
    for gate, volume in named_maps(attention).items():
        alpha = np.ascontiguousarray(volume.array[0][content])
        rows.append(AttentionScores(source, gate, "", case, map_statistics(alpha)))
        scored = score_organs(alpha, organs) if organs else {}
        rows += [AttentionScores(source, gate, label, case, values) for label, values in scored.items()]
    return tuple(rows)


def fit_maps(attention: Volume, content: Box, target: MapGrid) -> Floats:
    """Stretch the maps of one case over another's content box, as if it were the same body.

    Both are brought to canonical axes, so that left matches left and up matches up in any storage order; then the box
    of the first is resized linearly to the other's shape, and brought to the orientation of the other image.
    Args:
        attention: maps (C, I, J, K) of the first case.
        content: its content box.
        target: the grid of the other case's maps.
    Returns: (C, *shape of the other's content box).
    """
    upright, _, _ = canonical(attention.with_array(attention.array[:, *content]))
    extent = tuple(len(range(*part.indices(size))) for part, size in zip(target.content, target.shape, strict=True))
    # Only the axes matter here, so the grid needs no memory.
    grid, axes, flips = canonical(Volume(np.broadcast_to(np.uint8(0), (1, *extent)), target.affine))
    result = np.empty((attention.channels, *extent), np.float32)
    oriented(result, axes, flips)[:] = resize(upright.array, grid.spatial_shape, antialias=True)
    return result


MAPS_PER_CASE = 3
"""Number of other cases whose maps are laid over each case."""

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class CaseMaps:
    """The maps of a case, on disk or from a function, so that few are in memory at a time.

    Args:
        case: its name.
        grid: the grid of its maps.
        maps: by gate, the volume as in `Prediction.attention`: a file, or a function that returns it.
        organs: function that returns the organs within the content box; None if the case has no reference.
    """

    case: str
    grid: MapGrid
    maps: Mapping[str, Path | Callable[[], Volume]]
    organs: Callable[[], Organs | None]


def other_case_indices(index: int, cases: int, count: int = MAPS_PER_CASE) -> tuple[int, ...]:
    """Choose the other cases whose maps are laid over a case; every case is chosen equally often.

    They are spread over the list, because adjacent cases are often images of one patient.

    Args:
        index: index of the case that gets the maps.
        cases: number of cases.
        count: number of other cases to choose.
    Returns: indices of the other cases, always the same for the same arguments.
    """
    steps = sorted({cases * part // (count + 1) for part in range(1, count + 1)} - {0})
    return tuple((index + step) % cases for step in steps)


def other_case_scores(cases: Sequence[CaseMaps], count: int = MAPS_PER_CASE) -> Iterator[AttentionScores]:
    """Score every case's organs with the maps of other cases, averaged over those; nothing for a single case.

    One volume of maps and the organs of one case are in memory at a time.
    Raises: FormatError when a file cannot be read; GeometryError and DataError as `score_map`.
    """
    for index, case in enumerate(cases):
        other_cases = [cases[other] for other in other_case_indices(index, len(cases), count)]
        organs = case.organs() if other_cases else None
        if organs is None or not any(organs.organs.values()):
            continue
        for gate in case.maps:
            scores_by_map = [
                _scores_with_other_maps(other_case, gate, case.grid, organs)
                for other_case in other_cases
                if gate in other_case.maps
            ]
            for name in scores_by_map[0] if scores_by_map else ():
                for label in organs.organs:
                    yield AttentionScores(
                        OTHER_CASES, name, label, case.case, _mean([scores[name][label] for scores in scores_by_map])
                    )


def _scores_with_other_maps(other_case: CaseMaps, gate: str, target: MapGrid, organs: Organs) -> dict[str, Scores]:
    """The scores of another case's maps, by map of the gate and label."""
    source = other_case.maps[gate]
    volume = read_volume(source) if isinstance(source, Path) else source()
    fitted = Volume(fit_maps(volume, other_case.grid.content, target), np.eye(4))
    return {name: score_organs(each.array[0], organs) for name, each in named_maps({gate: fitted}).items()}


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: fmean(each[metric] for each in scores) for metric in ATTENTION_METRICS}
