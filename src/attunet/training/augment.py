"""Random transforms of patches, from MONAI, seeded per patch."""

from __future__ import annotations

import math
from typing import NamedTuple

import monai.transforms as mt
import numpy as np
import torch

from attunet.config import Plan, TrainingConfig

__all__ = ["Augmentation", "Patch"]

Triple = tuple[int, int, int]
_GROWTH = 1.25
_SPATIAL_PROBABILITY = 0.3


class Patch(NamedTuple):
    """Image float32 (C, *patch) and label int64 (*patch)."""

    image: torch.Tensor
    label: torch.Tensor


class Augmentation:
    """The transforms of a recipe; each call is determined by the generator it is given.

    default: rotation and scale (in three cases of ten), noise, blur, brightness, contrast, low resolution, gamma, and
    mirroring along the axes the plan allows, in about the measure nnU-Net uses. paper: affine and flips. none: nothing.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        dims = plan.network.spatial_dims
        self._kind = config.augmentation
        self._size = plan.patch_size[:dims]
        self._flips = [mt.Flip(spatial_axis=axis) for axis in plan.mirror_axes if axis < dims]
        thin = dims == 3 and max(plan.preprocessing.spacing) > 2 * min(plan.preprocessing.spacing)
        angle = math.radians(15)
        self._affine = mt.RandAffine(
            prob=1.0,
            # Rotation in the plane of slices only where the slices are thick: across them it would smear.
            rotate_range=[0.0, 0.0, angle] if thin else [angle] * (dims if dims == 3 else 1),
            scale_range=[0.2] * dims,
            spatial_size=self._size,
            padding_mode="border",
        )
        self._intensity = _intensity_transforms(dims) if config.augmentation == "default" else []

    def input_size(self, patch: Triple, rng: np.random.Generator) -> Triple:
        """How large a box the transforms want for a patch: larger when it will be rotated or scaled."""
        if self._kind == "none" or rng.random() >= _SPATIAL_PROBABILITY:
            return patch
        i, j, k = (size if size == 1 else math.ceil(size * _GROWTH) for size in patch)
        return i, j, k

    def __call__(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """The patch transformed; one larger than the plan's is rotated and scaled, and cut to size."""
        if self._kind == "none":
            return patch
        image, label = patch
        if image.shape[1:] != self._size:
            image, label = self._moved(image, label, rng)
        for flip in self._flips:
            if rng.random() < 0.5:
                image, label = flip(image), flip(label[None])[0]
        for transform in self._intensity:
            transform.set_random_state(seed=int(rng.integers(2**31)))
            image = transform(image)
        return Patch(_plain(image).float(), _plain(label).long())

    def _moved(
        self, image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seed = int(rng.integers(2**31))
        self._affine.set_random_state(seed=seed)
        moved = self._affine(image, mode="bilinear")
        self._affine.set_random_state(seed=seed)
        return moved, self._affine(label[None].float(), mode="nearest")[0]


def _intensity_transforms(dims: int) -> list[mt.RandomizableTransform]:
    return [
        mt.RandGaussianNoise(prob=0.1, std=0.1),
        mt.RandGaussianSmooth(prob=0.1, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), sigma_z=(0.5, 1.0)),
        mt.RandScaleIntensity(prob=0.15, factors=0.25),
        mt.RandStdShiftIntensity(prob=0.15, factors=0.25),
        mt.RandSimulateLowResolution(
            prob=0.1,
            zoom_range=(0.5, 1.0),
            upsample_mode="bilinear" if dims == 2 else "trilinear",
        ),
        mt.RandAdjustContrast(prob=0.2, gamma=(0.7, 1.5), retain_stats=True),
    ]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata, which would slow down every later operation."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
