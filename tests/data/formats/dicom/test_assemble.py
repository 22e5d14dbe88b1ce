"""Faulty series are assembled exactly, or refused with the slices that are at fault."""

from copy import deepcopy

import numpy as np
import pytest
from dicom_series import encode, make_picture, make_series, new_uid, sample, save_series

from attunet.data.formats.dicom import find_series, read_series

AFFINE = np.array([[-0.5, 0, 0, 40], [0, -0.5, 0, 30], [0, 0, 2.0, -100], [0, 0, 0, 1]])


def listing(datasets, folder):
    return find_series(save_series(datasets, folder))


def refusal(datasets, folder):
    found = listing(datasets, folder)
    assert not found.series
    (refused,) = found.refused
    return str(refused)


def test_a_missing_slice_is_refused_with_its_neighbours(tmp_path):
    series = make_series(sample((12, 10, 9)), AFFINE)
    for index, ds in enumerate(series):
        ds.save_as(tmp_path / f"s{index}.dcm", enforce_file_format=True)
    (tmp_path / "s4.dcm").unlink()
    (refused,) = find_series(tmp_path).refused
    assert "1 slice is missing: 4.00 mm between s3.dcm and s5.dcm, where 2.00 mm are usual" in str(refused)
    (tmp_path / "s5.dcm").unlink()
    assert "2 slices are missing" in str(find_series(tmp_path).refused[0])


def test_uneven_slices_are_refused_with_their_neighbours(tmp_path):
    series = make_series(sample((12, 10, 9)), AFFINE)
    for ds in series[5:]:
        ds.ImagePositionPatient[2] += 0.7
    assert "2.70 mm between" in refusal(series, tmp_path / "step")
    for index, ds in enumerate(make_series(sample((12, 10, 9)), AFFINE)):
        ds.ImagePositionPatient[2] += 0.08 * index**2
        series[index] = ds
    assert "not at one distance" in refusal(series, tmp_path / "growing")


def test_small_deviations_are_told_and_large_ones_refused(tmp_path):
    series = make_series(sample(), AFFINE)
    series[3].ImagePositionPatient[2] += 0.1
    (found,) = listing(series, tmp_path / "told").series
    assert any("0.100 mm from places that are 2.000 mm apart" in notice for notice in found.notices)
    series[3].ImagePositionPatient[2] += 0.3
    assert "not at one distance" in refusal(series, tmp_path / "refused")


def test_copies_of_a_file_are_dropped_with_a_notice(tmp_path):
    array = sample()
    series = make_series(array, AFFINE)
    (found,) = listing([*series, deepcopy(series[2])], tmp_path).series
    assert found.shape == array.shape
    assert any("SOPInstanceUID of another" in notice for notice in found.notices)
    np.testing.assert_array_equal(read_series(found).array[0], array)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))), "pixels"),
        (lambda ds: setattr(ds, "RescaleIntercept", 7), "rescales"),
    ],
)
def test_files_of_one_uid_and_two_contents_are_refused(edit, what, tmp_path):
    series = make_series(sample(), AFFINE)
    other = deepcopy(series[2])
    edit(other)
    assert f"have one SOPInstanceUID and different {what}" in refusal([*series, other], tmp_path)


def test_a_copy_in_another_encoding_is_a_copy(tmp_path):
    array = sample()
    series = make_series(array, AFFINE)
    (found,) = listing([*series, encode(series[2], "JPEG-LS"), encode(series[4], "big endian")], tmp_path).series
    np.testing.assert_array_equal(read_series(found).array[0], array)


