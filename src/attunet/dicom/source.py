"""The images that a prediction was made from, as DICOM objects refer to them: slice by slice, or on a grid of their own.

Source: PS3.3, C.7.6.2.1.1 (position and orientation of a plane); C.8.20.2 (segmentation image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds
from scipy.spatial import cKDTree

from attunet.data.formats.dicom import DicomSeries
from attunet.data.geometry import LPS_TO_RAS, Affine, shear_degrees
from attunet.dicom.identity import stable_uid
from attunet.errors import FormatError, GeometryError

__all__ = ["ObjectGrid", "SourceImages", "read_source"]

CLOSE = 0.01
"""Largest distance between a slice and its image, as a share of the distance between slices."""

_KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("Rows", "Columns", "NumberOfFrames"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_PLANE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_STORED = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}


@dataclass(frozen=True, eq=False)
class ObjectGrid:
    """The grid of the objects that are written for a source.

    Args:
        affine: 4x4, voxel indices to RAS millimetres; its third axis is at right angles to the others.
        shape: (I, J, K) of its arrays.
        shifts: by how many columns and rows each slice of the source is moved onto it, (K, 2); all zero unless the
            source is sheared.
        placed: whether the images say where they are; otherwise the only plane is that of the only image.
        same: whether its slices are those of the source images, pixel by pixel.
    """

    affine: Affine
    shape: tuple[int, int, int]
    shifts: npt.NDArray[np.int64]
    placed: bool
    same: bool

    @property
    def step(self) -> float:
        """Distance between neighbouring slices in mm."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance between rows, then between columns, in mm, as in the attribute of this name."""
        column, row = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(row), float(column)

    @property
    def orientation(self) -> tuple[float, ...]:
        """Direction cosines of a row and of a column in the world of DICOM, LPS."""
        directions = (LPS_TO_RAS @ self.affine)[:3, :2]
        return tuple(float(value) for value in (directions / np.linalg.norm(directions, axis=0)).T.ravel())

    def position(self, slice_index: int) -> tuple[float, float, float]:
        """The centre of the first pixel of a slice in LPS mm."""
        x, y, z, _ = LPS_TO_RAS @ self.affine @ (0, 0, slice_index, 1)
        return float(x), float(y), float(z)

    def frames(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array (I, J, K) of the source's grid as frames of this one: (slices, rows, columns)."""
        planes = array.transpose(2, 1, 0)
        if self.shape == array.shape and not self.shifts.any():
            return planes
        moved = np.zeros((self.shape[2], self.shape[1], self.shape[0]), array.dtype)
        rows, columns = planes.shape[1:]
        for plane, target, (column, row) in zip(planes, moved, self.shifts, strict=True):
            target[row : row + rows, column : column + columns] = plane
        return moved


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The source of a prediction.

    Args:
        series: the series, or the part of one, that was read.
        header: the header of its first image, with patient and study.
        references: what objects need to know of each image, without patient: one for each slice, or of the only file.
        frames: for each slice the number of its frame from 1, where one file holds all slices; empty otherwise.
        grid: of the objects.
        notices: what was guessed, or differs from the source.
    """

    series: DicomSeries
    header: Dataset
    references: tuple[Dataset, ...]
    frames: tuple[int, ...]
    grid: ObjectGrid
    notices: tuple[str, ...]

    @cached_property
    def uids(self) -> tuple[str, ...]:
        """What identifies the source: its series, its images and, of a file of several, the frames that were read."""
        images = (str(reference.SOPInstanceUID) for reference in self.references)
        return (self.series.uid, *images, *map(str, self.frames))


def read_source(series: DicomSeries) -> SourceImages:
    """Read the headers of a series, and choose the grid of the objects about it.

    A sheared stack of slices, as of a CT with a tilted gantry, has no grid that every reader understands: its slices are
    moved by whole pixels onto a grid at right angles, which is that of the objects.

    Args: the series, whose affine and slices are those of the volume that was predicted.
    Returns: the source.
    Raises: FormatError when a file cannot be read, GeometryError when its images are not where the volume has them.
    """
    headers = [_read_header(path) for path in series.files]
    first = headers[0]
    inside = len(headers) == 1 and "PerFrameFunctionalGroupsSequence" in first
    planes = _planes_of_frames(first) if inside else headers
    if not all("ImagePositionPatient" in plane and "ImageOrientationPatient" in plane for plane in planes):
        return _unplaced(series, headers)
    order = _slices(series, planes)
    grid = _grid(series)
    if inside:
        references: tuple[Dataset, ...] = (_multi_frame_reference(first, planes, grid),)
    else:
        references = tuple(_single_frame_reference(headers[index], grid) for index in order)
        first = headers[order[0]]
    frames = tuple(index + 1 for index in order) if inside else ()
    return SourceImages(series, first, references, frames, grid, _notices(series, first))


def _read_header(path: Path) -> Dataset:
    try:
        header = dcmread(path, stop_before_pixels=True, force=True)
        header.decode()
    except Exception as error:  # whose message may quote the header
        raise FormatError(f"cannot read the DICOM header of {path}", hint="copy the file again") from error
    for keyword, stored in _STORED.items():
        if not header.get(keyword):
            known = header.file_meta.get(stored)
            if not known:
                raise FormatError(f"{path} has no {keyword}, so that no object can refer to it", hint="repair its header")
            setattr(header, keyword, known)
    return header


def _planes_of_frames(header: Dataset) -> list[Dataset]:
    """The position, orientation and spacing of each frame of an enhanced image."""
    shared = header.SharedFunctionalGroupsSequence[0]
    planes = []
    for own in header.PerFrameFunctionalGroupsSequence:
        plane = Dataset()
        for name in _PLANE_GROUPS:
            for group in (own.get(name) or shared.get(name) or ())[:1]:
                plane.update(group)
        planes.append(plane)
    return planes


def _slices(series: DicomSeries, planes: Sequence[Dataset]) -> list[int]:
    """The index of the image of each slice. Raises: GeometryError when an image is not where the volume has it."""
    affine = LPS_TO_RAS @ series.affine
    expected = (affine @ [[0], [0], [0], [1]])[:3].T + np.arange(series.shape[2])[:, None] * affine[:3, 2]
    given = np.array([[float(value) for value in plane.ImagePositionPatient] for plane in planes])
    distances, order = cKDTree(given).query(expected)
    limit = CLOSE * float(np.linalg.norm(affine[:3, 2]))
    unlike = [index for index in order if not _fits(planes[index], affine)]
    if distances.max() > limit or len(set(order)) < len(order) or unlike:
        far = int(np.argmax(distances))
        raise GeometryError(
            f"slice {far} of the volume has no image at its place in the source series (the nearest is "
            f"{distances[far]:.3f} mm away)"
            if distances.max() > limit
            else "the source images do not have the directions and the spacing of the volume",
            hint="DICOM objects need images at equal distances; write NIfTI, or predict a series that has them",
        )
    return [int(index) for index in order]


def _fits(plane: Dataset, affine: Affine) -> bool:
    """Whether the rows and columns of an image run along those of a grid, with its spacing; affine to LPS."""
    row, column = np.reshape([float(value) for value in plane.ImageOrientationPatient], (2, 3))
    between_rows, between_columns = (float(value) for value in plane.PixelSpacing)
    edges = np.stack([row * between_columns, column * between_rows], axis=1)
    return bool(np.abs(edges - affine[:3, :2]).max() <= 1e-3 * min(between_rows, between_columns))


def _grid(series: DicomSeries) -> ObjectGrid:
    """The grid of the volume, or one at right angles that holds all its slices where it is sheared."""
    columns, rows, slices = series.shape
    none = np.zeros((slices, 2), np.int64)
    if not shear_degrees(series.affine):
        return ObjectGrid(series.affine, series.shape, none, placed=True, same=True)
    edges = series.affine[:3, :3]
    normal = np.cross(edges[:, 0], edges[:, 1])
    normal /= np.linalg.norm(normal)
    straight = normal * (normal @ edges[:, 2])
    drift = np.linalg.lstsq(edges[:, :2], edges[:, 2] - straight, rcond=None)[0]  # pixels from slice to slice
    shifts = np.rint(np.arange(slices)[:, None] * drift).astype(np.int64)
    least = shifts.min(axis=0)
    affine = series.affine.copy()
    affine[:3, 2] = straight
    affine[:3, 3] += edges[:, :2] @ least
    more = shifts.max(axis=0) - least
    shape = (columns + int(more[0]), rows + int(more[1]), slices)
    return ObjectGrid(affine, shape, shifts - least, placed=True, same=False)


def _unplaced(series: DicomSeries, headers: Sequence[Dataset]) -> SourceImages:
    """A picture that does not say where it is, such as an X-ray. Raises: GeometryError for several of them."""
    columns, rows, slices = series.shape
    if slices != 1 or len(headers) != 1:
        raise GeometryError(
            f"the {slices} images of the source do not say where they are in the patient, so that no object can refer to "
            "their places",
            hint="write the masks in another format, such as NIfTI",
        )
    header = headers[0]
    reference = _reference(header)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if keyword in header and "PixelSpacing" not in reference:
            reference.PixelSpacing = header[keyword].value
    grid = ObjectGrid(series.affine, (columns, rows, 1), np.zeros((1, 2), np.int64), placed=False, same=True)
    return SourceImages(series, header, (reference,), (), grid, ())


def _reference(header: Dataset) -> Dataset:
    """What objects need to know of an image, whatever its kind: no patient, no date."""
    reference = Dataset()
    for keyword in _KEPT:
        if keyword in header:
            setattr(reference, keyword, header[keyword].value)
    for keyword in _EMPTY:
        setattr(reference, keyword, "")
    return reference


def _single_frame_reference(header: Dataset, grid: ObjectGrid) -> Dataset:
    """The same with its place, orientation and spacing as the grid has them: tags differ by rounding, or are wrong."""
    reference = _placed_reference(header)
    reference.ImagePositionPatient = header.ImagePositionPatient
    reference.ImageOrientationPatient = [format_number_as_ds(value) for value in grid.orientation]
    reference.PixelSpacing = [format_number_as_ds(value) for value in grid.pixel_spacing]
    reference.SliceThickness = reference.SpacingBetweenSlices = format_number_as_ds(grid.step)
    return reference


def _multi_frame_reference(header: Dataset, planes: Sequence[Dataset], grid: ObjectGrid) -> Dataset:
    reference = _placed_reference(header)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [format_number_as_ds(value) for value in grid.orientation]
    measures.PixelSpacing = [format_number_as_ds(value) for value in grid.pixel_spacing]
    measures.SliceThickness = measures.SpacingBetweenSlices = format_number_as_ds(grid.step)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    frames = []
    for plane in planes:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = plane.ImagePositionPatient
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    reference.SharedFunctionalGroupsSequence, reference.PerFrameFunctionalGroupsSequence = [shared], frames
    return reference


def _placed_reference(header: Dataset) -> Dataset:
    reference = _reference(header)
    own = stable_uid("frame of reference", str(header.SeriesInstanceUID))
    reference.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or own
    reference.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    return reference


def _notices(series: DicomSeries, header: Dataset) -> tuple[str, ...]:
    told = []
    if not header.get("FrameOfReferenceUID"):
        told.append("the source series has no frame of reference, so that its DICOM objects have one of their own")
    if degrees := shear_degrees(series.affine):
        told.append(
            f"the slices of the source are sheared by {degrees:.1f} degrees, which few readers place rightly: DICOM "
            "objects have a grid at right angles, onto which each slice is moved by whole pixels, at most half of one off"
        )
    return tuple(told)
