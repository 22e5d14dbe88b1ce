"""A prediction on its way into DICOM objects: what each type of object is made of, checked against, and called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from attunet.config import SegmentCode
from attunet.data.geometry import TOLERANCE
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, copy_patient_and_study
from attunet.dicom.objects.measurement_report import check_measurement_report, make_measurement_report, segment_volumes
from attunet.dicom.objects.overlay import (
    Pictures,
    attention_pictures,
    check_slice_picture,
    make_slice_picture,
    mask_pictures,
)
from attunet.dicom.objects.parametric_map import make_parametric_map, map_frames
from attunet.dicom.objects.read_back import (
    CheckedObject,
    check_parametric_map,
    check_segmentation,
    check_structure_set,
    write_checked,
)
from attunet.dicom.objects.segmentation_object import (
    CodedSegment,
    SegmentKind,
    as_segments,
    make_segmentation,
    segment_frames,
)
from attunet.dicom.objects.source import SourceImages
from attunet.dicom.objects.structure_set import make_structure_set
from attunet.errors import GeometryError
from attunet.inference.prediction import Prediction
from attunet.names import safe_name

__all__ = ["ObjectResult"]

Files = tuple[Path, ...]
FIRST_OF_SEVERAL = 10
"""Series of a gate are numbered from here, those of other types below."""


@dataclass(frozen=True)
class ObjectResult:
    """A prediction with all that its objects need.

    Args:
        prediction: the prediction.
        source: the images that it was made from.
        algorithm: the model.
        codes: label to codes.
        folder: where files go.
        modality: of the model, for the grey window of pictures.
        notices: sentences about the objects, collected while they are made.
    Raises: GeometryError when the prediction is not on the grid of the source.
    """

    prediction: Prediction
    source: SourceImages
    algorithm: Algorithm
    codes: Mapping[str, SegmentCode]
    folder: Path
    modality: str = "other"
    notices: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mask, series = self.prediction.segmentation, self.source.series
        ends = np.array([[0, 0, 0, 1], [*(size - 1 for size in series.shape), 1]]).T
        apart = np.abs((mask.affine - series.affine) @ ends).max()
        if mask.spatial_shape != series.shape or apart > TOLERANCE * min(mask.spacing):
            raise GeometryError(
                f"the mask of {self.prediction.case} is not on the grid of its DICOM series",
                hint="write another type of output, and report this",
            )
        self.notices.update(dict.fromkeys(self.source.notices))
        if not np.isin(mask.array, [value for one in self.segments("BINARY") for value in one.values]).any():
            self.notices["no label was found: its segmentations hold one empty frame of each segment"] = None

    def write_segmentation(self, kind: SegmentKind = "BINARY") -> Files:
        """Write the masks, and where the prediction has them the probabilities as a second object."""
        segments = self.segments(kind)
        pixels = segment_frames(self._mask, segments, self.source.grid)
        name = "seg" if kind == "BINARY" else "labelmap"
        dataset = make_segmentation(self.source, pixels, segments, kind, self._segmentation(kind), self.algorithm)
        more = self._write_probabilities() if kind == "BINARY" and self.prediction.probabilities is not None else ()
        check = partial(check_segmentation, pixels=pixels, segments=segments, kind=kind, source=self.source)
        return (*more, *self._write_one(dataset, name, check))

    def write_structure_set(self) -> Files:
        """Write the masks as contours."""
        segments = self.segments("BINARY")
        identity = self._identity("rtstruct", 3, self._mask)
        dataset = make_structure_set(self.source, self._mask, segments, identity, self.algorithm)
        check = partial(check_structure_set, mask=self._mask, segments=segments, source=self.source)
        return self._write_one(dataset, "rtstruct", check)

    def write_report(self) -> Files:
        """Write the volumes, which refer to the segments of `write_segmentation`."""
        prediction, seg = self.prediction, self._segmentation("BINARY")
        volumes = segment_volumes(self.segments("BINARY"), prediction.volumes_ml, prediction.volume_intervals_ml)
        identity = self._identity("sr", 4, repr(volumes).encode(), seg.instance_uid.encode())
        dataset = make_measurement_report(self.source, seg, volumes, identity, self.algorithm)
        check = partial(check_measurement_report, volumes=volumes, segmentation_uid=seg.instance_uid)
        return self._write_one(dataset, "sr", check)

    def write_attention(self) -> Files:
        """Write the coefficients of each gate as a parametric map."""
        names = {gate: f"{self.prediction.case}_attention_{safe_name(gate)}.dcm" for gate in self.prediction.attention}

        def objects() -> Iterator[CheckedObject]:
            for number, (gate, volume) in enumerate(self.prediction.attention.items(), start=FIRST_OF_SEVERAL):
                frames = map_frames(volume.array, self.source)
                identity = self._identity(f"attention {gate}", number, volume.array)
                dataset = make_parametric_map(self.source, frames, gate, identity, self.algorithm)
                check = partial(check_parametric_map, frames=frames, source=self.source)
                yield CheckedObject(names[gate], self._owned(dataset), check)

        return write_checked(objects(), self.folder / next(reversed(names.values())))

    def write_overlay(self) -> Files:
        """Write pictures of the masks, and of the attention where the prediction has it."""
        image, modality = self.prediction.image.array, self.modality
        written: Files = ()
        for number, (gate, volume) in enumerate(self.prediction.attention.items(), start=5 * FIRST_OF_SEVERAL + 1):
            pictures = attention_pictures(image, volume.array.max(axis=0), modality)
            written += self._write_pictures(f"overlay_{safe_name(gate)}", number, pictures)
        pictures = mask_pictures(image, self._mask, self.segments("BINARY"), modality)
        return written + self._write_pictures("overlay", 5 * FIRST_OF_SEVERAL, pictures)

    def segments(self, kind: SegmentKind) -> tuple[CodedSegment, ...]:
        """The segments of a kind of segmentation. Raises: ConfigError when it cannot hold the labels."""
        return as_segments(self.prediction.labels, self.prediction.regions, self.codes, kind)

    @property
    def _mask(self) -> npt.NDArray[Any]:
        mask: npt.NDArray[Any] = self.prediction.segmentation.array[0]
        return mask

    def _segmentation(self, kind: SegmentKind) -> ObjectIdentity:
        name, position = ("seg", 1) if kind == "BINARY" else ("labelmap", 2)
        return self._identity(name, position, self._mask)

    def _write_probabilities(self) -> Files:
        assert self.prediction.probabilities is not None
        segments = self.segments("BINARY")
        outputs = self.prediction.probabilities.array[-len(segments) :]  # without that of the background
        pixels = np.stack([self.source.grid.frames(each) for each in outputs], axis=-1)
        identity = self._identity("probabilities", 5, self.prediction.probabilities.array)
        dataset = make_segmentation(self.source, pixels, segments, "FRACTIONAL", identity, self.algorithm)
        check = partial(check_segmentation, pixels=pixels, segments=segments, kind="FRACTIONAL", source=self.source)
        return self._write_one(dataset, "probabilities", check)

    def _write_pictures(self, name: str, number: int, pictures: Pictures) -> Files:
        identity = self._identity(name, number, pictures)

        def objects() -> Iterator[CheckedObject]:
            for plane, picture in enumerate(pictures):
                dataset = make_slice_picture(self.source, plane, picture, identity, self.algorithm)
                check = partial(check_slice_picture, plane=plane, picture=picture, source=self.source)
                yield CheckedObject(f"{plane + 1:04d}.dcm", self._owned(dataset), check)

        return write_checked(objects(), self.folder / f"{self.prediction.case}_{name}" / "0001.dcm")

    def _write_one(self, dataset: Dataset, name: str, check: Callable[[Path], None]) -> Files:
        path = self.folder / f"{self.prediction.case}_{name}.dcm"
        return write_checked([CheckedObject(path.name, self._owned(dataset), check)], path)

    def _identity(self, kind: str, position: int, *content: npt.NDArray[Any] | bytes) -> ObjectIdentity:
        number = self.source.series.number
        return ObjectIdentity.of(kind, position, self.source.uids, self.algorithm, content, number)

    def _owned(self, dataset: Dataset) -> Dataset:
        """The object with its patient and study."""
        self.notices.update(dict.fromkeys(copy_patient_and_study(self.source.header, dataset)))
        return dataset
