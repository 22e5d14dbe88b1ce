"""The settings of preprocessing: the model grid, cropping, and how intensities are normalized."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attunet.config.settings import Settings

__all__ = ["Intensity", "Millimetres", "Normalization", "Preprocessing"]

Intensity = Annotated[float, Field(ge=-1e30, le=1e30)]
Millimetres = Annotated[float, Field(ge=1e-9, le=1e6)]


class Normalization(Settings):
    """How the intensities of one channel are normalized to zero mean and unit variance."""

    kind: Literal["zscore", "ct", "none"] = Field(
        description="zscore: by the mean and standard deviation of each image; ct: clipped, then by those given here; "
        "none: unchanged."
    )
    lower: Intensity = Field(
        0.0, description="ct: lower clip bound, the 0.5th percentile of the data set's foreground."
    )
    upper: Intensity = Field(
        0.0, description="ct: upper clip bound, the 99.5th percentile of the data set's foreground."
    )
    mean: Intensity = Field(0.0, description="ct: mean of the data set's foreground.")
    std: float = Field(1.0, gt=0.0, le=1e30, description="ct: standard deviation of the data set's foreground.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower > self.upper:
            raise ValueError(f"lower must not exceed upper, got {self.lower} and {self.upper}")
        return self


class Preprocessing(Settings):
    """How a volume on the grid of its scan is converted to the network's input."""

    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Voxel size of the model grid in mm: axes in canonical (RAS) orientation, the slice axis last."
    )
    slice_axis: Literal[0, 1, 2] = Field(
        2,
        description="Canonical axis (0 left-right, 1 posterior-anterior, 2 inferior-superior) that is moved last; "
        "slices are perpendicular to it.",
    )
    normalization: tuple[Normalization, ...] = Field(
        description="One for each channel, see [normalization](normalization.md)."
    )
    crop_to_content: bool = Field(
        True,
        description="Crop margins in which every channel is at its minimum or, for ct, not above its lower clip bound.",
    )
