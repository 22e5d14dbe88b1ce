"""What may be chosen, a run or an ensemble, and its verdicts on the cases that were not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
import numpy.typing as npt

from attunet.evaluation.bootstrap import means_interval
from attunet.evaluation.scores import nan_mean

__all__ = ["EnsembleCandidate", "Verdict", "candidates_of"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What one candidate made of one case.

    Args:
        dice: of each foreground label; nan where it is in neither mask, or was not drawn in this case.
        expected: mean of the Dice that the probabilities themselves promise; nan when every label seems absent.
        agreement: mean Dice of its members' masks, pair by pair; nan for a single run.
        seconds: what its members took together, with their probabilities at full size.
    """

    dice: tuple[float, ...]
    expected: float
    agreement: float
    seconds: float

    @property
    def mean_dice(self) -> float:
        """Mean of the labels that count; nan when none does."""
        return nan_mean(self.dice)


@dataclass(frozen=True)
class EnsembleCandidate:
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
        return nan_mean([nan_mean(column) for column in self.table.T])

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
