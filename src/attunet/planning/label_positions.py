"""Sides and orders of labels: left and right in their names, their order along each axis, by their centroids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.planning.fingerprint import Fingerprint

__all__ = ["Lateral", "Orders", "label_orders", "lateral_labels"]

Signs = npt.NDArray[np.int8]

_AGREEMENT = 0.9
_FEWEST_CASES = 4
_MIDDLE = 0.02
"""Share of the content's extent within which a label counts as central, on neither side."""


@dataclass(frozen=True)
class Orders:
    """Which of two labels comes first along a canonical axis.

    Args:
        names: the labels, and last the centre of the image, which has an order with each of them, too.
        signs: (3, names, names): 1 if the row's label lies at lower coordinates than the column's in nearly all cases,
            -1 at higher ones, 0 if it varies.
        cases: (names, names) number of cases with both.
    """

    names: tuple[str, ...]
    signs: Signs
    cases: npt.NDArray[np.int64]

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """(names, names): whether too few cases have both."""
        return np.asarray(self.cases < _FEWEST_CASES)

    def first_fixed(self, axis: int) -> tuple[str, str] | None:
        """The most frequent pair of labels that always come in the same order, the one at lower coordinates first."""
        labels = slice(None, -1)
        fixed = np.where(self.signs[axis, labels, labels] > 0, self.cases[labels, labels], 0)
        if not fixed.any():
            return None
        low, high = np.unravel_index(int(fixed.argmax()), fixed.shape)
        return self.names[int(low)], self.names[int(high)]


def label_orders(fingerprint: Fingerprint) -> Orders:
    """The orders of all pairs of labels, by the centroids of each case.

    An order is fixed when the sign of the difference agrees in at least nine of ten cases with both labels; there must
    be at least four such cases.
    """
    positions = np.concatenate([fingerprint.centroids, np.zeros((len(fingerprint.cases), 1, 3))], axis=1)
    count = positions.shape[1]
    before, cases = np.zeros((2, 3, count, count), np.int64), np.zeros((count, count), np.int64)
    for points, extent in zip(positions, fingerprint.extents, strict=True):
        steps = points[None] - points[:, None]
        middling = np.abs(steps) <= _MIDDLE * extent
        middling[:-1, :-1] = False
        cases += ~np.isnan(steps[..., 0])
        before[0] += np.moveaxis((steps > 0) & ~middling, -1, 0)
        before[1] += np.moveaxis((steps < 0) & ~middling, -1, 0)
    needed = np.maximum(_AGREEMENT * cases, 1)
    known = cases >= _FEWEST_CASES
    signs = ((before[0] >= needed) & known).astype(np.int8) - ((before[1] >= needed) & known)
    return Orders((*fingerprint.foreground, "the middle"), signs.astype(np.int8), cases)


Pairs = tuple[tuple[str, str], ...]

_SIDES = {"left": "right", "lh": "rh", "lt": "rt", "l": "r"}
_ABBREVIATED = {"lh", "rh", "lt", "rt", "l", "r"}
"""Words too short to mean a side unless the other side exists, too."""
_OTHER_SIDE = _SIDES | {right: left for left, right in _SIDES.items()}
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")


class Lateral(NamedTuple):
    """Pairs of left and right labels, and labels whose name says a side but has no counterpart."""

    pairs: Pairs
    single: tuple[str, ...]


def lateral_labels(names: Sequence[str]) -> Lateral:
    """Recognise names such as kidney_left and kidney_right, Left-Amygdala, lungL, ctx-rh-insula or femur l."""
    spelled = {_words(name): name for name in names}
    pairs, single = [], []
    for words, name in spelled.items():
        for at, word in enumerate(words):
            if word not in _OTHER_SIDE:
                continue
            partner = spelled.get((*words[:at], _OTHER_SIDE[word], *words[at + 1 :]))
            if partner is None and word not in _ABBREVIATED:
                single.append(name)
            elif partner is not None and word in _SIDES:
                pairs.append((name, partner))
    paired = {name for pair in pairs for name in pair}
    return Lateral(tuple(pairs), tuple(name for name in dict.fromkeys(single) if name not in paired))


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(name)) or (name,)
