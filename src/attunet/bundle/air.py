"""air.json of a fold: which windows of an image hold nothing but air, as its validation cases taught."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from attunet.bundle.manifest import read_sums
from attunet.bundle.run import FoldFiles
from attunet.bundle.sealed import read_sealed, write_unsealed
from attunet.config import Settings

__all__ = ["AIR", "Air", "common_air_level", "load_air", "write_air"]

AIR = "air.json"


class Air(Settings):
    """Windows that need not be run, and the audit that allows it: without loss, or not at all."""

    used: bool = Field(description="Whether predictions leave windows of air out: only when nothing was lost.")
    level: float = Field(
        ge=0, description="Air: no voxel of a prepared window is further above the minimum of its image than this."
    )
    cases: int = Field(ge=0, description="Labelled validation cases that were segmented with and without such windows.")
    windows: int = Field(ge=0, description="Windows of these cases.")
    skipped: int = Field(ge=0, description="Those of them that hold nothing but air.")
    lost: int = Field(ge=0, description="Voxels of labels that were found with all windows, and not without these.")


def write_air(air: Air, fold: FoldFiles) -> None:
    """Write air.json beside the weights; the run's manifest must be renewed."""
    write_unsealed(air, fold.folder / AIR)


def load_air(fold: FoldFiles) -> Air | None:
    """What air.json holds; None when there is none. Raises: BundleError when the manifest lacks it."""
    root = fold.folder.parent
    if not (fold.folder / AIR).is_file():  # then no manifest is asked for, either
        return None
    return read_sealed(Air, root, f"{fold.name}/{AIR}", read_sums(root), remedy="remove it: every window is run then")


def common_air_level(folds: Iterable[FoldFiles]) -> float | None:
    """The level up to which all folds agree that a window is air; None when one has found no such level.

    Raises: BundleError as `load_air`.
    """
    known = [load_air(fold) for fold in folds]
    levels = [air.level for air in known if air is not None and air.used]
    return min(levels) if levels and len(levels) == len(known) else None
