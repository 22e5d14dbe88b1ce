"""The fingerprint of a data set, as a plan keeps it: what the plan was decided on, and what the images were like."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from attunet.config.preprocessing import Intensity, Millimetres
from attunet.config.settings import Settings

__all__ = ["ChannelRanges", "FingerprintSummary", "ImageRanges", "Triple"]

Edge = Annotated[int, Field(ge=1, le=2**24)]
Triple = tuple[Edge, Edge, Edge]
Tally = Annotated[int, Field(ge=0, le=2**53)]
S = TypeVar("S", tuple[int, int], tuple[float, float])


def _ordered(span: S) -> S:
    if span[0] > span[1]:
        raise ValueError(f"the smallest comes first, got {span[0]:g} and {span[1]:g}")
    return span


_SPAN = AfterValidator(_ordered)
Length = Annotated[float, Field(ge=1e-9, le=1e14)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Width = Annotated[float, Field(ge=0.0, le=1e31)]
Edges = Annotated[tuple[Edge, Edge], _SPAN]
Spacings = Annotated[tuple[Millimetres, Millimetres], _SPAN]
Lengths = Annotated[tuple[Length, Length], _SPAN]
Intensities = Annotated[tuple[Intensity, Intensity], _SPAN]
Shares = Annotated[tuple[Share, Share], _SPAN]
Widths = Annotated[tuple[Width, Width], _SPAN]


class ChannelRanges(Settings):
    """Of one channel: the smallest and the largest figure of an image, from a sample of its content."""

    low: Intensities = Field(description="0.5th percentile.")
    high: Intensities = Field(description="99.5th percentile.")
    width: Widths = Field(description="From the one percentile to the other; 0 for an image of one value.")
    below_zero: Shares = Field(description="Share of this width that is negative.")
    median_place: Shares = Field(description="Where in this width the median of the values above the lowest lies.")
    distinct: Tally = Field(description="Fewest distinct values of an image, among about 20,000 voxels.")


class ImageRanges(Settings):
    """The smallest and the largest figure of an image, along canonical axes, after cropping."""

    shape: tuple[Edges, Edges, Edges] = Field(description="Voxels.")
    spacing: tuple[Spacings, Spacings, Spacings] = Field(description="mm.")
    extent: tuple[Lengths, Lengths, Lengths] = Field(description="Field of view in mm.")
    planes: tuple[Literal["sagittal", "coronal", "axial"], ...] = Field(
        (), max_length=3, description="Planes of slices that occur; none for images whose voxels are as long as wide."
    )
    tilt: float = Field(
        0.0, ge=0.0, le=90.0, description="Largest angle between an axis of an image and the patient's, in degrees."
    )
    channels: tuple[ChannelRanges, ...] = Field(description="Values, one entry per channel.")


class FingerprintSummary(Settings):
    """Summary statistics of a data set."""

    cases: Tally = Field(description="Labelled cases; 0 for converted weights, of whose training nothing is known.")
    channels: Tally = Field(description="Input channels.")
    median_shape: Triple = Field(description="Voxels, canonical axes, after cropping.")
    median_spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(description="mm, canonical axes.")
    label_voxels: dict[str, Tally] = Field(description="Voxels per label over all cases.")
    label_cases: dict[str, Tally] = Field(default_factory=dict, description="Cases in which each label occurs.")
    intensities: tuple[tuple[Intensity, ...], ...] = Field(
        (),
        description="Per channel, of labelled voxels: 0.5th percentile, mean, standard deviation, 99.5th percentile.",
    )
    ranges: ImageRanges | None = Field(
        None,
        description="How far the images differ, with which scans are compared; null in plans of earlier versions.",
    )
    lateral: tuple[tuple[str, str], ...] = Field((), description="Left and right label of one organ, by name.")
    fixed_order: dict[str, str] = Field(
        default_factory=dict,
        description="Canonical axis (0, 1, 2) to two labels that always come in one order along it.",
    )
