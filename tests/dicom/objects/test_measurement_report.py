"""Reports of volumes, read by highdicom: numbers, intervals, and the segments that they are about."""

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from attunet.dicom.objects.measurement_report import check_measurement_report, segment_volumes
from attunet.errors import FormatError


def groups_of(path):
    report = hd.sr.srread(path)
    return {group.tracking_identifier: group for group in report.content.get_volumetric_roi_measurement_groups()}


def test_each_label_has_its_volume_and_its_segment(scene, tmp_path):
    result = scene().result(tmp_path)
    (segmentation,) = result.write_segmentation()
    (path,) = result.write_report()
    groups = groups_of(path)
    assert list(groups) == ["liver", "kidney_left", "blob"]
    for number, (label, group) in enumerate(groups.items(), start=1):
        (volume,) = group.get_measurements(codes.SCT.Volume)
        assert volume.value == pytest.approx(result.prediction.volumes_ml[label], rel=1e-2)
        assert volume.unit.value == "ml"
        reference = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == hd.seg.segread(segmentation).SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
    segment = hd.seg.segread(segmentation).SegmentSequence[0]
    assert groups["liver"].tracking_uid == segment.TrackingUID
    assert groups["kidney_left"].finding_sites[0].value == codes.SCT.Kidney


def test_an_interval_is_told_by_its_distances_from_the_volume(scene, interval, tmp_path):
    result = scene().result(tmp_path, volume_calibrations={"liver": interval})
    (path,) = result.write_report()
    volume = result.prediction.volumes_ml["liver"]
    (measured,) = groups_of(path)["liver"].get_measurements(codes.SCT.Volume)
    text = str(measured[0])
    assert "90% prediction interval" in text
    ends = [
        item.MeasuredValueSequence[0]
        for item in measured[0].ContentSequence
        if "uncertainty" in item.ConceptNameCodeSequence[0].CodeMeaning
    ]
    assert [float(end.NumericValue) for end in ends] == pytest.approx([0.1 * volume] * 2, abs=2e-3)
    assert {end.MeasurementUnitsCodeSequence[0].CodeValue for end in ends} == {"ml"}


def test_what_was_not_found_is_reported_as_nothing(scene, tmp_path):
    mask = np.zeros((20, 16, 9), np.uint8)
    mask[3, 3, 3] = 1
    (path,) = scene().result(tmp_path, mask).write_report()
    (volume,) = groups_of(path)["liver"].get_measurements(codes.SCT.Volume)
    assert volume.value == 0


def test_a_report_with_another_number_is_noticed(scene, tmp_path):
    result = scene().result(tmp_path)
    (path,) = result.write_report()
    volumes = segment_volumes(result.segments("BINARY"), {**result.prediction.volumes_ml, "blob": 99.0}, {})
    with pytest.raises(FormatError, match="differs"):
        check_measurement_report(path, volumes, "1.2.3")
