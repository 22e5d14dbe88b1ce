"""What was found in DICOM files: the series that can be read as volumes, and what was left out or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.volume import Affine, Spacing

__all__ = ["DicomSeries", "SeriesListing", "SetAside", "is_chosen", "series_key"]


class SetAside(NamedTuple):
    """Files of which no volume is made.

    Args:
        what: what they are, such as "localizer", or the series that they belong to.
        why: why no volume is made of them, with the names of files where only some of a series are at fault.
        files: the files.
        key: as that of `DicomSeries`, of a series that is refused; empty for what is no series.
        number: its SeriesNumber.
    """

    what: str
    why: str
    files: tuple[Path, ...]
    key: str = ""
    number: int | None = None

    def __str__(self) -> str:
        """Both in one line."""
        return f"{self.what}: {self.why}"


def series_key(uid: str, part: int) -> str:
    """The key of a series, or of a part of it from 1: its UID, and the number of the part after a #."""
    return f"{uid}#{part}" if part else uid


def is_chosen(key: str, number: int | None, wanted: str) -> bool:
    """Whether a series is one that a user names.

    Args:
        key: its key.
        number: its SeriesNumber.
        wanted: a key, a UID, a number, or a number and a part, such as 4#2.
    Returns: whether the name fits.
    """
    uid, _, part = key.partition("#")
    numbered = "" if number is None else str(number)
    return wanted in (key, uid) or (numbered != "" and wanted in (numbered, f"{numbered}#{part}"))


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One series that can be read as one volume, or a part of a series, such as one of its acquisitions.

    Args:
        uid: its SeriesInstanceUID.
        study_uid: its StudyInstanceUID.
        modality: such as CT, MR, PT; empty when the files do not say.
        description: its SeriesDescription, empty when there is none.
        number: its SeriesNumber.
        files: its files, sorted along the normal of the slices, or the one file that holds them all.
        shape: columns, rows and slices (I, J, K).
        affine: 4x4, voxel indices to RAS+ millimetres; the k-th slice is `files[k]`, or the k-th of `slices`.
        notices: what was odd, guessed or left out, in sentences.
        part: number of this part from 1 where a series makes several volumes; 0 where it makes one.
        spaced: whether the files give the size of a pixel; otherwise 1 mm is assumed.
        slices: the slices in order, with how each is stored.
        owner: what keeps the files until the series is forgotten, where they come from an archive.
    """

    uid: str
    study_uid: str
    modality: str
    description: str
    number: int | None
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine: Affine
    notices: tuple[str, ...] = ()
    part: int = 0
    spaced: bool = True
    slices: tuple[StoredSlice, ...] = field(default=(), repr=False)
    owner: object = field(default=None, repr=False)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along columns, rows and slices."""
        i, j, k = map(float, np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @property
    def key(self) -> str:
        """What tells it from the other series of a folder: its UID, and the number of the part after a #."""
        return series_key(self.uid, self.part)


@dataclass(frozen=True, eq=False)
class SeriesListing:
    """The series of a folder, an archive or a file.

    Args:
        path: what was searched.
        series: those that can be read, in order of number and UID.
        left_out: what is no image to segment: localizers, reports, secondary captures, segmentations.
        refused: series that cannot be read exactly.
        notices: what is odd about the whole, in sentences.
    """

    path: Path
    series: tuple[DicomSeries, ...] = ()
    left_out: tuple[SetAside, ...] = ()
    refused: tuple[SetAside, ...] = ()
    notices: tuple[str, ...] = ()
