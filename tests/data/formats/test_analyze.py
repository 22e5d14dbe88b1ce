"""Pairs of header and voxels: NIfTI, Analyze 7.5, and what SPM adds."""

import gzip

import nibabel
import numpy as np
import pytest
from scipy import io

from attunet.data.file_states import with_data_files
from attunet.data.formats import check_header, is_companion, read_volume, series_of
from attunet.data.layouts.find import find_cases
from attunet.data.layouts.image_files import image_files
from attunet.errors import FormatError

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1]])


def save(path, kind=nibabel.Nifti1Pair, array=ARRAY, affine=AFFINE):
    nibabel.save(kind(array, affine), path)
    return path


@pytest.mark.parametrize("ending", [".img", ".hdr"])
def test_a_nifti_pair_is_one_image_with_its_matrix(ending, tmp_path):
    save(tmp_path / "a.img")
    volume = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert check_header(tmp_path / f"a{ending}") == ()


def test_a_folder_of_pairs_lists_each_image_once(tmp_path):
    save(tmp_path / "a.img")
    save(tmp_path / "b.img", nibabel.Spm99AnalyzeImage)
    io.savemat(tmp_path / "b.mat", {"M": AFFINE})
    assert [file.name for file in image_files(tmp_path)] == ["a.img", "b.img"]
    assert [case.id for case in find_cases([tmp_path], 1)] == ["a", "b"]
    assert is_companion(tmp_path / "a.hdr")
    assert not is_companion(tmp_path / "a.img")
    assert {file.name for file in with_data_files([tmp_path / "b.img"])} == {"b.img", "b.hdr", "b.mat"}
    assert {file.name for file in with_data_files([tmp_path / "a.hdr"])} == {"a.hdr", "a.img"}


def test_analyze_has_no_orientation_and_that_is_said(tmp_path):
    flipped = np.diag([-2.0, 1.5, 3.0, 1.0])
    save(tmp_path / "a.img", nibabel.AnalyzeImage, affine=None)
    header = nibabel.AnalyzeImage(ARRAY, None)
    header.header.set_zooms((2.0, 1.5, 3.0))
    nibabel.save(header, tmp_path / "a.img")
    volume = read_volume(tmp_path / "a.img")
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_allclose(volume.affine[:3, :3], flipped[:3, :3])
    (problem,) = check_header(tmp_path / "a.img")
    assert problem.kind == "orientation unknown"
    assert "centre" in problem.message


def test_spm_adds_an_origin_or_a_matrix(tmp_path):
    image = nibabel.Spm99AnalyzeImage(ARRAY, None)
    image.header.set_zooms((2.0, 1.5, 3.0))
    image.header["origin"][:3] = (2, 3, 4)
    nibabel.save(image, tmp_path / "a.img")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    (problem,) = check_header(tmp_path / "a.img")
    assert "origin is that of SPM" in problem.message
    save(tmp_path / "b.img", nibabel.Spm99AnalyzeImage)
    assert (tmp_path / "b.mat").is_file()
    np.testing.assert_allclose(read_volume(tmp_path / "b.img").affine, AFFINE)
    assert check_header(tmp_path / "b.img") == ()


def test_the_missing_half_is_named(tmp_path):
    save(tmp_path / "a.img")
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(FormatError, match=r"a\.hdr is missing"):
        read_volume(tmp_path / "a.img")
    save(tmp_path / "b.img")
    (tmp_path / "b.img").unlink()
    with pytest.raises(FormatError, match=r"b\.img is missing"):
        read_volume(tmp_path / "b.hdr")


def test_compressed_and_truncated_pairs(tmp_path):
    save(tmp_path / "a.img")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
    (tmp_path / "a.img").rename(tmp_path / "b.img")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.img.gz").array[0], ARRAY)
    (tmp_path / "a.hdr").rename(tmp_path / "b.hdr")
    (tmp_path / "b.img").write_bytes((tmp_path / "b.img").read_bytes()[:-10])
    with pytest.raises(FormatError, match="truncated"):
        read_volume(tmp_path / "b.img")


def test_a_series_in_a_pair(tmp_path):
    save(tmp_path / "a.img", nibabel.Spm99AnalyzeImage, np.zeros((4, 5, 6, 30), np.int16))
    assert series_of(tmp_path / "a.img").frames == 30
    assert read_volume(tmp_path / "a.img").channels == 30
