"""Reading the pixels of a series."""

import nibabel
import numpy as np
import pytest
from dicom_series import make_series, sample, save_series

from attunet.data.formats import read_volume
from attunet.data.formats.dicom import find_series, read_series


def test_a_series_is_read_by_position_whatever_its_files_are_called(tmp_path):
    array, affine = sample(), np.array([[0, 0, 2.5, -7], [-0.5, 0, 0, 40], [0, -0.75, 0, 3.0], [0, 0, 0, 1]])
    save_series(make_series(array, affine), tmp_path)
    (series,) = find_series(tmp_path).series
    volume = read_series(series)
    back = np.linalg.inv(volume.affine) @ affine  # the normal may point the other way
    placed = np.flip(array, 2) if back[2, 2] < 0 else array
    np.testing.assert_array_equal(volume.array[0], placed)
    np.testing.assert_allclose(np.abs(back[:3, :3]), np.eye(3), atol=1e-6)
    assert series.shape == array.shape
    assert read_volume(tmp_path).array.shape == (1, *array.shape)


def test_real_series_equals_its_nifti_twin(shared_data):
    (series,) = find_series(shared_data / "sts_dicom_rtstruct/images").series
    twin = nibabel.load(shared_data / "Dataset102_SarcomaCT/imagesTr/STS_002_0000.nii.gz")
    volume = read_series(series)
    np.testing.assert_array_equal(volume.array[0], np.asarray(twin.dataobj))
    np.testing.assert_allclose(volume.affine, twin.affine, atol=1e-4)


def test_spacing_is_that_of_the_positions(shared_data):
    (series,) = find_series(shared_data / "chaos_ct_dicom/images").series
    assert np.linalg.norm(series.affine[:3, 2]) == pytest.approx(2.0)
