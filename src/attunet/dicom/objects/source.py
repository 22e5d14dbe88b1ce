"""The images that a prediction was made from, as objects refer to them: slice by slice, or on a grid of their own.

Source: PS3.3, C.7.6.2.1.1 (position and orientation of a plane); C.8.20.2 (segmentation image).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from attunet.data.cases import Case
from attunet.data.formats.dicom import DicomSeries, choose_series, holds_series, is_archive, is_dicom
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.geometry import LPS_TO_RAS, TOLERANCE, Affine, shear_degrees
from attunet.dicom.objects.grid import ObjectGrid, grid_of
from attunet.dicom.objects.identity import stable_uid
from attunet.errors import FormatError, GeometryError

__all__ = ["SourceImages", "dicom_series_of", "read_source"]

CLOSE = 0.01
"""Largest distance between a slice and its image, as a share of the distance between slices, to share one place."""

_FAR = 1e6  # mm

_KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("Rows", "Columns", "PatientOrientation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_STORED = {
    "SOPClassUID": "MediaStorageSOPClassUID",
    "SOPInstanceUID": "MediaStorageSOPInstanceUID",
    "StudyInstanceUID": None,
    "SeriesInstanceUID": None,
}
"""What a file must say for objects to refer to it, and where its own header says it, too."""


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The source of a prediction.

    Args:
        series: the series, or the part of one, that was read.
        header: the header of its first image, with patient and study.
        references: what objects need to know of each image, without patient: one for each slice, or for the only file.
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

    def image_of(self, plane: int) -> Dataset:
        """The item of a sequence that refers to the image of a slice."""
        reference = self.references[plane if len(self.references) > 1 else 0]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.SOPClassUID, reference.SOPInstanceUID
        if self.frames:
            item.ReferencedFrameNumber = self.frames[plane]
        return item


def dicom_series_of(case: Case) -> DicomSeries | None:
    """The DICOM series of a case, the first of several channels; None when its image is no DICOM.

    Raises: FormatError when there is none that can be read, or several.
    """
    path = case.images[0]
    if not (holds_series(path) if path.is_dir() else is_archive(path) or is_dicom(path)):
        return None
    return choose_series(path, case.key)


def read_source(series: DicomSeries) -> SourceImages:
    """Read the headers of a series, and choose the grid of the objects about it.

    A sheared stack of slices, as of a CT with a tilted gantry, has no grid that every reader understands: its slices
    are moved by whole pixels onto a grid at right angles, which is that of the objects.

    Args: the series, whose affine and slices are those of the volume that was predicted.
    Returns: the source.
    Raises: FormatError when a file cannot be read, GeometryError when no object can refer to its images.
    """
    headers = [_read_header(path) for path in series.files]
    first = headers[0]
    if any(plane.position is None or plane.orientation is None for plane in series.slices):
        return _unplaced(series, headers)
    uneven = _unevenness(series)
    tiled = any(plane.tile is not None for plane in series.slices)
    grid = grid_of(series, even=uneven <= CLOSE * _step(series) and not tiled)
    frames: tuple[int, ...] = ()
    if tiled:
        references = tuple(_tiled_reference(header, grid) for header in headers)
    elif "PerFrameFunctionalGroupsSequence" not in first:
        references = tuple(
            _single_frame_reference(header, plane, grid) for header, plane in zip(headers, series.slices, strict=True)
        )
    elif len(headers) == 1:
        references = (_multi_frame_reference(first, series.slices, grid),)
        frames = tuple(plane.frame + 1 for plane in series.slices)
    else:
        raise GeometryError(
            f"its slices are in {len(headers)} files with frames, to which no object can refer",
            hint="write NIfTI, or predict each file by itself",
        )
    return SourceImages(series, first, references, frames, grid, _notices(series, first, uneven))


def _read_header(path: Path) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            header = dcmread(path, stop_before_pixels=True, force=True)
            header.decode()
    except Exception as error:  # whose message may quote the header
        raise FormatError(f"cannot read the DICOM header of {path}", hint="copy the file again") from error
    for keyword, stored in _STORED.items():
        known = header.get(keyword) or (header.file_meta.get(stored) if stored else None)
        if not known:
            raise FormatError(
                f"{path} has no {keyword}, so that no object can refer to it", hint="repair its header, or write NIfTI"
            )
        setattr(header, keyword, known)
    return header


def _unevenness(series: DicomSeries) -> float:
    """The largest distance in mm of an image from its slice's place in the volume.

    Raises: GeometryError when the volume was put together in another way than the images.
    """
    affine = LPS_TO_RAS @ series.affine
    expected = affine[:3, 3] + np.arange(series.shape[2])[:, None] * affine[:3, 2]
    given = np.array([plane.position for plane in series.slices])
    apart = float(np.linalg.norm(given - expected, axis=1).max())
    if apart > TOLERANCE * np.linalg.norm(affine[:3, 2]) or not all(_fits(plane, affine) for plane in series.slices):
        raise GeometryError(
            "the source images are not where the volume has them, so that no object can refer to them",
            hint="write NIfTI, and report this",
        )
    return apart


def _fits(plane: StoredSlice, affine: Affine) -> bool:
    """Whether the rows and columns of an image run along those of a grid, with its spacing; affine to LPS."""
    row, column = np.reshape(plane.orientation or (), (2, 3))
    lengths = np.linalg.norm(affine[:3, :2], axis=0)
    between_rows, between_columns = plane.spacing or lengths[::-1]
    edges = np.stack([row * between_columns, column * between_rows], axis=1)
    return bool(np.abs(edges - affine[:3, :2]).max() <= 1e-3 * lengths.min())


def _unplaced(series: DicomSeries, headers: Sequence[Dataset]) -> SourceImages:
    """A picture that does not say where it is, such as an X-ray. Raises: GeometryError for several of them."""
    columns, rows, slices = series.shape
    if slices != 1 or len(headers) != 1:
        raise GeometryError(
            f"the {slices} images of the source do not say where they are in the patient, so that no object can refer "
            "to their places",
            hint="write the masks in another format, such as NIfTI",
        )
    header = headers[0]
    reference = _reference(header)  # without its spacing, which highdicom reads only beside a thickness
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


def _single_frame_reference(header: Dataset, plane: StoredSlice, grid: ObjectGrid) -> Dataset:
    """The same with its place, orientation and spacing as the grid has them: tags differ by rounding, or are wrong."""
    reference = _placed_reference(header)
    reference.ImagePositionPatient = _decimals(plane.position or ())
    reference.ImageOrientationPatient = _decimals(grid.orientation)
    reference.PixelSpacing = _decimals(grid.pixel_spacing)
    reference.SliceThickness = reference.SpacingBetweenSlices = format_number_as_ds(grid.step)
    return reference


def _tiled_reference(header: Dataset, grid: ObjectGrid) -> Dataset:
    """The same for an image whose parts are the slices (MOSAIC): it is itself where none of them is."""
    reference = _placed_reference(header)
    reference.ImagePositionPatient = _decimals((_FAR,) * 3)
    reference.ImageOrientationPatient = _decimals(grid.orientation)
    reference.PixelSpacing = _decimals(grid.pixel_spacing)
    reference.SliceThickness = format_number_as_ds(grid.step)
    return reference


def _multi_frame_reference(header: Dataset, planes: Sequence[StoredSlice], grid: ObjectGrid) -> Dataset:
    """The same for a file of several frames; those that are not in the volume are put where no slice is."""
    reference = _placed_reference(header)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = _decimals(grid.orientation)
    measures.PixelSpacing = _decimals(grid.pixel_spacing)
    measures.SliceThickness = measures.SpacingBetweenSlices = format_number_as_ds(grid.step)
    reference.NumberOfFrames = header.NumberOfFrames
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    positions = {plane.frame: plane.position for plane in planes}
    frames = []
    for number in range(int(header.NumberOfFrames)):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = _decimals(positions.get(number) or (_FAR * (number + 1),) * 3)
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    reference.SharedFunctionalGroupsSequence, reference.PerFrameFunctionalGroupsSequence = [shared], frames
    return reference


def _step(series: DicomSeries) -> float:
    return float(np.linalg.norm(series.affine[:3, 2]))


def _decimals(values: Sequence[float]) -> list[str]:
    return [format_number_as_ds(value) for value in values]


def _placed_reference(header: Dataset) -> Dataset:
    reference = _reference(header)
    own = stable_uid("frame of reference", str(header.SeriesInstanceUID))
    reference.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or own
    reference.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    return reference


def _notices(series: DicomSeries, header: Dataset, uneven: float) -> tuple[str, ...]:
    told = []
    if not header.get("FrameOfReferenceUID"):
        told.append("the source series has no frame of reference, so that its DICOM objects have one of their own")
    if any(plane.tile is not None for plane in series.slices):
        told.append("the slices of the source are parts of one image, to which DICOM objects refer as a whole")
    if degrees := shear_degrees(series.affine):
        told.append(
            f"the slices of the source are sheared by {degrees:.1f} degrees, which few readers place rightly: "
            "DICOM objects have a grid at right angles, onto which each slice is moved by whole pixels, at most half a "
            "pixel off its place"
        )
    elif uneven > CLOSE * _step(series):
        told.append(f"the slices of the source are up to {uneven:.3f} mm off an even grid, which DICOM objects have")
    return tuple(told)
