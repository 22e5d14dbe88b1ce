"""Random augmentation of patches with MONAI's transforms; each result depends only on the generator passed in.

Geometry has nnU-Net's probabilities (rotation and scaling 0.2 each, mirroring 0.5 along each axis) and narrower ranges,
for training of minutes instead of days: rotation by up to 15 degrees (nnU-Net: 30, in slices 180), scaling by 0.8 to
1.2 for each axis separately (nnU-Net: 0.7 to 1.4 for all axes together).
Intensity has nnU-Net's probabilities and ranges. Per patch: noise 0.1, blur 0.2, brightness 0.15, contrast 0.15, low
resolution 0.25, gamma 0.1 on the inverted image and 0.3 on the image itself; then per channel: blur and low resolution
0.5.
Source: Isensee et al. 2021, nnU-Net, supplementary note 4, and the defaults of its second version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import monai.transforms as mt
import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED

__all__ = ["Augmentation", "IntensityChanges", "IntensityStep", "Motion", "Patch", "intensity_steps", "seed_of"]

Triple = tuple[int, int, int]
_GROWTH = 1.25
_ROTATION = math.radians(15)
_SCALE = 0.2
_MODES = {"image": "bilinear", "label": "nearest"}
_ELASTIC_3D = {"sigma_range": (5, 8), "magnitude_range": (50, 200)}
_ELASTIC_2D = {"spacing": (24, 24), "magnitude_range": (1, 3)}


class Patch(NamedTuple):
    """A training patch.

    Args:
        image: float32 (C, *patch); in a cascade, the last channels are the context.
        label: uint8 or int16 (*patch), class indices or IGNORED.
        annotated: bool (outputs,), which outputs were annotated in its case.
    """

    image: torch.Tensor
    label: torch.Tensor
    annotated: torch.Tensor


class Motion(NamedTuple):
    """The geometric changes of a patch.

    Args:
        rotated: whether it is rotated.
        scaled: whether it is scaled along each axis.
        deformed: whether it is deformed elastically.
    """

    rotated: bool
    scaled: bool
    deformed: bool


class Augmentation:
    """The augmentation of a recipe: geometry in one resampling, mirroring, and intensity.

    default: all of them. paper: affine transforms and flips. none: nothing. Thick slices are neither mixed with nor
    blurred into each other: geometry and resolution change within slices.
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
        self._exchange, self._outputs = _exchange(plan), list(plan.mirrored_outputs)
        self._contexts = len(plan.context)
        images = len(plan.channel_names)
        self._channels = [*range(images), *(images + channel for channel in plan.mirrored_context)]
        within = 2 if self._sliced else dims
        self._motions = {
            motion: _motion_transform(motion, plan.patch_size[:within])
            for motion in map(Motion._make, product((False, True), repeat=3))
            if any(motion) and (self._elastic or not motion.deformed)
        }
        self._intensity = IntensityChanges(dims, within_slices=self._sliced)

    def draw_motion(self, rng: np.random.Generator) -> Motion:
        """Draw the changes of a patch's geometry."""
        if self._kind == "none":
            return Motion(False, False, False)
        rotated, scaled, deformed = rng.random(3) < (0.2, 0.2, self._elastic)
        return Motion(bool(rotated), bool(scaled), bool(deformed))

    def box(self, motion: Motion) -> Triple:
        """The size of the box of the volume that a motion needs for a patch."""
        grown = (any(motion), any(motion), any(motion) and not self._sliced)
        sizes = zip(self._patch, grown, strict=True)
        i, j, k = (math.ceil(size * _GROWTH) if grows and size > 1 else size for size, grows in sizes)
        return i, j, k

    def __call__(self, patch: Patch, motion: Motion, rng: np.random.Generator) -> Patch:
        """The transformed patch; with a motion, the input has the size of its `box`, and the result the patch size."""
        if self._kind == "none":
            return patch
        with _plain_tensors():
            if any(motion):
                patch = self._moved(patch, motion, rng)
            patch = self._mirrored(patch, rng)
            return patch._replace(image=self._brightened(patch.image, rng)) if self._kind == "default" else patch

    def _brightened(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Change the intensity of the image's channels, not of the context that follows them."""
        if not self._contexts:
            return self._intensity(image, rng)
        return torch.cat([self._intensity(image[: -self._contexts], rng), image[-self._contexts :]])

    def _moved(self, patch: Patch, motion: Motion, rng: np.random.Generator) -> Patch:
        """Move image and label together; thick slices are moved as if each were a channel."""
        image, label = patch.image, patch.label[None].float()
        if self._sliced:
            image, label = (array.movedim(-1, 1).flatten(0, 1) for array in (image, label))
        transform = self._motions[motion]
        transform.set_random_state(seed=seed_of(rng))
        image, label = transform({"image": image, "label": label}).values()
        if self._sliced:
            slices = self._patch[2]
            image, label = (array.unflatten(0, (-1, slices)).movedim(1, -1) for array in (image, label))
        return Patch(image.contiguous(), label[0].to(patch.label.dtype).contiguous(), patch.annotated)

    def _mirrored(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """Flip along each allowed axis with probability 0.5; paired labels are exchanged with left and right."""
        axes = [axis for axis in self._axes if rng.random() < 0.5]
        if not axes:
            return patch
        image, label = patch.image.flip([axis + 1 for axis in axes]), patch.label.flip(axes)
        if self._contexts and self._left_right in axes:
            image = image[self._channels]
        if self._exchange is None or self._left_right not in axes:
            return Patch(image, label, patch.annotated)
        return Patch(image, self._exchange[label.long()], patch.annotated[self._outputs])


class _Affine:
    """Rotates and scales image and label together, like MONAI's RandAffined, but in float32, in half the time."""

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
    """Class to its counterpart when left and right are exchanged; None when no labels are paired."""
    if not plan.mirror_swaps:
        return None
    classes = plan.mirrored_classes
    stored = torch.uint8 if len(classes) <= IGNORED + 1 else torch.int16
    table = torch.arange(max(IGNORED + 1, len(classes)), dtype=stored)
    table[: len(classes)] = torch.tensor(classes, dtype=stored)
    return table


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Remove MONAI's metadata, which slows down every operation on its tensors."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class IntensityChanges:
    """Changes images (C, *patch), each channel separately. Thick slices are not blurred into each other.

    Args:
        spatial_dims: axes of the patches.
        within_slices: whether slices are thick, so that each is changed separately.
        steps: the changes; None for those of nnU-Net.
    """

    def __init__(self, spatial_dims: int, *, within_slices: bool, steps: Sequence[IntensityStep] | None = None) -> None:
        self._within_slices = within_slices
        self._steps = intensity_steps(2 if within_slices else spatial_dims) if steps is None else steps

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The changed image, determined by the generator."""
        for step in self._steps:
            if rng.random() < step.probability:
                image = torch.cat([self._changed(step, channel, rng) for channel in image.split(1)])
        return image

    def _changed(self, step: IntensityStep, channel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if step.channel_probability < 1 and rng.random() >= step.channel_probability:
            return channel
        step.transform.set_random_state(seed=seed_of(rng))
        if not self._within_slices:
            return step.transform(channel)
        # Slices become channels, which are all changed in the same way.
        return step.transform(channel[0].movedim(-1, 0)).movedim(0, -1)[None]


def seed_of(rng: np.random.Generator) -> int:
    """A seed for a MONAI transform, because these take no generator."""
    return int(rng.integers(2**31))


class IntensityStep(NamedTuple):
    """A change of intensity.

    Args:
        transform: MONAI's transform.
        probability: probability that a patch is changed.
        channel_probability: probability that a channel of such a patch is changed.
    """

    transform: mt.RandomizableTransform
    probability: float
    channel_probability: float = 1.0


def intensity_steps(dims: int) -> tuple[IntensityStep, ...]:
    """nnU-Net's intensity changes, in order, for 2-D or 3-D images."""
    width = (0.5, 1.0)
    blur = mt.RandGaussianSmooth(prob=1, sigma_x=width, sigma_y=width, sigma_z=width)
    contrast = mt.RandScaleIntensityFixedMean(prob=1, factors=0.25, preserve_range=True, fixed_mean=True)
    coarser = mt.RandSimulateLowResolution(prob=1, upsample_mode="trilinear" if dims == 3 else "bilinear")
    inverted, gamma = (
        mt.RandAdjustContrast(prob=1, gamma=(0.7, 1.5), retain_stats=True, invert_image=invert)
        for invert in (True, False)
    )
    return (
        IntensityStep(mt.RandGaussianNoise(prob=1, std=0.1), 0.1),
        IntensityStep(blur, 0.2, channel_probability=0.5),
        IntensityStep(mt.RandScaleIntensity(prob=1, factors=0.25), 0.15),
        IntensityStep(contrast, 0.15),
        IntensityStep(coarser, 0.25, channel_probability=0.5),
        IntensityStep(inverted, 0.1),
        IntensityStep(gamma, 0.3),
    )
