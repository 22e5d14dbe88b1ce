"""Patch size, strides and kernels of a network, from the shape and spacing of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Topology", "plan_topology"]

_SMALLEST_MAP = 4
_COARSE = 2.0
_SLACK = 1.6


@dataclass(frozen=True)
class Topology:
    """Patch and levels of a network.

    Args:
        patch_size: voxels of the model grid.
        strides: between the levels, per axis of the network.
        kernel_sizes: of each level, per axis of the network.
    """

    patch_size: tuple[int, int, int]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]


def plan_topology(
    shape: np.ndarray,
    spacing: np.ndarray,
    dims: int,
    voxels: int,
    levels: int,
    *,
    fixed_levels: int | None = None,
) -> Topology:
    """Shrink the shape to the voxel budget, then halve axes level by level.

    Args:
        shape: (3,) voxels of the median case on the model grid.
        spacing: (3,) mm.
        dims: spatial dimensions.
        voxels: largest number of voxels in a patch.
        levels: largest number of levels.
        fixed_levels: exact number of levels, each of which halves every axis (published networks); None to follow the
            shape.
    Returns: the topology.
    """
    patch = _fit(np.asarray(shape[:dims], float), np.asarray(spacing[:dims], float), voxels)
    if fixed_levels:
        strides = [(2,) * dims] * (fixed_levels - 1)
        kernels = [(3,) * dims] * fixed_levels
    else:
        strides, kernels = _halvings(patch, np.asarray(spacing[:dims], float), levels)
    rounded = _rounded(patch, np.prod(np.array(strides), axis=0), np.asarray(spacing[:dims], float), voxels)
    i, j, k = (*rounded, 1)[:3]
    return Topology((i, j, k), tuple(strides), tuple(kernels))


def _fit(shape: np.ndarray, spacing: np.ndarray, voxels: int) -> np.ndarray:
    """The largest box inside `shape` of at most `voxels`, as cubic in mm as the shape allows."""
    patch = np.maximum(shape, 1.0)
    while np.prod(patch) > voxels:
        longest = int(np.argmax(patch * spacing))
        patch[longest] *= 0.97
    return np.asarray(patch)


def _halvings(
    patch: np.ndarray, spacing: np.ndarray, levels: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    size, step = patch.copy(), spacing.copy()
    strides: list[tuple[int, ...]] = []
    kernels = [_kernel(step)]
    while len(strides) < levels - 1:
        stride = tuple(
            2 if size[axis] >= 2 * _SMALLEST_MAP and step[axis] < _COARSE * step.min() else 1
            for axis in range(len(size))
        )
        if set(stride) == {1}:
            stride = tuple(2 if size[axis] >= 2 * _SMALLEST_MAP else 1 for axis in range(len(size)))
        if set(stride) == {1}:
            break
        strides.append(stride)
        size, step = size / stride, step * stride
        kernels.append(_kernel(step))
    if not strides:
        strides, kernels = [(2,) * len(size)], kernels * 2
    return strides, kernels


def _kernel(spacing: np.ndarray) -> tuple[int, ...]:
    return tuple(1 if step > _COARSE * spacing.min() else 3 for step in spacing)


def _rounded(patch: np.ndarray, step: np.ndarray, spacing: np.ndarray, voxels: int) -> list[int]:
    """The smallest multiples of `step` that cover the patch; long axes shrink if thin ones had to grow much."""
    size = np.maximum(1, np.ceil(patch / step - 1e-6)).astype(int) * step
    while np.prod(size) > _SLACK * voxels and (size > step).any():
        longest = int(np.argmax(np.where(size > step, size * spacing, 0.0)))
        size[longest] -= step[longest]
    return [int(length) for length in size]
