"""The axes along which images may be mirrored: those along which a mirrored image could belong to the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attunet.config import mirrored_order, mirrored_values
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.label_positions import Lateral, Orders, label_orders, lateral_labels

__all__ = ["Mirroring", "plan_mirroring"]

_ANATOMY = (("left-right", "left of", "left"), ("front-back", "behind", "back"), ("up-down", "below", "lower"))
_OTHER_ENDS = {"left": "right", "back": "front", "lower": "upper"}
_PICTURE = (("up-down", "above", ""), ("left-right", "left of", ""), ("through the slices", "before", ""))


@dataclass(frozen=True)
class Mirroring:
    """Mirroring as in a `Plan` and its fingerprint.

    Args:
        axes: model axes that may be mirrored.
        swaps: left and right labels that are exchanged when the left-right axis is mirrored.
        lateral: all left and right labels, by name.
        fixed_order: canonical axis to two labels that always come in the same order along it.
        reason: a clause for each axis.
    """

    axes: tuple[Literal[0, 1, 2], ...]
    swaps: tuple[tuple[str, str], ...]
    lateral: tuple[tuple[str, str], ...]
    fixed_order: dict[str, str]
    reason: str


def plan_mirroring(fingerprint: Fingerprint, slice_axis: int, dims: int) -> Mirroring:
    """Decide for each axis of the network.

    An axis is refused if two labels always come in the same order along it, or a label always lies on one side of the
    image: no case looks like its mirror image. On the left-right axis, left and right labels may be exchanged if all
    fixed orders agree with that. Labels that fewer than four cases show prevent mirroring. Pictures have no left and
    right, but their labels may have an order.

    Args:
        fingerprint: fingerprint of the data set.
        slice_axis: canonical axis that is moved last.
        dims: spatial dimensions of the network.
    Returns: the axes, with the reasons.
    """
    orders, lateral = label_orders(fingerprint), lateral_labels(fingerprint.foreground)
    pictures = fingerprint.modality == "image"
    axes: list[Literal[0, 1, 2]] = []
    swaps: tuple[tuple[str, str], ...] = ()
    clauses = []
    for model_axis, axis in enumerate([*(axis for axis in range(3) if axis != slice_axis), slice_axis][:dims]):
        sideways = axis == (1 if pictures else 0)
        refusal, swapped = _refusal(orders, lateral, axis, sideways=sideways, pictures=pictures)
        refusal = refusal or _without_counterpart(fingerprint, swapped)
        name = (_PICTURE if pictures else _ANATOMY)[axis][0]
        if refusal:
            clauses.append(f"{name}: no, {refusal}")
            continue
        axes.append((0, 1, 2)[model_axis])
        swaps = swapped or swaps
        clauses.append(f"{name}: yes, {_permission(swapped, pictures)}")
    fixed = {str(axis): ", ".join(pair) for axis in range(3) if (pair := orders.first_fixed(axis))}
    return Mirroring(tuple(axes), swaps, lateral.pairs, fixed, "; ".join(clauses))


def _refusal(
    orders: Orders, lateral: Lateral, axis: int, *, sideways: bool, pictures: bool
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The reason why an axis must not be mirrored, empty when it may; and the label pairs to exchange."""
    swaps = lateral.pairs if sideways and not pictures else ()
    if sideways and (lateral.single or (pictures and lateral.pairs)):
        named = lateral.single or lateral.pairs[0]
        return f"{named[0]} is named for its side and has no counterpart to swap with", ()
    considered = np.ones_like(orders.unknown)
    if pictures:  # no order with the image centre, and few cases are no obstacle
        considered = ~orders.unknown
        considered[-1] = considered[:, -1] = False
    np.fill_diagonal(considered, False)
    for first, second in _pairs(orders.unknown & considered):
        return _too_few(orders, first, second), ()
    other_side = mirrored_order(orders.names, swaps)
    mirrored = -orders.signs[axis][np.ix_(other_side, other_side)]
    for first, second in _pairs((orders.signs[axis] > 0) & (mirrored <= 0) & considered):
        return _why_fixed(orders, first, second, _PICTURE[axis] if pictures else _ANATOMY[axis]), ()
    return "", swaps


def _without_counterpart(fingerprint: Fingerprint, swaps: tuple[tuple[str, str], ...]) -> str:
    """Why regions cannot change places; empty when they can."""
    counterparts = mirrored_values(fingerprint.regions, swaps)
    for name, values in fingerprint.regions.items():
        if swaps and not counterparts.keys() >= set(values):
            return f"a part of {name} has no mirror image among the label values"
    return ""


def _pairs(where: np.ndarray) -> list[tuple[int, int]]:
    """Index pairs of a matrix, those of two labels before those with the image centre."""
    last = len(where) - 1
    pairs = [(int(first), int(second)) for first, second in np.argwhere(where)]
    return sorted(pairs, key=lambda pair: last in pair)


def _too_few(orders: Orders, first: int, second: int) -> str:
    shown = " and ".join(
        dict.fromkeys(orders.names[index] for index in (first, second) if index < len(orders.names) - 1)
    )
    return f"fewer than 4 cases show {shown}, too few to tell"


def _why_fixed(orders: Orders, first: int, second: int, words: tuple[str, str, str]) -> str:
    middle = len(orders.names) - 1
    if middle not in (first, second):
        return f"{orders.names[first]} always lies {words[1]} {orders.names[second]}"
    side = words[2] if second == middle else _OTHER_ENDS[words[2]]
    return f"{orders.names[min(first, second)]} always lies on the {side} side"


def _permission(swaps: tuple[tuple[str, str], ...], pictures: bool) -> str:
    if swaps:
        more = f" and {len(swaps) - 1} more pairs" if len(swaps) > 1 else ""
        return f"with {swaps[0][0]} and {swaps[0][1]}{more} swapped"
    return (
        "pictures have no left and right, and their labels no order"
        if pictures
        else "no label is tied to a side or an order"
    )
