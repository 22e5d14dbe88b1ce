"""The size of a pixel."""

import pytest
from dicom_series import make_picture, sample, save_series
from pydicom import Dataset

from attunet.data.formats.dicom import find_series


def region(units=3, delta=0.05):
    item = Dataset()
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, 2 * delta
    return item


@pytest.mark.parametrize(
    ("tags", "spacing", "notice"),
    [
        ({"PixelSpacing": [0.4, 0.3], "ImagerPixelSpacing": [9, 9]}, (0.3, 0.4), None),
        ({"ImagerPixelSpacing": [0.4, 0.3]}, (0.3, 0.4), "that of the imager, larger than in the patient"),
        (
            {"ImagerPixelSpacing": [0.4, 0.3], "EstimatedRadiographicMagnificationFactor": 2},
            (0.15, 0.2),
            "divided by the estimated magnification of 2",
        ),
        ({"NominalScannedPixelSpacing": [0.4, 0.3]}, (0.3, 0.4), "of the scanned film"),
        ({"SequenceOfUltrasoundRegions": [region(), region()]}, (0.5, 1.0), None),
        ({"SequenceOfUltrasoundRegions": [region(), region(delta=0.1)]}, (1, 1), "different spacings"),
        ({"SequenceOfUltrasoundRegions": [region(units=4)]}, (1, 1), "no pixel spacing: 1 mm is assumed"),
        ({}, (1, 1), "no pixel spacing: 1 mm is assumed"),
    ],
)
def test_the_best_spacing_is_taken_and_told(tags, spacing, notice, tmp_path):
    (series,) = find_series(save_series([make_picture(sample((1, 8, 6)), **tags)], tmp_path)).series
    assert series.spacing[:2] == pytest.approx(spacing)
    assert series.spaced is (notice is None or ("assumed" not in notice and "different" not in notice))
    assert (notice is None and not series.notices) or any(notice in told for told in series.notices)
