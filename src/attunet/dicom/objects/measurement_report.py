"""Measurement reports: the volume of each label in ml, with its prediction interval where the model has one.

Source: PS3.16, TID 1500 (Measurement Report), TID 1411 (Volumetric ROI Measurements), TID 310 (Measurement Properties).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import SegmentationStorage

from attunet.config import PredictionInterval
from attunet.data.geometry import rounded
from attunet.dicom.objects.codes import LOCAL_SCHEME
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, stable_uid
from attunet.dicom.objects.segmentation_object import CodedSegment, tracking_uid
from attunet.dicom.objects.source import SourceImages
from attunet.errors import FormatError

__all__ = ["SegmentVolume", "check_measurement_report", "make_measurement_report", "segment_volumes"]

MILLILITER = DicomCode("ml", "UCUM", "milliliter")
DIGITS = 3
"""Decimals of a volume in ml; significant digits of one below 0.1 ml."""

PROCEDURES = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
}
"""Modality to the procedure that is reported; any other is an imaging procedure."""


@dataclass(frozen=True)
class SegmentVolume:
    """What is reported of one segment.

    Args:
        segment: the segment.
        ml: its volume.
        interval: the prediction interval of the volume; None where the model has none.
    """

    segment: CodedSegment
    ml: float
    interval: PredictionInterval | None


def segment_volumes(
    segments: Sequence[CodedSegment], volumes: Mapping[str, float], intervals: Mapping[str, PredictionInterval | None]
) -> tuple[SegmentVolume, ...]:
    """The volumes of all segments, rounded as they are reported.

    Args:
        segments: the segments.
        volumes: label to ml.
        intervals: label to the interval of its volume.
    Returns: one for each segment.
    """
    found = []
    for segment in segments:
        known = intervals.get(segment.label)
        interval = known and PredictionInterval(rounded(known.low, DIGITS), rounded(known.high, DIGITS), known.level)
        found.append(SegmentVolume(segment, rounded(volumes[segment.label], DIGITS), interval))
    return tuple(found)


def make_measurement_report(
    source: SourceImages,
    segmentation: ObjectIdentity,
    volumes: Sequence[SegmentVolume],
    identity: ObjectIdentity,
    algorithm: Algorithm,
) -> Dataset:
    """A report without patient and study.

    Args:
        source: the images.
        segmentation: the binary segmentation object, to whose segments the report refers.
        volumes: what is reported.
        identity: UIDs and numbers.
        algorithm: what made it.
    Returns: the object.
    """
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=stable_uid("device", algorithm.manifest),
        name=algorithm.name,
        manufacturer_name="attunet",
        model_name=f"attunet {algorithm.version}",
        serial_number=algorithm.manifest,
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=PROCEDURES.get(source.series.modality, codes.cid100.ImagingProcedure),
        imaging_measurements=[_group(source, segmentation, volume, algorithm) for volume in volumes],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.Comprehensive3DSR(
        evidence=[*source.references, _evidence(source, segmentation)],
        content=report[0],
        is_complete=True,
        specific_character_set="ISO_IR 192",
        **identity.arguments(algorithm),
    )


def _evidence(source: SourceImages, segmentation: ObjectIdentity) -> Dataset:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = SegmentationStorage, segmentation.instance_uid
    item.StudyInstanceUID, item.SeriesInstanceUID = source.references[0].StudyInstanceUID, segmentation.series_uid
    return item


def _group(
    source: SourceImages, segmentation: ObjectIdentity, volume: SegmentVolume, algorithm: Algorithm
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """The measurements of one segment; those of an empty one say 0 ml."""
    segment, code = volume.segment, volume.segment.code
    site = code.region or (code.type if code.category[0] == _ANATOMY else None)
    side = code.region_modifier if code.region else code.modifier
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=tracking_uid(segment.label, segmentation.series_uid), identifier=segment.label[:64]
        ),
        referenced_segment=sr.ReferencedSegment(
            SegmentationStorage,
            segmentation.instance_uid,
            segment.number,
            source_series=sr.SourceSeriesForSegmentation(source.references[0].SeriesInstanceUID),
        ),
        finding_category=DicomCode(*code.category),
        finding_type=DicomCode(*code.type),
        finding_sites=None
        if site is None
        else [sr.FindingSite(DicomCode(*site), laterality=None if side is None else DicomCode(*side))],
        algorithm_id=sr.AlgorithmIdentification(
            algorithm.name,
            algorithm.version,
            parameters=[f"manifest sha256 {algorithm.manifest}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer="attunet",
        ),
        measurements=[_measurement(volume)],
    )


_ANATOMY = "123037004"
_BELOW, _ABOVE = "371885007", "371886008"
"""Codes of the ranges of lower and upper measurement uncertainty."""


def _measurement(volume: SegmentVolume) -> sr.Measurement:
    """The volume, and how far below and above it the ends of its interval are (TID 310, rows 9 and 10)."""
    interval = volume.interval
    if interval is None:
        return sr.Measurement(codes.SCT.Volume, volume.ml, MILLILITER)
    percent = f"{interval.level:.0%}"
    measurement = sr.Measurement(
        codes.SCT.Volume,
        volume.ml,
        MILLILITER,
        method=DicomCode("interval", LOCAL_SCHEME, f"With its {percent} prediction interval from held-out cases"),
        properties=sr.MeasurementProperties(
            upper_measurement_uncertainty=_distance(volume.ml, interval.high),
            lower_measurement_uncertainty=_distance(interval.low, volume.ml),
        ),
    )
    for end in (*_children(measurement[0], _ABOVE), *_children(measurement[0], _BELOW)):
        end.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [  # highdicom writes them without a unit
            sr.CodedConcept.from_code(MILLILITER)
        ]
    return measurement


def _distance(low: float, high: float) -> float:
    return max(0.0, float(f"{high - low:.9g}"))


def check_measurement_report(path: Path, volumes: Sequence[SegmentVolume], segmentation_uid: str) -> None:
    """Read a report with pydicom alone, and compare its numbers.

    Args:
        path: the file.
        volumes: what it should report.
        segmentation_uid: the object that it should refer to.
    Raises: FormatError when a volume, an end of an interval or a reference differs.
    """
    try:
        found = [_reported(group) for group in _children(dcmread(path), "125007")]
    except Exception as error:
        raise FormatError(f"{path} cannot be read back ({type(error).__name__}); it was not written") from None
    expected = []
    for volume in volumes:
        ends = volume.interval and (
            _distance(volume.interval.low, volume.ml),
            _distance(volume.ml, volume.interval.high),
        )
        expected.append((volume.segment.label[:64], volume.ml, ends, segmentation_uid, volume.segment.number))
    if found != expected:
        raise FormatError(
            f"{path} was read back and differs from the result; it was not written", hint="leave out dicom-sr"
        )


def _children(item: Dataset, code: str) -> Iterator[Dataset]:
    """The content items below one whose concept has a code, at any depth."""
    for child in item.get("ContentSequence", ()):
        if child.ConceptNameCodeSequence[0].CodeValue == code:
            yield child
        yield from _children(child, code)


def _reported(group: Dataset) -> tuple[str, float, tuple[float, float] | None, str, int]:
    """Label, ml, distances of both ends of the interval, segmentation and segment of a measurement group."""
    (label,), (volume,), (segment,) = (list(_children(group, code)) for code in ("112039", "118565006", "121191"))
    below, above = ([_milliliters(end) for end in _children(volume, code)] for code in (_BELOW, _ABOVE))
    reference = segment.ReferencedSOPSequence[0]
    return (
        str(label.TextValue),
        _milliliters(volume),
        (below[0], above[0]) if below and above else None,
        str(reference.ReferencedSOPInstanceUID),
        int(reference.ReferencedSegmentNumber),
    )


def _milliliters(item: Dataset) -> float:
    value = item.MeasuredValueSequence[0]
    if value.MeasurementUnitsCodeSequence[0].CodeValue != MILLILITER.value:
        raise ValueError("another unit")
    return float(value.NumericValue)
