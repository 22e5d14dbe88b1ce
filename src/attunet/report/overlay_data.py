"""The data of an overlay: image, masks and maps in canonical orientation on one grid, and the slices to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from attunet.data.volume import Array, Volume
from attunet.errors import GeometryError
from attunet.evaluation.scores import foreground
from attunet.gates import attention_map_names
from attunet.report.views import Plane, canonicalise, cut, focus, planes_of, window

__all__ = ["OverlayData", "overlay_data"]


@dataclass(frozen=True)
class OverlayData:
    """An image with its masks and maps; arrays are (I, J, K) in canonical orientation.

    Args:
        image: the image below the masks.
        segmentation, reference: label values.
        attention: name to coefficients in [0, 1].
        labels: name to value of the foreground, in the order of their colours.
        grey: the intensities shown as black and white.
        slices: the planes to show, and the slice of each.
    """

    image: Volume
    segmentation: Array
    reference: Array | None
    attention: Mapping[str, Array]
    labels: Mapping[str, int]
    grey: tuple[float, float]
    slices: Mapping[Plane, int]

    def picture(self, plane: Plane) -> Array:
        """The image in a plane, (rows, columns, 3) in [0, 1]; three channels of a picture are colours."""
        colored = self.image.channels == 3 and self.image.spatial_shape[2] == 1
        shown = self.image.array[:3] if colored else self.image.array[:1]
        low, high = self.grey
        cuts = [self.cut(channel, plane).astype(np.float64) for channel in shown]
        grey = np.clip((np.nan_to_num(np.stack(cuts, axis=-1), nan=low) - low) / (high - low), 0, 1)
        return np.broadcast_to(grey, (*grey.shape[:2], 3))

    def cut(self, array: Array, plane: Plane) -> Array:
        """The displayed slice of an array in a plane, as (rows, columns)."""
        return cut(array, plane, self.slices[plane])

    def extent(self, plane: Plane) -> tuple[float, float]:
        """Width and height in mm of a plane."""
        return plane.extent(self.image.spatial_shape, self.image.spacing)

    def crosshairs(self, plane: Plane) -> tuple[list[int], list[int]]:
        """The intersections with the other planes: columns of vertical lines, rows of horizontal lines."""
        shape = self.image.spatial_shape
        across, down = (axis for axis in range(3) if axis != plane.axis)
        # as in `cut`: columns and rows run against the first and the second axis
        places = {other.axis: shape[other.axis] - 1 - index for other, index in self.slices.items()}
        columns, rows = ([places[axis]] if axis in places else [] for axis in (across, down))
        return columns, rows

    def only(self, plane: Plane) -> OverlayData:
        """The same data with only this plane."""
        return replace(self, slices={plane: self.slices[plane]})

    def visible(self) -> dict[str, int]:
        """Indices into `labels` of the labels visible in at least one slice."""
        masks = [mask for mask in (self.segmentation, self.reference) if mask is not None]
        values = {int(value) for plane in self.slices for mask in masks for value in np.unique(self.cut(mask, plane))}
        return {name: place for place, (name, value) in enumerate(self.labels.items()) if value in values}


def overlay_data(
    image: Volume,
    segmentation: Volume,
    labels: Mapping[str, int],
    *,
    reference: Volume | None,
    attention: Mapping[str, Volume],
    modality: str,
) -> OverlayData:
    """Bring everything onto the image's grid in canonical orientation, and choose the slices.

    The planes meet in one point of the segmentation, or of the reference if the segmentation is empty. A gate with
    several maps gets an entry for each: "level3" is shown as "level3.1" and "level3.2".

    Args:
        image: the image; its first channel is shown, or three channels of a picture as colours.
        segmentation: one channel of label values.
        labels: label name to value, in the order of their colours.
        reference: the reference mask, if any.
        attention: gate to coefficients in [0, 1].
        modality: "ct" shows the abdominal window, anything else the percentiles of the image.
    Returns: the data of the overlay.
    Raises: GeometryError when the shapes differ.
    """
    for name, other in {"segmentation": segmentation, "reference": reference, **attention}.items():
        if other is not None and other.spatial_shape != image.spatial_shape:
            raise GeometryError(
                f"{name} has shape {other.spatial_shape}, expected the image's {image.spatial_shape}",
                hint="resample it onto the image's grid",
            )
    canonical = canonicalise(image)
    mask = _on(image, segmentation)[0]
    truth = None if reference is None else _on(image, reference)[0]
    point = focus(mask if mask.any() or truth is None else truth)
    return OverlayData(
        image=canonical,
        segmentation=mask,
        reference=truth,
        attention=_maps({gate: _on(image, volume) for gate, volume in attention.items()}),
        labels=foreground(labels),
        grey=window(canonical.array, modality),
        slices={plane: point[plane.axis] for plane in planes_of(image)},
    )


def _maps(gates: Mapping[str, Array]) -> dict[str, Array]:
    """Each map by name, from each gate's maps (maps, I, J, K)."""
    named: dict[str, Array] = {}
    for gate, maps in gates.items():
        named |= zip(attention_map_names(gate, len(maps)), maps, strict=True)
    return named


def _on(image: Volume, other: Volume) -> Array:
    """The array (C, I, J, K) reoriented exactly like the image, regardless of rounding in its own header."""
    return canonicalise(image.with_array(other.array)).array
