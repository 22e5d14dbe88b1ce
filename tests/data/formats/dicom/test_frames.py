"""Files of several images."""

import highdicom
import numpy as np
import pytest
from dicom_series import make_enhanced, make_picture, make_series, sample, save_series
from pydicom import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from attunet.data.formats.dicom import find_series, read_series

AFFINE = np.array([[-0.5, 0, 0, 40], [0, -0.75, 0, 30], [0, 0, 2.0, -100], [0, 0, 0, 1]])


def listing(ds, folder):
    return find_series(save_series([ds], folder))


def item(**values):
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("order", [range(6), [3, 0, 5, 1, 4, 2]])
def test_frames_are_sorted_by_their_own_positions(order, tmp_path):
    array = sample()
    (found,) = listing(make_enhanced(array, AFFINE, order=order, intercept=-1024), tmp_path).series
    assert (found.shape, found.files) == (array.shape, (tmp_path / "0000.dcm",))
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(read_series(found).array[0], array.astype(int) - 1024)


def test_each_frame_has_its_own_slope(tmp_path):
    array, slopes = sample(low=0, high=3000), [1, 2, 3, 0.5, 0.25, 2.5]
    (found,) = listing(
        make_enhanced(array, AFFINE, modality="MR", order=[5, 4, 3, 2, 1, 0], slopes=slopes), tmp_path
    ).series
    np.testing.assert_array_equal(read_series(found).array[0], (array * np.array(slopes)).astype(np.float32))


def test_a_gap_between_frames_is_refused(tmp_path):
    found = listing(make_enhanced(sample(), AFFINE, order=[0, 1, 2, 4, 5]), tmp_path)
    assert "1 slice is missing: 4.00 mm between frame 3 of 0000.dcm and frame 4 of 0000.dcm" in str(found.refused[0])


def test_times_of_an_enhanced_object_are_parts(tmp_path):
    array = sample()

    def mark(frame_item, frame):
        frame_item.FrameContentSequence[0].TemporalPositionIndex = 1 + frame // 6

    ds = make_enhanced(np.concatenate([array, array + 1], axis=2), AFFINE, modality="MR", marks=mark)
    for frame, frame_item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame_item.PlanePositionSequence[0].ImagePositionPatient[2] = -100 + 2.0 * (frame % 6)
    first, second = listing(ds, tmp_path).series
    np.testing.assert_array_equal(read_series(first).array[0], array)
    np.testing.assert_array_equal(read_series(second).array[0], array + 1)


def test_a_legacy_converted_object_of_highdicom_equals_its_series(tmp_path):
    array = sample()
    series = make_series(array, AFFINE, intercept=-1024, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    for ds in series:
        ds.PatientSex, ds.StudyID, ds.ContentDate, ds.ContentTime = "O", "1", "20200101", "120000"
        ds.AcquisitionDate, ds.AcquisitionTime, ds.Manufacturer = "20200101", "120000", "none"
        ds.PositionReferenceIndicator, ds.ReferringPhysicianName, ds.SeriesTime = "", "", "120000"
        ds.BurnedInAnnotation = "NO"
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        series, series_instance_uid="2.25.7", series_number=9, sop_instance_uid="2.25.8", instance_number=1
    )
    converted.save_as(tmp_path / "a.dcm")
    (found,) = find_series(tmp_path).series
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(read_series(found).array[0], array.astype(int) - 1024)


def test_slices_of_nuclear_medicine_are_numbered(tmp_path):
    frames = sample((4, 10, 12), low=0, high=900).astype(np.uint16)
    ds = make_picture(frames, modality="US", PixelSpacing=[3.0, 3.0], SpacingBetweenSlices=-4.0, NumberOfSlices=4)
    ds.Modality, ds.SOPClassUID = "NM", NuclearMedicineImageStorage
    ds.SliceVector = [1, 2, 3, 4]
    ds.DetectorInformationSequence = [
        item(ImagePositionPatient=[-10.0, -20.0, 50.0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    ]
    (found,) = listing(ds, tmp_path).series
    np.testing.assert_allclose(found.affine[:3, 2:], [[0, 10], [0, 20], [4, 38]])
    np.testing.assert_array_equal(read_series(found).array[0], frames[::-1].T)


def test_frames_that_are_not_described_are_refused(tmp_path):
    ds = make_enhanced(sample(), AFFINE)
    del ds.PerFrameFunctionalGroupsSequence[2]
    found = listing(ds, tmp_path)
    assert "declares 6 frames and describes 5" in str(found.refused[0])
