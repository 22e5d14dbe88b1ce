"""NRRD and MetaImage, read and written against SimpleITK itself."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from attunet.data.formats import read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError

SUFFIXES = [".nrrd", ".nhdr", ".mha", ".mhd"]
ANGLE = st.floats(-3, 3)


@settings(max_examples=30, deadline=None)
@given(
    angles=st.tuples(ANGLE, ANGLE, ANGLE),
    spacing=st.tuples(*[st.floats(0.2, 5)] * 3),
    flip=st.booleans(),
    channels=st.integers(1, 3),
    suffix=st.sampled_from(SUFFIXES),
)
def test_the_grid_survives_and_itk_sees_the_same(angles, spacing, flip, channels, suffix, tmp_path_factory):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() * spacing * np.array([-1 if flip else 1, 1, 1])
    affine[:3, 3] = [10.5, -200, 33]
    array = np.arange(channels * 24, dtype=np.int16).reshape(channels, 2, 3, 4)
    path = tmp_path_factory.mktemp("itk") / f"x{suffix}"
    write_volume(Volume(array, affine), path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-9)
    image = sitk.ReadImage(str(path))
    corner = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(np.array([-1, -1, 1]) * corner, (affine @ [1, 2, 3, 1])[:3], atol=1e-6)


def test_reading_and_writing_keeps_itks_spacing_direction_and_origin_exactly(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    image.SetSpacing((0.7, 0.7, 3.27))
    image.SetOrigin((-177.96, 11.32, 94.3))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "in.mha"))
    write_volume(read_volume(tmp_path / "in.mha"), tmp_path / "out.mha")
    back = sitk.ReadImage(str(tmp_path / "out.mha"))
    assert back.GetSpacing() == image.GetSpacing()
    assert back.GetOrigin() == image.GetOrigin()
    assert back.GetDirection() == image.GetDirection()
    assert (sitk.GetArrayFromImage(back) == sitk.GetArrayFromImage(image)).all()


def test_a_2d_image_stays_2d(tmp_path):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((7, 8))
    sitk.WriteImage(image, str(tmp_path / "in.mha"))
    volume = read_volume(tmp_path / "in.mha")
    assert volume.array.shape == (1, 4, 3, 1)
    write_volume(volume, tmp_path / "out.nrrd")
    back = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    assert (back.GetSize(), back.GetSpacing(), back.GetOrigin()) == ((4, 3), (0.5, 0.25), (7, 8))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_a_fourth_axis_is_channels(tmp_path):
    series = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in series])
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    volume = read_volume(tmp_path / "x.nrrd")
    np.testing.assert_array_equal(volume.array, series.transpose(0, 3, 2, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused(suffix, tmp_path):
    (tmp_path / f"x{suffix}").write_bytes(b"no image")
    with pytest.raises(FormatError, match="cannot read"):
        read_volume(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_without_its_data_file_is_refused(suffix, tmp_path):
    write_volume(Volume.from_array(np.ones((5, 6, 7), np.uint8)), tmp_path / f"x{suffix}")
    for data in set(tmp_path.iterdir()) - {tmp_path / f"x{suffix}"}:
        data.unlink()
    with pytest.raises(FormatError, match="cannot read"):
        read_volume(tmp_path / f"x{suffix}")
