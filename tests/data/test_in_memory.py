"""Images that programs hand over in memory keep their values and their geometry, or are refused with what is taken."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from attunet.data.formats import read_volume, write_volume
from attunet.data.in_memory import volume_in_memory
from attunet.data.volume import Volume
from attunet.errors import DataError

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
TILTED = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


def test_every_kind_of_array_holds_the_same_numbers():
    given = {
        "list": ARRAY.tolist(),
        "big endian": ARRAY.astype(">i2"),
        "reversed": np.ascontiguousarray(ARRAY[::-1])[::-1],
        "transposed": np.asfortranarray(ARRAY),
        "strided": np.repeat(ARRAY, 2, axis=2)[..., ::2],
        "half": ARRAY.astype(np.float16),
        "long double": ARRAY.astype(np.longdouble),
        "tensor": torch.from_numpy(ARRAY.copy()),
        "tensor with gradient": torch.from_numpy(ARRAY.astype(np.float32)).requires_grad_(),
        "bfloat16": torch.from_numpy(ARRAY.astype(np.float32)).to(torch.bfloat16),
        "permuted tensor": torch.from_numpy(ARRAY.T.copy()).permute(2, 1, 0),
        "volume": Volume(ARRAY[None].astype(">f4"), np.eye(4)),
    }
    for name, image in given.items():
        volume = volume_in_memory(image)[1]
        np.testing.assert_array_equal(volume.array[0], ARRAY, err_msg=name)
        assert volume.array.dtype.isnative, name
        assert volume.array.dtype.kind in "iuf", name
        assert volume.array.dtype != np.float16, name


def test_spacing_is_that_of_arrays():
    assert volume_in_memory(ARRAY, (1.0, 2.0, 3.0))[1].spacing == (1.0, 2.0, 3.0)
    assert volume_in_memory(torch.from_numpy(ARRAY.copy()), (1.0, 2.0, 3.0))[1].spacing == (1.0, 2.0, 3.0)


def test_nibabel_and_simpleitk_images_are_what_their_files_are(tmp_path):
    for channels in (1, 3):
        array = np.random.default_rng(0).normal(size=(channels, 2, 3, 4)).astype(np.float32)
        for name, read in (("a.nii.gz", nibabel.load), ("a.mha", sitk.ReadImage)):
            file = tmp_path / name
            write_volume(Volume(array, TILTED), file)
            expected, (_, volume) = read_volume(file), volume_in_memory(read(str(file)))
            np.testing.assert_array_equal(volume.array, expected.array)
            np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)


def test_flat_images_have_one_layer():
    assert volume_in_memory(sitk.GetImageFromArray(ARRAY[0]))[1].spatial_shape == (4, 3, 1)
    assert volume_in_memory(nibabel.Nifti1Image(ARRAY[0], np.eye(4)))[1].spatial_shape == (3, 4, 1)


def test_units_of_a_nifti_header_count():
    image = nibabel.Nifti1Image(ARRAY, np.diag([0.002, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    np.testing.assert_allclose(volume_in_memory(image)[1].spacing, (2, 2, 3))


def test_a_meta_tensor_brings_its_affine():
    tensor = torch.from_numpy(ARRAY[None].copy())
    tensor.affine = torch.from_numpy(TILTED)
    np.testing.assert_array_equal(volume_in_memory(tensor)[1].affine, TILTED)


@pytest.mark.parametrize(
    "image",
    [None, 3, {"image": 1}, b"bytes", [[1, 2], [3]], ["a.nii"], ARRAY.astype(complex), np.array([object()]), object()],
    ids=lambda image: type(image).__name__,
)
def test_anything_else_is_refused_with_what_is_taken(image):
    with pytest.raises(DataError) as refused:
        volume_in_memory(image)
    assert "SimpleITK" in str(refused.value) or "shape" in str(refused.value)
