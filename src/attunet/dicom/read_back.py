"""Reading back what was written, before a file gets its final name, by other code than wrote it.

highdicom writes; here pydicom parses the file, and bits, frames and places are worked out anew. Nothing of an object in
memory is used: only the file, and what it should say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset

from attunet.data.geometry import LPS_TO_RAS
from attunet.dicom.segmentation_object import MOST_FRACTION, Segment, SegmentKind
from attunet.dicom.source import SourceImages
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["check_parametric_map", "check_segmentation", "write_checked"]

TOLERANCE_MM = 1e-3


def write_checked(dataset: Dataset, path: Path, check: Callable[[Path], None]) -> None:
    """Write an object; it gets its name only after the file was read back and found to hold what it should.

    Args:
        dataset: the object.
        path: the file.
        check: reads a file, and raises FormatError when it differs.
    Raises: FormatError when the file cannot be written, or differs.
    """
    with staged(path) as stage:
        dataset.save_as(stage, enforce_file_format=True)
        check(stage)


def check_segmentation(
    path: Path,
    pixels: npt.NDArray[Any],
    segments: Sequence[Segment],
    kind: SegmentKind,
    source: SourceImages,
) -> None:
    """Compare a segmentation object with the masks or probabilities that it should hold.

    Args:
        path: the file.
        pixels: as of `make_segmentation`.
        segments: what they mean.
        kind: how they are stored.
        source: the images that it refers to.
    Raises: FormatError when grid, voxels, labels or references differ.
    """
    dataset = _read(path)
    described = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    described.pop(0, None)
    _same(path, "labels", described, {segment.number: segment.label[:64] for segment in segments})
    _same(path, "kind", str(dataset.SegmentationType), kind)
    frames = _stored_frames(dataset, kind)
    seen = np.zeros((len(pixels), len(segments)), bool)
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        plane = _plane(path, dataset, group, source)
        if kind == "LABELMAP":
            expected, own = pixels[plane], np.ones(len(segments), bool)
        else:
            number = _segment_number(dataset, group)
            expected, own = _of_segment(pixels[plane], number), np.arange(1, len(segments) + 1) == number
        wanted = np.rint(expected * np.float32(MOST_FRACTION)) if kind == "FRACTIONAL" else expected
        if not np.array_equal(frame, wanted):
            raise _different(path, f"the voxels of slice {plane} differ")
        if (seen[plane] & own).any():
            raise _different(path, f"slice {plane} is there twice")
        seen[plane] |= own
    for plane, found in enumerate(seen):
        if not found.all() and any(_of_segment(pixels[plane], number + 1).any() for number in np.flatnonzero(~found)):
            raise _different(path, f"slice {plane} is missing")


def check_parametric_map(path: Path, frames: npt.NDArray[np.float32], source: SourceImages) -> None:
    """Compare a parametric map with the values that it should hold, bit by bit.

    Args:
        path: the file.
        frames: (slices, rows, columns, maps).
        source: the images that it refers to.
    Raises: FormatError when grid, values or references differ.
    """
    dataset = _read(path)
    stored = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(-1, dataset.Rows, dataset.Columns)
    groups = dataset.PerFrameFunctionalGroupsSequence
    seen = set()
    for group, frame in zip(groups, stored, strict=True):
        plane = _plane(path, dataset, group, source)
        mapping = (group.get("RealWorldValueMappingSequence") or _shared(dataset).RealWorldValueMappingSequence)[0]
        number = int(str(mapping.LUTLabel).split()[-1])
        if not np.array_equal(frame, frames[plane, ..., number - 1]):
            raise _different(path, f"the values of slice {plane} differ")
        seen.add((plane, number))
    _same(path, "number of slices", len(seen), frames.shape[0] * frames.shape[-1])


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except Exception as error:  # whose message may quote the file
        raise _different(path, f"pydicom cannot read it ({type(error).__name__})") from None


def _stored_frames(dataset: Dataset, kind: SegmentKind) -> npt.NDArray[Any]:
    """The frames of an object from its bytes (PS3.5, 8.1.1: the first pixel of bits is the lowest)."""
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    if kind == "BINARY":
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        return bits[: int(np.prod(shape))].reshape(shape)
    dtype = "<u2" if dataset.BitsAllocated == 16 else "u1"
    return np.frombuffer(dataset.PixelData, dtype)[: int(np.prod(shape))].reshape(shape)


def _plane(path: Path, dataset: Dataset, group: Dataset, source: SourceImages) -> int:
    """The slice of a frame, from where it says it is; the images that it says it came from must be those of the slice."""
    grid = source.grid
    _same(path, "size", (int(dataset.Columns), int(dataset.Rows)), grid.shape[:2])
    if not grid.placed:
        return 0
    shared = _shared(dataset)
    orientation = [float(value) for value in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    measures = shared.PixelMeasuresSequence[0]
    spacing = [*map(float, measures.PixelSpacing), float(measures.SpacingBetweenSlices)]
    if not np.allclose(orientation, grid.orientation, atol=1e-6):
        raise _different(path, "the orientation differs")
    if not np.allclose(spacing, (*grid.pixel_spacing, grid.step), rtol=1e-6):
        raise _different(path, "the spacing differs")
    position = [float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient]
    i, j, k, _ = np.linalg.solve(LPS_TO_RAS @ grid.affine, [*position, 1.0])
    plane = round(k)
    allowed = max(TOLERANCE_MM, 0.01 * grid.step)  # of sources, whose positions are kept as they are
    if not 0 <= plane < grid.shape[2] or np.abs(np.subtract(position, grid.position(plane))).max() > allowed:
        raise _different(path, f"a frame is at ({i:.2f}, {j:.2f}, {k:.2f}) of the grid")
    if grid.same:
        _check_reference(path, group, source, plane)
    return plane


def _check_reference(path: Path, group: Dataset, source: SourceImages, plane: int) -> None:
    image = group.DerivationImageSequence[0].SourceImageSequence[0]
    expected = source.references[0 if source.frames else plane].SOPInstanceUID
    frame = source.frames[plane] if source.frames else None
    given = image.get("ReferencedFrameNumber")
    if image.ReferencedSOPInstanceUID != expected or (given is None) != (frame is None) or (frame and given != frame):
        raise _different(path, f"slice {plane} refers to another image")


def _segment_number(dataset: Dataset, group: Dataset) -> int:
    own = group if "SegmentIdentificationSequence" in group else _shared(dataset)
    return int(own.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _of_segment(plane: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """The mask or the probabilities of one segment in a plane (rows, columns) or (rows, columns, segments)."""
    return plane[..., number - 1] if plane.ndim == 3 else plane == number


def _shared(dataset: Dataset) -> Dataset:
    shared: Dataset = dataset.SharedFunctionalGroupsSequence[0]
    return shared


def _same(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise _different(path, f"its {what} is {found}, expected {expected}")


def _different(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{path} was read back and differs from the result: {why}; it was not written",
        hint="write NIfTI instead, and report this",
    )
