"""The maps of a case: their names, their cut to the content box, their scores, their fit onto another case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attunet.data.orientation import canonical, oriented
from attunet.data.resample import resize
from attunet.data.volume import Affine, Volume
from attunet.explanation.scoring.organs import Box, Organs
from attunet.explanation.scoring.ranking import Floats
from attunet.explanation.scoring.scores import map_statistics, score_organs
from attunet.explanation.scoring.summary import AttentionScores

__all__ = ["MapGrid", "case_scores", "fitted", "named_maps"]

MapGrid = tuple[Affine, tuple[int, int, int], Box]
"""Where a case's maps lie: affine and shape of its image, and the content box in which attention is defined."""


def named_maps(attention: Mapping[str, Volume]) -> dict[str, Volume]:
    """Every map on its own, (1, I, J, K): a gate of one map as "level3", of two as "level3.1" and "level3.2"."""
    named = {}
    for gate, volume in attention.items():
        for index in range(volume.channels):
            name = gate if volume.channels == 1 else f"{gate}.{index + 1}"
            named[name] = volume.with_array(volume.array[index : index + 1])
    return named


def case_scores(
    source: str, case: str, attention: Mapping[str, Volume], content: Box, organs: Organs | None
) -> tuple[AttentionScores, ...]:
    """All numbers of one case: each map alone (label ""), then each map and organ.

    Args: what made the maps, one of `SOURCES`; by gate the volumes of a `Prediction`, and its content box; the organs
        of the case within that box, None where it has no reference.
    Raises: GeometryError when the organs lie on another grid, DataError for coefficients outside [0, 1].
    """
    rows = []
    for gate, volume in named_maps(attention).items():
        alpha = np.ascontiguousarray(volume.array[0][content])
        rows.append(AttentionScores(source, gate, "", case, map_statistics(alpha)))
        scored = score_organs(alpha, organs) if organs else {}
        rows += [AttentionScores(source, gate, label, case, values) for label, values in scored.items()]
    return tuple(rows)


def fitted(attention: Volume, content: Box, place: MapGrid) -> Floats:
    """The maps of one case stretched over another's content box, as if it were the same body.

    Both are brought to canonical axes, so that left lies on left and up on up however the images were stored; then the
    one box is resized to the other's shape, linearly, and turned as the other image is.
    Args: maps (C, I, J, K) of the one case and its content box; where the other's maps lie.
    Returns: (C, *shape of the other's content box).
    """
    affine, shape, target = place
    upright, _, _ = canonical(attention.with_array(attention.array[:, *content]))
    extent = tuple(len(range(*part.indices(size))) for part, size in zip(target, shape, strict=True))
    # Only its axes are asked for, so the grid needs no memory.
    grid, axes, flips = canonical(Volume(np.broadcast_to(np.uint8(0), (1, *extent)), affine))
    result = np.empty((attention.channels, *extent), np.float32)
    oriented(result, axes, flips)[:] = resize(upright.array, grid.spatial_shape, antialias=True)
    return result
