"""The types of DICOM objects that are written of a prediction: one table, and the writer that a batch uses.

Every object is read back by other code before its file gets its name, and has the same UIDs whenever the same result of
the same model is written for the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from attunet.config import SegmentCode
from attunet.data.cases import Case
from attunet.dicom.objects.codes import segment_codes
from attunet.dicom.objects.identity import Algorithm, making
from attunet.dicom.objects.result import ObjectResult
from attunet.dicom.objects.segmentation_object import as_segments
from attunet.dicom.objects.source import SourceImages, dicom_series_of, read_source
from attunet.errors import ConfigError, GeometryError
from attunet.inference.destination import Written
from attunet.inference.prediction import Prediction
from attunet.inference.segmenter import Segmenter

__all__ = ["DICOM_TYPES", "DicomWriter", "ObjectType"]


@dataclass(frozen=True, kw_only=True)
class ObjectType:
    """A type of DICOM object.

    Args:
        holds: what it holds, in a few words.
        write: writes a result, and returns its files, the last one last.
        marker: the file that tells that it was written, after the name of the case.
        needs: another type that it refers to.
        attention: whether it is made of the attention.
        placed: whether its images must say where they are in the patient, which pictures such as X-rays do not.
    """

    holds: str
    write: Callable[[ObjectResult], tuple[Path, ...]]
    marker: str
    needs: str | None = None
    attention: bool = False
    placed: bool = False


DICOM_TYPES: dict[str, ObjectType] = {
    "dicom-attention": ObjectType(
        holds="a parametric map of each gate's coefficients",
        write=ObjectResult.write_attention,
        marker="_attention_*.dcm",
        attention=True,
        placed=True,
    ),
    "dicom-overlay": ObjectType(
        holds="colour pictures of the masks, and with --attention of each gate, as a secondary capture series",
        write=ObjectResult.write_overlay,
        marker="_overlay/0001.dcm",
    ),
    "dicom-rtstruct": ObjectType(
        holds="an RT structure set of contours",
        write=ObjectResult.write_structure_set,
        marker="_rtstruct.dcm",
        placed=True,
    ),
    "dicom-labelmap": ObjectType(
        holds="a segmentation object of one label map, which few readers know yet",
        write=lambda result: result.write_segmentation("LABELMAP"),
        marker="_labelmap.dcm",
    ),
    "dicom-seg": ObjectType(
        holds="a segmentation object, and with --save-probabilities a fractional one",
        write=lambda result: result.write_segmentation("BINARY"),
        marker="_seg.dcm",
    ),
    "dicom-sr": ObjectType(
        holds="a structured report of the volumes in ml with their intervals; adds dicom-seg, to which it refers",
        write=ObjectResult.write_report,
        marker="_sr.dcm",
        needs="dicom-seg",
        placed=True,
    ),
}
"""Every type by its name, in the order in which they are written."""


@dataclass(frozen=True)
class DicomWriter:
    """Writes DICOM objects about predictions, as `Destination.writer`.

    Args:
        types: keys of `DICOM_TYPES`, in the order of the table.
        algorithm: the model.
        codes: label to codes.
        modality: of the model.
        notices: what to know about all objects, in sentences.
    """

    types: tuple[str, ...]
    algorithm: Algorithm
    codes: Mapping[str, SegmentCode]
    modality: str = "other"
    notices: tuple[str, ...] = ()

    @classmethod
    def of(cls, types: Sequence[str], segmenter: Segmenter) -> Self:
        """The writer of some types for a model.

        Raises: ConfigError for an unknown type, one that cannot hold the model's labels, or a model that was not loaded
            from a folder.
        """
        if unknown := [name for name in types if name not in DICOM_TYPES]:
            raise ConfigError(f"{unknown[0]} is no type of DICOM object", hint=f"choose from {', '.join(DICOM_TYPES)}")
        if segmenter.manifest is None:
            raise ConfigError(
                "DICOM objects name their model by its manifest, and this one was not loaded from a folder",
                hint="use Segmenter.load",
            )
        chosen = {*types, *(needed for name in types if (needed := DICOM_TYPES[name].needs))}
        codes, notices = segment_codes(segmenter.plan)
        if "dicom-labelmap" in chosen:
            as_segments(segmenter.plan.labels, segmenter.plan.regions, codes, "LABELMAP")
        algorithm = Algorithm(" ".join(segmenter.plan.name.split())[:64] or "model", segmenter.manifest)
        ordered = tuple(name for name in DICOM_TYPES if name in chosen)
        return cls(ordered, algorithm, codes, segmenter.plan.modality, notices)

    @property
    def attention(self) -> bool:
        """Whether one of the types is made of the attention."""
        return any(DICOM_TYPES[name].attention for name in self.types)

    def begin(self, cases: Sequence[Case]) -> None:
        """See `CaseWriter.begin`: every case must be a DICOM series; those at URLs are seen when they are fetched."""
        others = [case.id for case in cases if not case.remote and dicom_series_of(case) is None]
        if others:
            raise ConfigError(
                f"{', '.join(self.types)} need DICOM images, which {', '.join(others[:5])} "
                f"{'are' if len(others) > 1 else 'is'} not",
                hint="write --output-type nifti for them, or give their DICOM series",
            )

    def check(self, case: Case) -> None:
        """See `CaseWriter.check`: its images must be such that objects can refer to them."""
        self._source(case)

    def done(self, case: Case, exists: Callable[[str], bool]) -> bool:
        """See `CaseWriter.done`."""
        return all(exists(f"{case.id}{DICOM_TYPES[name].marker}") for name in self.types)

    def write(self, prediction: Prediction, case: Case, output: Path) -> tuple[Written, tuple[str, ...]]:
        """See `CaseWriter.write`."""
        source = self._source(case)
        with making("DICOM"):
            result = ObjectResult(
                replace(prediction, case=case.id), source, self.algorithm, self.codes, output, self.modality
            )
        written: Written = {}
        for name in self.types:
            with making(name):
                written[name] = DICOM_TYPES[name].write(result)
        return written, tuple(result.notices)

    def _source(self, case: Case) -> SourceImages:
        """The images of a case. Raises: DataError as `read_source`, and when one of the types needs their place."""
        series = dicom_series_of(case)
        assert series is not None
        with making("DICOM"):
            source = _read_source(series)
        if not source.grid.placed and (homeless := [name for name in self.types if DICOM_TYPES[name].placed]):
            raise GeometryError(
                f"the image does not say where it is in the patient, which {', '.join(homeless)} must",
                hint="write dicom-seg, dicom-overlay or nifti",
            )
        return source


_read_source = lru_cache(maxsize=4)(read_source)
"""The sources of the cases that are at work: each is read before its prediction, and wanted again after it."""
