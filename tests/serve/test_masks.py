"""Masks in the formats of clients."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from attunet.errors import DataError
from attunet.serve.masks import mask_as


@pytest.fixture
def mask(tmp_path):
    def write(affine, dtype=np.uint8, top=3):
        array = np.random.default_rng(0).integers(0, top, (5, 4, 3)).astype(dtype)
        path = tmp_path / "mask.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
        return path, array

    return write


def read(content, tmp_path):
    (tmp_path / "answer.nrrd").write_bytes(content)
    return SimpleITK.ReadImage(str(tmp_path / "answer.nrrd"))


def test_nifti_is_the_file_itself(mask):
    path, _ = mask(np.eye(4))
    assert mask_as(path, ".nii.gz") == path.read_bytes()


@pytest.mark.parametrize("steps", [(-1, -1, 2), (-1, -1, -2), (1, 1, 2), (1, -1, 2)])
def test_nrrd_has_ascending_slices_and_the_same_places(mask, tmp_path, steps):
    """Another reader finds each label where NIfTI has it, and raw bytes ascend along the normal of the slices."""
    affine = np.diag([*map(float, steps), 1.0])
    affine[:3, 3] = (10, -20, 30)
    path, array = mask(affine)
    content = mask_as(path, ".nrrd")
    found = read(content, tmp_path)
    for index in np.ndindex(*array.shape):
        place = affine @ [*index, 1]
        there = found.TransformPhysicalPointToIndex([-place[0], -place[1], place[2]])
        assert found[there] == array[index]
    directions = np.array(found.GetDirection()).reshape(3, 3)
    assert np.linalg.det(directions) > 0
    raw = np.frombuffer(content[-array.size :], np.uint8).reshape(array.shape, order="F")
    assert np.array_equal(raw, array if np.linalg.det(affine[:3, :3]) > 0 else array[:, :, ::-1])


def test_what_bytes_cannot_hold_is_refused(mask):
    path, _ = mask(np.eye(4), np.int16, 400)
    with pytest.raises(DataError, match="bytes cannot hold"):
        mask_as(path, ".nrrd")
    with pytest.raises(DataError, match=r"\.nii\.gz or \.nrrd"):
        mask_as(path, ".stl")
