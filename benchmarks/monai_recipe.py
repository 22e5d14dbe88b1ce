"""How MONAI's AttentionUnet is trained in the comparison of accuracy: as its tutorials do, and as fast as a CPU allows.

`tutorial` follows MONAI's 3-D spleen tutorial: fp32, Dice loss, Adam with a constant rate, two cases of four patches of
96 voxels in a step, foreground and background in equal parts. Its BraTS tutorial gives the intensities of images that
are no CT. `best` has the same patches per step and the options that MONAI and torch offer to somebody who tunes them:
bf16 where the CPU computes it, channels_last, a fused AdamW with cosine decay over the given time, Dice plus
cross-entropy, light augmentation, Gaussian blending of windows; spacing, patch, strides and mirroring are those that
attunet plans for the same cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import AttentionUnet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
    SqueezeDimd,
)
from torch import nn

from attunet.config import Normalization, Plan
from attunet.planning.hardware import cpu_precision

__all__ = ["RECIPES", "Recipe", "cached_transforms", "image_transforms", "loss_of", "network_of", "random_transforms"]

TUTORIAL_PATCH, TUTORIAL_CHANNELS, TUTORIAL_RATE = 96, (16, 32, 64, 128, 256), 1e-4
BEST_CHANNELS, BEST_RATE = (32, 64, 128, 256, 256, 256), 1e-3
TUTORIAL_CT = Normalization(kind="ct", lower=-57.0, upper=164.0, mean=53.5, std=110.5)
"""The intensities of the spleen tutorial, -57 to 164 HU."""


@dataclass(frozen=True)
class Recipe:
    """What differs between the two trainings.

    Args:
        fast: channels_last, cosine decay, augmentation, and bf16 where it is faster.
        cases: cases in a step.
        patches: patches of each of them.
        overlap: of the windows in prediction, as a share.
        blending: how windows are weighted.
    """

    fast: bool
    cases: int = 2
    patches: int = 4
    overlap: float = 0.25
    blending: str = "constant"

    @property
    def bf16(self) -> bool:
        """Whether it computes in bf16: a CPU that only emulates it takes several times as long as in fp32."""
        return self.fast and cpu_precision() == "bf16"

    @property
    def rate(self) -> float:
        """The learning rate."""
        return BEST_RATE if self.fast else TUTORIAL_RATE

    def patch(self, plan: Plan) -> tuple[int, ...]:
        """Voxels of a patch, (I, J, K) or (I, J): divisible by all strides, as MONAI's network requires."""
        dims, strides = plan.network.spatial_dims, self.strides(plan)
        shape = plan.patch_size[:dims]
        if not self.fast:
            median = plan.fingerprint.median_shape[:dims]
            shape = tuple(min(TUTORIAL_PATCH, size) for size in median)
        multiples = [math.prod(level[axis] for level in strides) for axis in range(dims)]
        return tuple(-(-size // multiple) * multiple for size, multiple in zip(shape, multiples, strict=True))

    def strides(self, plan: Plan) -> tuple[tuple[int, ...], ...]:
        """The strides of each level."""
        dims = plan.network.spatial_dims
        return plan.network.strides if self.fast else ((2,) * dims,) * (len(TUTORIAL_CHANNELS) - 1)


RECIPES: Mapping[str, Recipe] = {
    "tutorial": Recipe(fast=False),
    "best": Recipe(fast=True, overlap=0.5, blending="gaussian"),
}


def network_of(plan: Plan, recipe: Recipe) -> nn.Module:
    """MONAI's AttentionUnet with random weights."""
    strides = recipe.strides(plan)
    channels = (BEST_CHANNELS if recipe.fast else TUTORIAL_CHANNELS)[: len(strides) + 1]
    dims = plan.network.spatial_dims
    network: nn.Module = AttentionUnet(dims, len(plan.channel_names), len(plan.labels), channels, strides)
    if recipe.fast:
        network.to(memory_format=torch.channels_last_3d if dims == 3 else torch.channels_last)  # type: ignore[call-overload]
    return network


def loss_of(recipe: Recipe) -> nn.Module:
    """The loss of logits (B, C, ...) and labels (B, 1, ...)."""
    loss = DiceCELoss if recipe.fast else DiceLoss
    return loss(to_onehot_y=True, softmax=True)


def image_transforms(plan: Plan, recipe: Recipe, keys: Sequence[str]) -> list[object]:
    """From files to arrays on the model grid; 2-D images stay on their own."""
    transforms: list[object] = [LoadImaged(keys), EnsureChannelFirstd(keys)]
    if plan.network.spatial_dims == 3:
        modes = ["bilinear" if key == "image" else "nearest" for key in keys]
        spacing = plan.preprocessing.spacing
        transforms += [Orientationd(keys, axcodes="RAS"), Spacingd(keys, pixdim=spacing, mode=modes)]
    else:
        transforms.append(SqueezeDimd(keys, dim=-1))
    scale = plan.preprocessing.normalization[0]
    if scale.kind == "ct":
        scale = scale if recipe.fast else TUTORIAL_CT
        low, high = ((end - scale.mean) / scale.std for end in (scale.lower, scale.upper))
        transforms.append(ScaleIntensityRanged("image", scale.lower, scale.upper, low, high, clip=True))
    else:
        transforms.append(NormalizeIntensityd("image", nonzero=True, channel_wise=True))
    return transforms


def cached_transforms(plan: Plan, recipe: Recipe) -> Compose:
    """What is done once for each training case."""
    keys = ("image", "label")
    return Compose([*image_transforms(plan, recipe, keys), SpatialPadd(keys, recipe.patch(plan))])


def random_transforms(plan: Plan, recipe: Recipe) -> list[object]:
    """What is done anew for each patch."""
    keys, patch = ("image", "label"), recipe.patch(plan)
    crop = RandCropByPosNegLabeld(
        keys, "label", spatial_size=patch, pos=1, neg=1, num_samples=recipe.patches, image_key="image"
    )
    if not recipe.fast:
        return [crop]
    dims = plan.network.spatial_dims
    axes = () if plan.mirror_swaps else plan.mirror_axes
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in axes if axis < dims]
    turn = RandAffined(
        keys,
        prob=0.3,
        rotate_range=(0.26,) * (3 if dims == 3 else 1),
        scale_range=(0.1,) * dims,
        mode=("bilinear", "nearest"),
        padding_mode="border",
    )
    light = [RandScaleIntensityd("image", factors=0.1, prob=1.0), RandShiftIntensityd("image", offsets=0.1, prob=1.0)]
    return [EnsureTyped(keys, track_meta=False), crop, *flips, turn, *light]
