"""Masks and closed contours on one slice: filling contours, and the contours whose filling gives a mask back.

Coordinates are those of voxels: the centre of pixel (i, j) is at (i, j), its corners are half a pixel away. A pixel is
inside a contour when its centre is (the even-odd rule). Contours of masks run along the edges of pixels, so that no
centre is on a contour and every reader that looks at centres agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

__all__ = ["Contour", "Mask", "contours_of", "fill_contours"]

Contour = npt.NDArray[np.float64]
"""(N, 2): the vertices (i, j) of a closed polygon, whose last vertex is joined to the first."""

Mask = npt.NDArray[np.bool_]

BATCH = 2**22
"""Crossings of edges and rows of pixels that are in memory at once."""

Places = npt.NDArray[np.intp]
Branch = tuple[int, int, int]
"""Behind which corner of a contour the channel to a hole begins, how far behind it in pixels, and the hole's number."""


def fill_contours(contours: Sequence[Contour], shape: tuple[int, int]) -> Mask:
    """The pixels whose centres are inside an odd number of contours.

    A centre on the left or upper edge of a contour (towards lower i or j) is inside, one on the opposite edge is not:
    contours that share an edge share no pixel. Narrow channels ("keyholes") that are walked in both directions cover
    nothing. What lies outside the slice is left out.

    Args:
        contours: polygons of finite coordinates, also concave, with holes joined by a channel, or crossing themselves.
        shape: (I, J), the number of pixels along each axis.
    Returns: (I, J), whether each pixel is inside.
    Source: Foley et al., Computer Graphics: Principles and Practice, section 3.6 (scan conversion of polygons).
    """
    mask = np.zeros(shape, np.bool_)
    kept = [contour for contour in contours if len(contour) > 2]
    if not kept:
        return mask
    edges = np.concatenate([np.hstack([contour, np.roll(contour, -1, axis=0)]) for contour in kept])
    edges = np.where((edges[:, 1] <= edges[:, 3])[:, None], edges, edges[:, [2, 3, 0, 1]])
    corners = edges.reshape(-1, 2)
    first = np.clip(np.ceil(corners.min(axis=0)), 0, shape).astype(np.intp)
    last = np.clip(np.floor(corners.max(axis=0)) + 1, 0, shape).astype(np.intp)
    if (first >= last).any():
        return mask
    toggles = np.zeros((last[0] - first[0] + 1) * (last[1] - first[1]), np.bool_)
    rows = np.clip(np.ceil(edges[:, [1, 3]]), first[1], last[1]).astype(np.intp)
    crossed = rows[:, 1] - rows[:, 0]
    edges, rows = edges[crossed > 0], rows[crossed > 0]
    for part in np.array_split(np.arange(len(edges)), max(1, ceil(crossed.sum() / BATCH))):
        places = _crossings(edges[part], rows[part], first, last)
        odd = np.bincount(places, minlength=toggles.size) & 1
        toggles ^= odd.astype(np.bool_)
    parity = np.logical_xor.accumulate(toggles.reshape(last[0] - first[0] + 1, -1)[:-1], axis=0)
    mask[first[0] : last[0], first[1] : last[1]] = parity
    return mask


