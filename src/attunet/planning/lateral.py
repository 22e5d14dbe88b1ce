"""Left and right in the names of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Lateral", "lateral_labels"]

Pairs = tuple[tuple[str, str], ...]

_SIDES = {"left": "right", "lh": "rh", "lt": "rt", "l": "r"}
_ABBREVIATED = {"lh", "rh", "lt", "rt", "l", "r"}
"""Too short to mean a side unless the other side is there, too."""
_OTHER_SIDE = _SIDES | {right: left for left, right in _SIDES.items()}
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")


class Lateral(NamedTuple):
    """Labels that are the left and the right one of a pair, and those whose name says a side but has no partner."""

    pairs: Pairs
    single: tuple[str, ...]


def lateral_labels(names: Sequence[str]) -> Lateral:
    """Sort out names such as kidney_left and kidney_right, Left-Amygdala, lungL, ctx-rh-insula or femur l."""
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
