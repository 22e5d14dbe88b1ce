"""The null of other cases: how well does a map do that was made of somebody else?

A gate that has learnt no more than where an organ usually lies scores as well with the maps of other cases as with the
case's own; one that looks at the image does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from attunet.data.formats import read_volume
from attunet.data.volume import Volume
from attunet.explanation.scoring.maps import MapGrid, fitted, named_maps
from attunet.explanation.scoring.organs import Box, Organs
from attunet.explanation.scoring.scores import METRICS, score_organs
from attunet.explanation.scoring.summary import OTHER_CASES, AttentionScores

__all__ = ["MAPS_PER_CASE", "CaseMaps", "lenders_of", "other_case_scores"]

MAPS_PER_CASE = 3
"""Of how many other cases each case gets the maps."""

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class CaseMaps:
    """A case whose maps lie on disk, or can be had by calling.

    Args:
        case: its name.
        place: affine and shape of its image, and the content box of its prediction.
        maps: by gate, the volume as in `Prediction.attention`: a file, or a function that gives it.
        organs: gives the organs within the content box; None where the case has no reference.
    """

    case: str
    place: MapGrid
    maps: Mapping[str, Path | Callable[[], Volume]]
    organs: Callable[[], Organs | None]

    @property
    def content(self) -> Box:
        """The box in which its maps are defined."""
        return self.place[2]


def lenders_of(index: int, cases: int, count: int = MAPS_PER_CASE) -> tuple[int, ...]:
    """Which other cases lend their maps to the case at `index`: always the same, and each case lends equally often.

    They are spread over the list, for neighbours in it are often images of one patient.
    """
    steps = sorted({cases * part // (count + 1) for part in range(1, count + 1)} - {0})
    return tuple((index + step) % cases for step in steps)


def other_case_scores(cases: Sequence[CaseMaps], count: int = MAPS_PER_CASE) -> Iterator[AttentionScores]:
    """Score every case's organs by the maps of others, the scores averaged over those; nothing for a single case.

    One volume of maps and the organs of one case are in memory at a time.
    Raises: FormatError when a file cannot be read; GeometryError and DataError as `score_map`.
    """
    for index, case in enumerate(cases):
        lenders = [cases[other] for other in lenders_of(index, len(cases), count)]
        organs = case.organs() if lenders else None
        if organs is None or not any(organs.organs.values()):
            continue
        for gate in case.maps:
            lent = [_lent(lender, gate, case.place, organs) for lender in lenders if gate in lender.maps]
            for name in lent[0] if lent else ():
                for label in organs.organs:
                    yield AttentionScores(
                        OTHER_CASES, name, label, case.case, _mean([scores[name][label] for scores in lent])
                    )


def _lent(lender: CaseMaps, gate: str, place: MapGrid, organs: Organs) -> dict[str, Scores]:
    """By map of the gate and label, the scores of one other case's maps."""
    source = lender.maps[gate]
    volume = read_volume(source) if isinstance(source, Path) else source()
    onto = Volume(fitted(volume, lender.content, place), np.eye(4))
    return {name: score_organs(each.array[0], organs) for name, each in named_maps({gate: onto}).items()}


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: fmean(each[metric] for each in scores) for metric in METRICS}
