"""The epoch animation: how the attention in a few probe cases changed during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field, field_validator
from scipy import ndimage

from attunet.config.settings import Settings, load_settings
from attunet.data.formats import read_label, read_volume
from attunet.data.volume import Array, Volume
from attunet.errors import DataError
from attunet.names import check_name
from attunet.report.html import Animation
from attunet.report.overlay import draw_overlay
from attunet.report.overlay_data import OverlayData, overlay_data
from attunet.report.views import Plane

__all__ = ["INDEX", "read_attention_frames"]

INDEX = "frames.json"
"""The index of frames and probes; the maps of each gate and probe are in CASE_GATE.nii.gz, (I, J, K, frames)."""

OLD_INDEX = "film.json"
"""Its name in model folders of earlier versions."""

MAX_FRAMES = 16
"""Largest number of frames to show; of more frames, a selection is shown, evenly spaced from the first to the last."""


class _Part(Settings):
    model_config = ConfigDict(extra="ignore")  # training may record more than is shown


class _Epoch(_Part):
    """The epoch in which maps were recorded."""

    epoch: int = Field(ge=0, le=10**9)
    minutes: float | None = Field(None, ge=0, le=1e9)

    def label(self) -> str:
        """Text next to the slider."""
        return f"epoch {self.epoch}" + ("" if self.minutes is None else f", {self.minutes:.1f} min")


class _Probe(_Part):
    """A case whose maps were recorded: its gates, and the file names of its image and label."""

    case: str
    gates: tuple[str, ...]
    image: str
    label: str

    @field_validator("case", "image", "label")
    @classmethod
    def _no_path(cls, value: str) -> str:
        return check_name(value, "recorded case")


class _Index(_Part):
    """The content of frames.json."""

    frames: tuple[_Epoch, ...]
    probes: tuple[_Probe, ...]


def read_attention_frames(
    folder: Path, *, labels: Mapping[str, int] | None = None, modality: str = "other"
) -> list[Animation]:
    """An animation for each probe case: one slice of its image with the label, and each gate's map, epoch by epoch.

    Args:
        folder: the attention frames that were recorded in training.
        labels: label name to value; None to show the values.
        modality: "ct" shows the abdominal window.
    Returns: the animations; empty if no frame was recorded.
    Raises: ConfigError when frames.json is missing or invalid, FormatError when a volume cannot be read, DataError when
        a gate does not have one map for each frame.
    """
    old = folder / OLD_INDEX
    index = load_settings(_Index, old if old.exists() else folder / INDEX)
    if not index.frames:
        return []
    animations = []
    for number, probe in enumerate(index.probes, start=1):
        data = _probe_data(folder, probe, labels, modality)
        maps = {gate: _maps(folder, probe.case, gate, len(index.frames)) for gate in probe.gates}
        caption = f"{probe.case}: attention of every gate during training; outline: the reference."
        animations.append(
            Animation(caption, f"attention_frames_{number}", _frames(data, maps, index.frames, probe.case))
        )
    return animations


def _probe_data(folder: Path, probe: _Probe, labels: Mapping[str, int] | None, modality: str) -> OverlayData:
    """The image and the label of a probe, in the plane with most pixels, axial if all are equal."""
    image, label = read_volume(folder / probe.image), read_label(folder / probe.label)
    names = labels or {str(value): int(value) for value in np.unique(label.array)}
    data = overlay_data(image, label, names, reference=None, attention={}, modality=modality)
    shape = data.image.spatial_shape
    return data.only(min(data.slices, key=lambda plane: shape[plane.axis]))


def _maps(folder: Path, case: str, gate: str, frames: int) -> Volume:
    """The maps of a gate (frames, I, J, K), on their own grid."""
    path = folder / f"{case}_{gate}.nii.gz"
    maps = read_volume(path)
    if maps.channels != frames:
        raise DataError(f"{path} contains {maps.channels} maps, expected {frames}: one for each frame of {INDEX}")
    return maps


def _frames(
    data: OverlayData, maps: Mapping[str, Volume], frames: Sequence[_Epoch], case: str
) -> list[tuple[str, Figure]]:
    (plane,) = data.slices
    chosen = sorted({round(place) for place in np.linspace(0, len(frames) - 1, MAX_FRAMES)})
    figures = []
    for at in chosen:
        attention = {gate: _sampled(volume, at, data, plane) for gate, volume in maps.items()}
        figure = draw_overlay(replace(data, attention=attention), f"{case}: epoch {frames[at].epoch}")
        figures.append((frames[at].label(), figure))
    return figures


def _sampled(maps: Volume, frame: int, data: OverlayData, plane: Plane) -> Array:
    """A map on the grid of the image, correct in the displayed slice: the other slices repeat it at no cost."""
    mapping = np.linalg.inv(maps.affine) @ data.image.affine
    shape, start = list(data.image.spatial_shape), np.zeros(3)
    shape[plane.axis], start[plane.axis] = 1, data.slices[plane]
    rotation = mapping[:3, :3]
    offset = rotation @ start + mapping[:3, 3]
    flat = ndimage.affine_transform(
        maps.array[frame].astype(np.float32), rotation, offset, tuple(shape), order=1, mode="nearest"
    )
    return np.broadcast_to(flat, data.image.spatial_shape)
