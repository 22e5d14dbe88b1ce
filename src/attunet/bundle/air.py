"""air.json of a fold: which windows of an image hold nothing but air, as its validation cases taught."""

from __future__ import annotations

import json

from pydantic import Field

from attunet.bundle.manifest import read_sums
from attunet.bundle.run import FoldFiles
from attunet.config import Settings, load_settings
from attunet.errors import BundleError
from attunet.files import write_text

__all__ = ["AIR", "Air", "load_air", "write_air"]

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
    write_text(fold.folder / AIR, json.dumps(air.model_dump(mode="json"), indent=2) + "\n")


def load_air(fold: FoldFiles) -> Air | None:
    """What air.json holds; None when there is none. Raises: BundleError when the manifest lacks it."""
    path = fold.folder / AIR
    if not path.is_file():
        return None
    if f"{fold.name}/{AIR}" not in read_sums(fold.folder.parent):
        raise BundleError(
            f"{path} is not in the manifest, so it is not known to belong to the model",
            hint="remove it: every window is run then",
        )
    return load_settings(Air, path)
