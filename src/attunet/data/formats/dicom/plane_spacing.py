"""The size of a pixel: in the patient, at the imager, or of an ultrasound region, with a notice for what is guessed."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from attunet.data.formats.dicom.elements import Vector, number_of, values_of, vector_of, whole_of
from attunet.errors import GeometryError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SPACING_TAGS", "check_spacing", "plane_spacing"]

SPACING_TAGS = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "SequenceOfUltrasoundRegions",
)
CM = 3
"""The unit of an ultrasound region's axes, in the table of the standard (PS3.3 C.8.5.5.1.15)."""
MM_PER_CM = 10.0


def plane_spacing(dataset: Dataset) -> tuple[Vector | None, tuple[str, ...]]:
    """Distances in mm between rows and between columns, or None; and what was guessed, in sentences."""
    if (spacing := vector_of(dataset, "PixelSpacing", 2)) is not None:
        return spacing, ()
    if (spacing := vector_of(dataset, "ImagerPixelSpacing", 2)) is not None:
        factor = number_of(dataset, "EstimatedRadiographicMagnificationFactor") or 1.0
        if factor > 1:
            text = f"divided by the estimated magnification of {factor:g}"
            return (spacing[0] / factor, spacing[1] / factor), (f"its spacing is that of the imager, {text}",)
        return spacing, ("its spacing is that of the imager, larger than in the patient by an unknown magnification",)
    if (spacing := vector_of(dataset, "NominalScannedPixelSpacing", 2)) is not None:
        return spacing, ("its spacing is that of the scanned film",)
    return _of_regions(dataset)


def check_spacing(spacing: Vector | None, name: str) -> None:
    """Make sure that a spacing is possible. Raises: GeometryError when it is not."""
    if spacing is not None and not all(isfinite(step) and step > 0 for step in spacing):
        raise GeometryError(f"{name} has a pixel spacing of {spacing[0]:g} x {spacing[1]:g} mm", hint="export it again")


def _of_regions(dataset: Dataset) -> tuple[Vector | None, tuple[str, ...]]:
    """The spacing of ultrasound regions in cm, where all agree."""
    found = set()
    for region in values_of(dataset, "SequenceOfUltrasoundRegions"):
        units = whole_of(region, "PhysicalUnitsXDirection"), whole_of(region, "PhysicalUnitsYDirection")
        steps = number_of(region, "PhysicalDeltaX"), number_of(region, "PhysicalDeltaY")
        if units == (CM, CM) and all(steps):
            found.add((abs(steps[1] or 0) * MM_PER_CM, abs(steps[0] or 0) * MM_PER_CM))
    if len(found) == 1:
        return found.pop(), ()
    if found:
        return None, (f"its {len(found)} ultrasound regions have different spacings; none is taken",)
    return None, ()
