"""Reading back what was written, before a file gets its final name, by other code than wrote it.

highdicom writes; here pydicom parses the file, and bits, frames and places are worked out anew. Nothing of an object in
memory is used: only the file, and what it should say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset

from attunet.data.formats.dicom.contours import Contour, fill_contours
from attunet.data.geometry import LPS_TO_RAS
from attunet.dicom.objects.segmentation_object import MOST_FRACTION, CodedSegment, SegmentKind
from attunet.dicom.objects.source import SourceImages
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["CheckedObject", "check_parametric_map", "check_segmentation", "check_structure_set", "write_checked"]

TOLERANCE_MM = 1e-3


class CheckedObject(NamedTuple):
    """An object to be written, and the comparison of its file with the result.

    Args:
        name: of its file.
        dataset: the object.
        check: reads the file, and raises FormatError when it differs.
    """

    name: str
    dataset: Dataset
    check: Callable[[Path], None]


def write_checked(objects: Iterable[CheckedObject], path: Path) -> tuple[Path, ...]:
    """Write objects into one folder; they get their names when all files were read back and hold what they should.

    Args:
        objects: the objects, which are made one after the other, so that they need not be in memory together.
        path: the file of one of them, which appears last.
    Returns: the files, `path` last.
    Raises: FormatError when a file cannot be written, or differs.
    """
    written = []
    with staged(path) as stage:
        for name, dataset, check in objects:
            dataset.save_as(stage.with_name(name), enforce_file_format=True)
            check(stage.with_name(name))
            written.append(path.with_name(name))
    return (*(file for file in written if file != path), path)


def check_segmentation(
    path: Path,
    pixels: npt.NDArray[Any],
    segments: Sequence[CodedSegment],
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
        absent = (np.flatnonzero(~found) + 1).tolist()
        if any(_of_segment(pixels[plane], number).any() for number in absent):
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


def check_structure_set(
    path: Path, mask: npt.NDArray[Any], segments: Sequence[CodedSegment], source: SourceImages
) -> None:
    """Fill the contours of a structure set, and compare them with the masks that they should give.

    Args:
        path: the file.
        mask: label values (I, J, K) on the source's grid.
        segments: the structures.
        source: the images that it refers to.
    Raises: FormatError when a voxel, a label, a frame of reference or a reference differs.
    """
    dataset = _read(path)
    named = {int(item.ROINumber): str(item.ROIName) for item in dataset.StructureSetROISequence}
    _same(path, "structures", named, {segment.number: segment.label[:64] for segment in segments})
    world = str(source.references[0].FrameOfReferenceUID)
    _same(
        path,
        "frame of reference",
        {str(item.ReferencedFrameOfReferenceUID) for item in dataset.StructureSetROISequence},
        {world},
    )
    drawn = {int(item.ReferencedROINumber): item.get("ContourSequence") or () for item in dataset.ROIContourSequence}
    contours = {segment.number: _by_slice(path, segment, drawn[segment.number], source) for segment in segments}
    for plane in range(mask.shape[2]):
        pixels = np.ascontiguousarray(mask[..., plane])
        here = set(np.unique(pixels).tolist())
        for segment in segments:
            if not (drawn_here := contours[segment.number].get(plane, [])) and not here.intersection(segment.values):
                continue
            if not np.array_equal(fill_contours(drawn_here, pixels.shape), np.isin(pixels, segment.values)):
                raise _different(path, f"the contours of {segment.label} give other voxels in slice {plane}")


def _by_slice(
    path: Path, segment: CodedSegment, drawn: Iterable[Dataset], source: SourceImages
) -> defaultdict[int, list[Contour]]:
    """The contours of a structure in pixels by their slice; each must refer to the image of its slice."""
    inverse = np.linalg.inv(LPS_TO_RAS @ source.series.affine)
    slices: defaultdict[int, list[Contour]] = defaultdict(list)
    for item in drawn:
        points = np.fromstring(item.get_item("ContourData").value, sep="\\").reshape(-1, 3)
        corners = points @ inverse[:3, :3].T + inverse[:3, 3]
        plane = round(float(corners[0, 2]))
        if np.abs(corners[:, 2] - plane).max() > 0.01 or len(points) != item.NumberOfContourPoints:
            raise _different(path, f"a contour of {segment.label} lies between slices")
        _check_image(path, item.ContourImageSequence[0], source, plane)
        slices[plane].append(corners[:, :2])
    return slices


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except Exception as error:  # whose message may quote the file
        raise _different(path, f"pydicom cannot read it ({type(error).__name__})") from None


def _stored_frames(dataset: Dataset, kind: SegmentKind) -> Iterator[npt.NDArray[Any]]:
    """The frames of an object, one by one, from its bytes (PS3.5, 8.1.1: the first pixel of bits is the lowest)."""
    shape = (int(dataset.Rows), int(dataset.Columns))
    size = shape[0] * shape[1]
    dtype = "<u2" if dataset.BitsAllocated == 16 else "u1"
    held = np.frombuffer(dataset.PixelData, dtype)
    for first in range(0, int(dataset.NumberOfFrames) * size, size):
        if kind == "BINARY":
            bits = np.unpackbits(held[first // 8 : -(-(first + size) // 8)], bitorder="little")
            yield bits[first % 8 :][:size].reshape(shape)
        else:
            yield held[first : first + size].reshape(shape)


def _plane(path: Path, dataset: Dataset, group: Dataset, source: SourceImages) -> int:
    """The slice of a frame, from where it says it is; it must refer to the image of that slice."""
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
    plane = round(float(k))
    allowed = max(TOLERANCE_MM, 0.01 * grid.step)  # of sources, whose positions are kept as they are
    if not 0 <= plane < grid.shape[2] or np.abs(np.subtract(position, grid.position(plane))).max() > allowed:
        raise _different(path, f"a frame is at ({i:.2f}, {j:.2f}, {k:.2f}) of the grid")
    if grid.same:
        _check_reference(path, group, source, plane)
    return plane


def _check_reference(path: Path, group: Dataset, source: SourceImages, plane: int) -> None:
    _check_image(path, group.DerivationImageSequence[0].SourceImageSequence[0], source, plane)


def _check_image(path: Path, image: Dataset, source: SourceImages, plane: int) -> None:
    expected = source.image_of(plane)
    if any(image.get(name) != expected.get(name) for name in ("ReferencedSOPInstanceUID", "ReferencedFrameNumber")):
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