@pytest.mark.parametrize(("name", "tag"), [("acquisition", "AcquisitionNumber"), ("echo time", "EchoTime")])
def test_acquisitions_between_each_other_are_told(name, tag, tmp_path):
    series = make_series(sample(), AFFINE, modality="MR")
    for index, ds in enumerate(series):
        setattr(ds, tag, 1 + index // 3)
    (found,) = listing(series, tmp_path / "one after the other").series
    assert not any("alternate" in notice for notice in found.notices)
    for index, ds in enumerate(series):
        setattr(ds, tag, 1 + index % 2)
    (found,) = listing(series, tmp_path / "between").series
    assert any(f"alternate between {name} 1" in notice for notice in found.notices)


def test_a_frame_of_reference_for_each_slice_is_told(tmp_path):
    series = make_series(sample(), AFFINE)
    for ds in series:
        ds.FrameOfReferenceUID = new_uid()
    (found,) = listing(series, tmp_path).series
    assert any("in 6 frames of reference" in notice for notice in found.notices)


def test_files_of_one_uid_and_two_places_are_refused(tmp_path):
    series = make_series(sample(), AFFINE)
    series[2].SOPInstanceUID = series[1].SOPInstanceUID
    series[2].file_meta.MediaStorageSOPInstanceUID = series[1].SOPInstanceUID
    assert "have one SOPInstanceUID and different positions" in refusal(series, tmp_path)


def test_another_slice_at_one_place_is_refused(tmp_path):
    series = make_series(sample(), AFFINE)
    other = deepcopy(series[2])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = new_uid()
    other.PixelData = bytes(len(other.PixelData))
    message = refusal([*series, other], tmp_path)
    assert "several slices are at one place" in message
    assert message.count(".dcm") == 2


SPLITS = {
    "AcquisitionNumber": (1, 2),
    "EchoNumbers": (1, 2),
    "EchoTime": (2.3, 4.6),
    "DiffusionBValue": (0.0, 1000.0),
    "TemporalPositionIdentifier": (1, 2),
    "TriggerTime": (0.0, 400.0),
    "ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
}


@pytest.mark.parametrize("tag", SPLITS)
def test_acquisitions_of_one_series_are_parts_of_their_own(tag, tmp_path):
    uid, arrays = new_uid(), (sample(seed=1), sample(seed=2))
    series = []
    for array, value in zip(arrays, SPLITS[tag], strict=True):
        series += make_series(array, AFFINE, modality="MR", uid=uid, **{tag: value})
    found = listing(series, tmp_path).series
    assert [one.key for one in found] == [f"{uid}#1", f"{uid}#2"]
    for one, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(read_series(one).array[0], array)
        assert "of a series that makes 2 volumes" in one.notices[0]


def test_two_marks_together_tell_acquisitions_apart(tmp_path):
    uid = new_uid()
    series = []
    for echo in (1, 2):
        for time in (1, 2, 3):
            tags = {"EchoNumbers": echo, "TemporalPositionIdentifier": time}
            series += make_series(sample(seed=10 * echo + time), AFFINE, modality="MR", uid=uid, **tags)
    found = listing(series, tmp_path).series
    assert len(found) == 6
    np.testing.assert_array_equal(read_series(found[4]).array[0], sample(seed=22))
    assert "echo 2, temporal position 2" in found[4].notices[0]


def test_echoes_are_never_mixed_even_where_their_places_differ(tmp_path):
    uid, shifted = new_uid(), AFFINE.copy()
    shifted[2, 3] += 1
    series = make_series(sample(seed=1), AFFINE, modality="MR", uid=uid, EchoNumbers=1)
    series += make_series(sample(seed=2), shifted, modality="MR", uid=uid, EchoNumbers=2)
    assert [one.shape for one in listing(series, tmp_path).series] == [(12, 10, 6)] * 2


def test_an_acquisition_number_for_each_slice_divides_nothing(tmp_path):
    series = make_series(sample(), AFFINE)
    for index, ds in enumerate(series):
        ds.AcquisitionNumber, ds.TriggerTime = index, 10.0 * index
    (found,) = listing(series, tmp_path).series
    assert (found.part, found.shape) == (0, (12, 10, 6))


def test_phases_whose_times_vary_between_slices_are_told_apart_by_their_order(tmp_path):
    uid = new_uid()
    series = []
    for phase in range(3):
        slices = make_series(sample(seed=phase), AFFINE, modality="MR", uid=uid)
        for index, ds in enumerate(slices):
            ds.TriggerTime = 100.0 * phase + index
        series += slices
    found = listing(series, tmp_path).series
    assert len(found) == 3
    for phase, one in enumerate(found):
        np.testing.assert_array_equal(read_series(one).array[0], sample(seed=phase))


def test_the_whole_acquisition_is_kept_where_the_other_lacks_a_slice(tmp_path):
    uid = new_uid()
    series = make_series(sample(seed=1), AFFINE, uid=uid, AcquisitionNumber=1)
    series += make_series(sample(seed=2), AFFINE, uid=uid, AcquisitionNumber=2)[:3]
    series += make_series(sample(seed=2), AFFINE, uid=uid, AcquisitionNumber=2)[4:]
    found = listing(series, tmp_path)
    assert [one.shape for one in found.series] == [(12, 10, 6)]
    assert "acquisition 2: 1 slice is missing" in str(found.refused[0])


def test_gantry_tilt_is_kept_as_a_sheared_grid(tmp_path):
    tilted, array = AFFINE.copy(), sample()
    tilted[1, 2] = 2.0 * np.tan(np.radians(15))
    (found,) = listing(make_series(array, tilted), tmp_path).series
    np.testing.assert_allclose(found.affine, tilted, atol=1e-5)
    assert any("tilted by 15.0 degrees" in notice for notice in found.notices)
    np.testing.assert_array_equal(read_series(found).array[0], array)


def test_a_slice_shifted_within_its_plane_is_refused(tmp_path):
    series = make_series(sample(), AFFINE)
    series[4].ImagePositionPatient[0] += 3
    assert "is shifted by" in refusal(series, tmp_path)


def test_a_stray_image_of_another_orientation_is_left_out(tmp_path):
    array = sample()
    series = make_series(array, AFFINE)
    stray = deepcopy(series[0])
    stray.SOPInstanceUID = stray.file_meta.MediaStorageSOPInstanceUID = new_uid()
    stray.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    found = listing([*series, stray], tmp_path)
    assert [one.shape for one in found.series] == [array.shape]
    assert any("another orientation or size" in notice for notice in found.series[0].notices)
    assert len(found.left_out[0].files) == 1


def test_two_orientations_and_two_sizes_are_volumes_of_their_own(tmp_path):
    uid = new_uid()
    sagittal = np.array([[0, 0, 3.0, 0], [0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])
    series = make_series(sample(), AFFINE, uid=uid) + make_series(sample((12, 10, 4)), sagittal, uid=uid)
    series += make_series(sample((8, 8, 5)), AFFINE, uid=uid)
    found = listing(series, tmp_path).series
    assert sorted(one.shape for one in found) == [(8, 8, 5), (12, 10, 4), (12, 10, 6)]
    assert all("one orientation, size and spacing of a series that makes 3 volumes" in one.notices[0] for one in found)


def test_slices_without_a_position_are_refused(tmp_path):
    series = make_series(sample(), AFFINE)
    for ds in series[:2]:
        del ds.ImagePositionPatient
    assert "slices without a position in the patient" in refusal(series, tmp_path)


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1], ["nan", 1]])
def test_impossible_spacings_are_refused(spacing, tmp_path):
    found = listing(make_series(sample(), AFFINE, PixelSpacing=spacing), tmp_path)
    assert not found.series
    assert all("pixel spacing of" in str(refused) for refused in found.refused)


