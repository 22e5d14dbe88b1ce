"""Number types of voxels: labels are exact or refused, in every format; images are float32 or integers."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile

from attunet.data.formats import read_label, read_volume
from attunet.errors import LabelError

IDS = [0, 16777217, 614454277, 2**31 - 1]  # float32 would round the last three


def save(array: np.ndarray, path: Path) -> Path:
    """Write (I, J, K) with the library of the format."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, np.moveaxis(array, 2, 0), photometric="minisblack")
    elif path.suffix == ".nii":
        nib.save(nib.Nifti1Image(array, np.eye(4), dtype=array.dtype), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T)), str(path))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.uint32])
def test_label_ids_above_float32_are_exact_in_every_format(suffix, dtype, tmp_path):
    array = np.array(IDS, dtype).reshape(2, 2, 1).repeat(3, axis=2)
    label = read_label(save(array, tmp_path / f"x{suffix}"))
    assert label.array.dtype == np.int32
    np.testing.assert_array_equal(label.array[0].astype(np.int64), array.astype(np.int64))


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".tif", ".npy"])
def test_label_ids_that_float32_may_have_rounded_are_refused(suffix, tmp_path):
    array = np.full((2, 2, 3), 614454277, np.float32)
    with pytest.raises(LabelError, match="float32, which rounds whole numbers above 16777216") as caught:
        read_label(save(array, tmp_path / f"x{suffix}"))
    assert "int32" in caught.value.hint
    assert read_label(save(np.full((2, 2, 3), 2**24, np.float32), tmp_path / f"y{suffix}")).array.max() == 2**24


def test_scaled_label_ids_are_exact_or_refused(tmp_path):
    image = nib.Nifti1Image(np.full((2, 2, 3), 9000001, np.int32), np.eye(4))
    image.header.set_slope_inter(3, 0)  # 27000003, which float32 rounds
    nib.save(image, tmp_path / "x.nii")
    with pytest.raises(LabelError, match="float32"):
        read_label(tmp_path / "x.nii")


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**40])
def test_label_ids_beyond_int32_are_refused(value, tmp_path):
    with pytest.raises(LabelError, match="expected -2147483648 to 2147483647"):
        read_label(save(np.full((2, 2, 3), value, np.int64), tmp_path / "x.npy"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8", ">f4"])
def test_images_of_any_float_are_float32(dtype, tmp_path):
    array = np.arange(12).reshape(2, 2, 3).astype(dtype)
    image = read_volume(save(array, tmp_path / "x.npy"))
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.array[0], array)


@pytest.mark.parametrize("dtype", [np.int32, ">i4", ">u2", np.uint32, np.int64])
def test_integer_images_keep_type_and_values(dtype, tmp_path):
    array = (np.arange(12).reshape(2, 2, 3) * 5000).astype(dtype)
    image = read_volume(save(array, tmp_path / "x.npy"))
    assert image.array.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image.array[0], array)


def test_a_mask_that_shows_classes_in_colours_lists_them(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", colours[np.arange(12).reshape(3, 4) % 3], photometric="rgb")
    with pytest.raises(LabelError, match=r"\(0, 0, 0\), \(0, 128, 255\), \(255, 0, 0\)"):
        read_label(tmp_path / "x.tif")
