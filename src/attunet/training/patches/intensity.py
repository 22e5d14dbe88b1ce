"""Random changes of a patch's intensity, from MONAI, with nnU-Net's probabilities and ranges.

Of the patches: noise 0.1, blur 0.2, brightness 0.15, contrast 0.15, low resolution 0.25, gamma 0.1 on the inverted
image and 0.3 on the image as it is; of a patch's channels then, blur and low resolution 0.5.
Source: Isensee et al. 2021, nnU-Net, supplementary note 4, and the defaults of its second version.
"""

from __future__ import annotations

from typing import NamedTuple

import monai.transforms as mt
import numpy as np
import torch

__all__ = ["IntensityChanges", "seed_of"]


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
