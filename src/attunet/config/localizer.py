"""The localizer of a plan: a small network on a coarse grid that finds the organs before the fine network segments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attunet.config.network import NetworkConfig
from attunet.config.preprocessing import Millimetres
from attunet.config.settings import Settings

__all__ = ["FOREGROUND", "MOST_CONTEXT", "Localizer"]

MOST_CONTEXT = 8
"""Labels or regions up to which each has a context channel of its own."""
FOREGROUND = "foreground"
"""The name of the context channel that stands for all labels together."""

Edge = Annotated[int, Field(ge=1, le=2**24)]


class Localizer(Settings):
    """The first stage of a cascade (coarse to fine): it sees the whole case, on a coarse grid of the same extent."""

    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Voxel size of the coarse grid in mm, axes as in the model grid."
    )
    patch_size: tuple[Edge, Edge, Edge] = Field(description="Voxels of the coarse grid; most cases fit into one patch.")
    batch_size: int = Field(ge=1, le=2**16, description="Patches in one optimizer step.")
    network: NetworkConfig
    share: float = Field(
        0.33, gt=0, lt=1, description="Share of the training budget, in time or epochs, that trains the localizer."
    )
    members: int = Field(
        2,
        ge=1,
        le=16,
        description="Localizers of a fold. Each is trained without an equal part of the training cases, so that the "
        "fine network trains with maps of cases that the localizer has not seen (cross-fitting); predictions use "
        "their mean. 1: one localizer, trained with all cases.",
    )
    context: Literal["labels", "foreground", "none"] = Field(
        "labels",
        description="Probabilities of the localizer that enter the fine network as extra input channels: of each "
        "foreground label or region, of all together, or none.",
    )