@pytest.mark.parametrize("directions", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0.5, 0.5, 0]])
def test_impossible_directions_are_refused(directions, tmp_path):
    assert "not at right angles" in refusal(make_series(sample(), AFFINE, ImageOrientationPatient=directions), tmp_path)


def test_pictures_of_one_series_are_cases_of_their_own(tmp_path):
    uid = new_uid()
    views = [make_picture(sample((1, 20, 16), seed=seed).astype(np.uint16)) for seed in (1, 2)]
    for view in views:
        view.SeriesInstanceUID, view.ImagerPixelSpacing = uid, [0.2, 0.1]
    found = listing(views, tmp_path).series
    assert [one.shape for one in found] == [(16, 20, 1)] * 2
    np.testing.assert_allclose(np.linalg.norm(found[0].affine[:3, :2], axis=0), [0.1, 0.2])
    assert any("spacing is that of the imager" in notice for notice in found[0].notices)


def test_a_cine_becomes_a_stack_with_a_notice(tmp_path):
    frames = sample((5, 20, 16), low=0, high=256).astype(np.uint8)
    (found,) = listing([make_picture(frames, modality="US")], tmp_path).series
    assert found.shape == (16, 20, 5)
    assert not found.spaced
    assert any("in time, not in space" in notice for notice in found.notices)
    np.testing.assert_array_equal(read_series(found).array[0], frames.T)
    assert not read_series(found).calibrated
