"""Random augmentation of patches with MONAI's transforms; each result depends only on the generator passed in.

Geometry has nnU-Net's probabilities (rotation and scaling 0.2 each, mirroring 0.5 along each axis) and narrower ranges,
for trainings of minutes instead of days: rotation by up to 15 degrees (nnU-Net: 30, in slices 180), scaling by 0.8 to
1.2 for each axis separately (nnU-Net: 0.7 to 1.4 for all axes together).
Intensity has nnU-Net's probabilities and ranges. Per patch: noise 0.1, blur 0.2, brightness 0.15, contrast 0.15, low
resolution 0.25, gamma 0.1 on the inverted image and 0.3 on the image itself; then per channel: blur and low resolution
0.5.
Source: Isensee et al. 2021, nnU-Net, supplementary note 4, and the defaults of its second version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import monai.transforms as mt
import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED

__all__ = ["Augmentation", "IntensityChanges", "Motion", "Patch", "seed_of"]

Triple = tuple[int, int, int]
_GROWTH = 1.25
_ROTATION = math.radians(15)
_SCALE = 0.2
_MODES = {"image": "bilinear", "label": "nearest"}
_ELASTIC_3D = {"sigma_range": (5, 8), "magnitude_range": (50, 200)}
_ELASTIC_2D = {"spacing": (24, 24), "magnitude_range": (1, 3)}


class Patch(NamedTuple):
    """Image float32 (C, *patch), label uint8 (*patch), and which outputs its annotator drew, bool (outputs,)."""

    image: torch.Tensor
    label: torch.Tensor
    known: torch.Tensor


class Motion(NamedTuple):
    """What will be done to the geometry of a patch."""

    rotated: bool
    scaled: bool
    deformed: bool


class Augmentation:
    """The transforms of a recipe: of geometry in one resampling, mirroring, and of intensity.

    default: all. paper: affine and flips. none: nothing. Thick slices are neither mixed nor blurred into each other:
    geometry and resolution change within them.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        dims = plan.network.spatial_dims
        spacing = plan.preprocessing.spacing
        self._kind = config.augmentation
        self._patch = plan.patch_size
        self._sliced = dims == 3 and spacing[2] > 2 * min(spacing)
        self._elastic = config.elastic
        self._axes: tuple[int, ...] = tuple(axis for axis in plan.mirror_axes if axis < dims)
        self._left_right = plan.left_right
        self._exchange = _exchange(plan)
        within = 2 if self._sliced else dims
        self._motions = {
            motion: _motion_transform(motion, plan.patch_size[:within])
            for motion in map(Motion._make, product((False, True), repeat=3))
            if any(motion) and (self._elastic or not motion.deformed)
        }
        self._intensity = IntensityChanges(dims, within_slices=self._sliced)

    def draw_motion(self, rng: np.random.Generator) -> Motion:
        """Decide what will be done to the geometry."""
        if self._kind == "none":
            return Motion(False, False, False)
        rotated, scaled, deformed = rng.random(3) < (0.2, 0.2, self._elastic)
        return Motion(bool(rotated), bool(scaled), bool(deformed))

    def box(self, motion: Motion) -> Triple:
        """How large a box of the volume the motion wants for a patch."""
        grown = (any(motion), any(motion), any(motion) and not self._sliced)
        sizes = zip(self._patch, grown, strict=True)
        i, j, k = (math.ceil(size * _GROWTH) if grows and size > 1 else size for size, grows in sizes)
        return i, j, k

    def __call__(self, patch: Patch, motion: Motion, rng: np.random.Generator) -> Patch:
        """The patch transformed; one that is to be moved is as large as its `box` and comes back cut to size."""
        if self._kind == "none":
            return patch
        with _plain_tensors():
            if any(motion):
                patch = self._moved(patch, motion, rng)
            patch = self._mirrored(patch, rng)
            return patch._replace(image=self._intensity(patch.image, rng)) if self._kind == "default" else patch

    def _moved(self, patch: Patch, motion: Motion, rng: np.random.Generator) -> Patch:
        """Image and label by one grid; thick slices are moved as if each were a channel."""
        image, label = patch.image, patch.label[None].float()
        if self._sliced:
            image, label = (array.movedim(-1, 1).flatten(0, 1) for array in (image, label))
        transform = self._motions[motion]
        transform.set_random_state(seed=seed_of(rng))
        image, label = transform({"image": image, "label": label}).values()
        if self._sliced:
            slices = self._patch[2]
            image, label = (array.unflatten(0, (-1, slices)).movedim(1, -1) for array in (image, label))
        return Patch(image.contiguous(), label[0].to(torch.uint8).contiguous(), patch.known)

    def _mirrored(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """Flipped along each allowed axis in one case of two; with left and right, the labels that have a side."""
        axes = [axis for axis in self._axes if rng.random() < 0.5]
        if not axes:
            return patch
        image, label = patch.image.flip([axis + 1 for axis in axes]), patch.label.flip(axes)
        if self._exchange is None or self._left_right not in axes:
            return Patch(image, label, patch.known)
        known = patch.known[self._exchange[: len(patch.known)].long()]
        return Patch(image, self._exchange[label.long()], known)


class _Affine:
    """Rotates and scales image and label by one grid, as MONAI's RandAffined does, but in half the time: in float32."""

    def __init__(self, size: tuple[int, ...], ranges: dict[str, list[float] | None]) -> None:
        self._size = size
        self._grid = mt.RandAffineGrid(**ranges)
        self._sampled = {
            name: mt.Resample(mode=mode, padding_mode="border", dtype=torch.float32) for name, mode in _MODES.items()
        }

    def set_random_state(self, seed: int) -> None:
        self._grid.set_random_state(seed=seed)

    def __call__(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        grid = self._grid(spatial_size=self._size)
        return {name: self._sampled[name](array, grid) for name, array in data.items()}


def _motion_transform(motion: Motion, size: tuple[int, ...]) -> _Affine | mt.RandomizableTransform:
    dims = len(size)
    ranges = {
        "rotate_range": [_ROTATION] * (dims if dims == 3 else 1) if motion.rotated else None,
        "scale_range": [_SCALE] * dims if motion.scaled else None,
    }
    if not motion.deformed:
        return _Affine(size, ranges)
    elastic = mt.Rand3DElasticd if dims == 3 else mt.Rand2DElasticd
    settings = {"spatial_size": size, "mode": tuple(_MODES.values()), "padding_mode": "border", "prob": 1.0}
    return elastic(tuple(_MODES), **settings, **ranges, **(_ELASTIC_3D if dims == 3 else _ELASTIC_2D))


def _exchange(plan: Plan) -> torch.Tensor | None:
    """Label to the label that takes its place when left and right are exchanged, if any have a side."""
    if not plan.mirror_swaps:
        return None
    table = torch.arange(IGNORED + 1, dtype=torch.uint8)
    table[: len(plan.labels)] = torch.tensor(plan.mirrored_labels, dtype=torch.uint8)
    return table


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Have MONAI leave its metadata away, which would slow down every operation on its tensors."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class IntensityChanges:
    """Changes images (C, *patch); each change is drawn for each channel. Thick slices are not blurred together."""

    def __init__(self, spatial_dims: int, *, within_slices: bool) -> None:
        self._within_slices = within_slices
        self._steps = _steps(2 if within_slices else spatial_dims)

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """A new image, determined by the generator."""
        for step in self._steps:
            if rng.random() < step.probability:
                image = torch.cat([self._changed(step, channel, rng) for channel in image.split(1)])
        return image

    def _changed(self, step: _Step, channel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if step.of_channels < 1 and rng.random() >= step.of_channels:
            return channel
        step.transform.set_random_state(seed=seed_of(rng))
        if not self._within_slices:
            return step.transform(channel)
        # Slices become channels, which all are changed alike.
        return step.transform(channel[0].movedim(-1, 0)).movedim(0, -1)[None]


def seed_of(rng: np.random.Generator) -> int:
    """A seed for a transform of MONAI, which takes no generator."""
    return int(rng.integers(2**31))


class _Step(NamedTuple):
    """A change, the share of patches it is made to, and then of their channels."""

    transform: mt.RandomizableTransform
    probability: float
    of_channels: float = 1.0


def _steps(dims: int) -> tuple[_Step, ...]:
    width = (0.5, 1.0)
    blur = mt.RandGaussianSmooth(prob=1, sigma_x=width, sigma_y=width, sigma_z=width)
    contrast = mt.RandScaleIntensityFixedMean(prob=1, factors=0.25, preserve_range=True, fixed_mean=True)
    coarser = mt.RandSimulateLowResolution(prob=1, upsample_mode="trilinear" if dims == 3 else "bilinear")
    inverted, gamma = (
        mt.RandAdjustContrast(prob=1, gamma=(0.7, 1.5), retain_stats=True, invert_image=invert)
        for invert in (True, False)
    )
    return (
        _Step(mt.RandGaussianNoise(prob=1, std=0.1), 0.1),
        _Step(blur, 0.2, of_channels=0.5),
        _Step(mt.RandScaleIntensity(prob=1, factors=0.25), 0.15),
        _Step(contrast, 0.15),
        _Step(coarser, 0.25, of_channels=0.5),
        _Step(inverted, 0.1),
        _Step(gamma, 0.3),
    )
