"""Images as one NIfTI file each."""

import os

import dicom_series
import nibabel
import numpy as np
import pytest

from attunet.data.cases import Case, find_cases
from attunet.errors import DataError
from attunet.serve.conversion import convert, file_name, is_one_file, state_of

OBLIQUE = np.array([[0.7, 0.1, 0.0, -20.0], [-0.1, 0.69, 0.5, 11.0], [0.05, -0.07, 2.4, 7.0], [0, 0, 0, 1]])


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def rigid(affine):
    """The nearest affine whose axes are at right angles, as those of a scanner."""
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    exact = affine.copy()
    exact[:3, :3] = left @ right * np.linalg.norm(affine[:3, :3], axis=0)
    return exact


def test_a_series_has_the_values_and_the_geometry_of_its_files(tmp_path, output):
    array, affine = dicom_series.sample(), rigid(OBLIQUE)
    folder = dicom_series.save_series(dicom_series.make_series(array, affine, slope=2, intercept=-5), tmp_path / "s")
    (case,) = find_cases([folder], 1)
    files = {one.name: one for one in convert(case, case.key, output)}
    image = nibabel.load(output / files["image"].file)
    assert np.array_equal(np.asanyarray(image.dataobj), 2.0 * array - 5)
    assert np.allclose(image.affine, affine, atol=1e-4)
    assert (output / files["state"].file).read_text() == state_of(case.images)


def test_one_of_several_series_is_chosen_and_never_another(tmp_path, output):
    arrays = [dicom_series.sample(seed=seed) for seed in range(2)]
    for number, array in enumerate(arrays):
        dicom_series.save_series(dicom_series.make_series(array), tmp_path / "s" / str(number))
    cases = find_cases([tmp_path / "s"], 1)
    with pytest.raises(DataError, match="makes 2 volumes"):
        convert(Case("x", (tmp_path / "s",), None), None, output)
    for case in cases:
        convert(case, case.key, output)
        found = np.asanyarray(nibabel.load(output / "image.nii.gz").dataobj)
        uid = next(
            file for file in sorted(case.images[0].rglob("*.dcm")) if case.key in file.read_bytes().decode("latin")
        )
        assert np.array_equal(found, arrays[int(uid.parent.name)])


def test_a_series_with_a_gap_is_refused(tmp_path, output):
    slices = dicom_series.make_series(dicom_series.sample())
    folder = dicom_series.save_series([*slices[:2], *slices[3:]], tmp_path / "s")
    with pytest.raises(DataError, match="missing"):
        convert(Case("x", (folder,), None), None, output)
    assert not list(output.iterdir())


def test_all_channels_of_an_image_are_in_one_file(tmp_path, output):
    for number in range(2):
        image = nibabel.Nifti1Image(np.full((4, 5, 6), number, np.float32), np.diag([1, 2, 3, 1]))
        nibabel.save(image, tmp_path / f"a_000{number}.nii.gz")
    (case,) = find_cases(sorted(tmp_path.glob("*.nii.gz")), 2)
    convert(case, None, output)
    found = nibabel.load(output / "image.nii.gz")
    assert found.shape == (4, 5, 6, 2)
    assert np.allclose(found.affine, np.diag([1, 2, 3, 1]))
    assert [found.dataobj[0, 0, 0, channel] for channel in range(2)] == [0, 1]


def test_what_is_one_file_is_given_out_as_it_is(tmp_path):
    for name, alone in (("a.nii.gz", True), ("a.nrrd", True), ("a.mhd", False), ("a.hdr", False)):
        (tmp_path / name).touch()
        case = Case("a", (tmp_path / name,), None)
        assert is_one_file(case) is alone
        assert file_name("a", case) == (name if alone else "a.nii.gz")
    assert not is_one_file(Case("a", (tmp_path / "a.nii.gz",) * 2, None))
    assert not is_one_file(Case("a", (tmp_path / "a.nii.gz",), None, key="1.2"))
    assert file_name("../1.2#3") == file_name("../1.2#3").replace("/", "_")


def test_a_change_of_any_file_is_seen(tmp_path):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "a"
    file.write_bytes(b"1")
    states = [state_of([tmp_path])]
    os.utime(file, ns=(0, 0))
    states.append(state_of([tmp_path]))
    file.write_bytes(b"2")
    os.utime(file, ns=(0, 0))
    states.append(state_of([tmp_path]))
    (tmp_path / "b").touch()
    states.append(state_of([tmp_path]))
    assert len(set(states)) == 4
    assert states[-1] == state_of([tmp_path])