def _crossings(edges: npt.NDArray[np.float64], rows: Places, first: Places, last: Places) -> Places:
    """The flat places of the first pixel behind every crossing of an edge and a row of centres.

    Args:
        edges: (E, 4), i and j of both ends, the end with the lower j first.
        rows: (E, 2), the first row that each edge crosses, and the one behind its last.
        first, last: (2,), the first pixel of the filled box and the one behind its last.
    """
    counts = rows[:, 1] - rows[:, 0]
    edge = np.repeat(np.arange(len(edges)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + rows[edge, 0]
    i, j, other_i, other_j = edges[edge].T
    crossing = i + (row - j) * (other_i - i) / (other_j - j)
    column = np.clip(np.ceil(crossing), first[0], last[0]).astype(np.intp)
    return np.asarray((column - first[0]) * (last[1] - first[1]) + row - first[1])


def contours_of(mask: Mask) -> list[Contour]:
    """The contours of a mask, one for each part of pixels that share edges; filling them gives the mask back exactly.

    A hole is joined to the contour around it by a channel without width (a keyhole), as DICOM describes for
    CLOSED_PLANAR; parts in a hole have contours of their own. So readers that unite contours and readers that exclude
    nested ones see the same pixels.

    Args:
        mask: (I, J).
    Returns: contours along the edges of pixels, with vertices where they turn, and at the ends of channels.
    Source: PS3.3 C.8.8.6.3, "Representing inner and outer contours".
    """
    if not mask.any():
        return []
    first, last = (np.array([np.flatnonzero(mask.any(axis))[end] for axis in (1, 0)]) for end in (0, -1))
    inside = np.pad(mask[first[0] : last[0] + 1, first[1] : last[1] + 1].astype(np.bool_), 1)
    corners, by_column = _corners(inside)
    cycles, cycle_of, position = _cycles(_opposite(by_column).tolist())
    starts = np.array([cycle[0] for cycle in cycles])
    is_hole = ~inside[corners[starts, 0] + 1, corners[starts, 1] + 1]
    holes = np.flatnonzero(is_hole).tolist()
    branches: dict[int, list[Branch]] = {}
    for hole, (corner, distance) in zip(
        holes, _channels(inside, corners, by_column, starts[holes], position), strict=True
    ):
        branches.setdefault(cycle_of[corner], []).append((position[corner], distance, hole))
    paths: dict[int, Places] = {}
    for number in range(len(cycles) - 1, -1, -1):  # a hole comes after the contour that it branches off from
        step = 1 if is_hole[number] else -1  # holes run against the contour around them
        paths[number] = _joined(corners[cycles[number]], sorted(branches.get(number, ())), paths, step)
    return [paths[number] + (first - 0.5) for number in np.flatnonzero(~is_hole).tolist()]


def _corners(inside: Mask) -> tuple[Places, Places]:
    """Where the edge of a padded mask turns.

    Edges along i join the corners 0 and 1, 2 and 3 and so on; edges along j those of the second order. Where only two
    opposite pixels of four are inside, two corners touch, and the contours of these pixels do not cross.

    Returns: (N, 2), the pixel before each corner along both axes, row by row; and their order column by column.
    """
    before, right = inside[:-1, :-1], inside[1:, :-1]
    below, after = inside[:-1, 1:], inside[1:, 1:]
    touching = (before == after) & (right == below) & (before != right)
    turns = (before ^ right ^ below ^ after).astype(np.int8) + 2 * touching
    j, i = np.nonzero(turns.T)
    counts = turns[i, j]
    falling = np.repeat(before[i, j] | (counts == 1), counts)  # the corner to the left is also the upper one
    second = np.repeat(counts == 2, counts)
    second[np.cumsum(counts)[counts == 2] - 2] = False
    corners = np.repeat(np.stack([i, j], axis=1), counts, axis=0)
    return corners, np.lexsort((second == falling, corners[:, 1], corners[:, 0]))


def _opposite(by_column: Places) -> Places:
    """The corner at the other end of each corner's edge along j."""
    opposite = np.empty_like(by_column)
    opposite[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    return opposite


def _cycles(opposite: Sequence[int]) -> tuple[list[list[int]], list[int], list[int]]:
    """The corners of each closed contour, from the first in its upper row along i; and for each corner, its contour and
    its place there.
    """
    cycles: list[list[int]] = []
    cycle_of, position = [-1] * len(opposite), [0] * len(opposite)
    for start in range(0, len(opposite), 2):
        if cycle_of[start] >= 0:
            continue
        cycle: list[int] = []
        corner, number, place = start, len(cycles), 0
        while cycle_of[corner] < 0:
            other = corner ^ 1
            cycle_of[corner] = cycle_of[other] = number
            position[corner], position[other] = place, place + 1
            place += 2
            cycle += (corner, other)
            corner = opposite[other]
        cycles.append(cycle)
    return cycles, cycle_of, position


def _channels(
    inside: Mask, corners: Places, by_column: Places, starts: Places, position: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Where the channel from the first corner of each hole, towards lower i, meets a contour.

    Returns: the corner behind which that is, in the direction of the contour, and how far behind, in pixels.
    """
    i, j = corners[starts].T
    crossed = inside[:-1] != inside[1:]
    lines = (crossed[:, :-1] | crossed[:, 1:]).T
    edges = np.flatnonzero(lines)
    met = edges[np.searchsorted(edges, j * lines.shape[1] + i) - 1] % lines.shape[1]
    keys = corners[by_column] @ (len(lines), 1)
    places = np.searchsorted(keys, met * len(lines) + j, side="right") - 1
    for row, upper, lower in zip(j, by_column[places], by_column[places ^ 1], strict=True):
        downwards = position[upper] % 2 == 1 or corners[upper, 1] == row
        corner = upper if downwards else lower
        yield int(corner), int(abs(row - corners[corner, 1]))


def _joined(corners: Places, branches: Sequence[Branch], holes: Mapping[int, Places], step: int) -> Places:
    """A contour with its holes, each between the two ways of its channel, walked backwards where the step is -1."""
    path: list[Places] = []
    begin = 0
    for place, distance, number in branches:
        hole = holes[number]
        end = np.array([[corners[place, 0], hole[0, 1]]])
        path += [corners[begin : place + 1], end[:distance], hole[:1], hole[1:][::step], hole[:1], end]
        begin = place + 1
    return np.concatenate([*path, corners[begin:]])
