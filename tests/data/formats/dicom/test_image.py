"""A series as an image of a case: chosen by a key, read like any other image, and checked."""

import shutil

import numpy as np
import pytest
from dicom_series import make_series, new_uid, sample, save_series

from attunet.data.cases import check_case_headers, read_case_image, read_dataset
from attunet.data.checks import inspect
from attunet.data.dataset import Case
from attunet.data.file_states import file_states
from attunet.data.formats import check_header, read_volume
from attunet.data.layouts.table import write_table
from attunet.errors import FormatError


@pytest.fixture
def study(tmp_path):
    """Series 3 and 7, and series 9 of two acquisitions, in one folder."""
    for number in (3, 7):
        save_series(make_series(sample(seed=number), SeriesNumber=number), tmp_path / "study", suffix=f"_{number}")
    uid = new_uid()
    for part in (1, 2):
        tags = {"SeriesNumber": 9, "AcquisitionNumber": part}
        save_series(make_series(sample(seed=10 + part), uid=uid, **tags), tmp_path / "study", suffix=f"_9_{part}")
    return tmp_path / "study"


@pytest.mark.parametrize(("key", "seed"), [("3", 3), ("7", 7), ("9#2", 12)])
def test_a_key_chooses_a_series(key, seed, study):
    np.testing.assert_array_equal(read_volume(study, key=key).array[0], sample(seed=seed))


@pytest.mark.parametrize(
    ("key", "message"), [(None, "contains 4 series: 3 "), ("9", "contains 2 series"), ("4", "no series 4 to segment")]
)
def test_a_choice_that_is_open_is_refused_with_what_is_there(key, message, study):
    with pytest.raises(FormatError, match=message):
        read_volume(study, key=key)


def test_an_archive_and_a_file_are_images(study, tmp_path):
    shutil.make_archive(str(tmp_path / "study"), "zip", study)
    np.testing.assert_array_equal(read_volume(tmp_path / "study.zip", key="7").array[0], sample(seed=7))
    file = next(file for file in study.iterdir() if file.name.endswith("_3"))
    assert read_volume(file).spatial_shape == (12, 10, 1)


def test_notices_are_warnings_of_the_case(study):
    (problem,) = check_header(study, key="9#1")
    assert problem.severity == "warning"
    assert "acquisition 1 of a series that makes 2 volumes" in problem.message
    (again,) = check_case_headers(Case("a", (study,), None, key="9#1"))
    assert (again.case, again.message) == ("a", problem.message)


def test_a_table_names_series_by_key(study, tmp_path):
    (tmp_path / "cases.csv").write_text("id,image,key\na,study,3\nb,study,9#2\n")
    dataset = read_dataset(tmp_path / "cases.csv")
    assert [case.key for case in dataset.cases] == ["3", "9#2"]
    for case, seed in zip(dataset.cases, (3, 12), strict=True):
        np.testing.assert_array_equal(read_case_image(case).array[0], sample(seed=seed))
    write_table(dataset, tmp_path / "again.csv")
    assert read_dataset(tmp_path / "again.csv").cases == dataset.cases


def test_the_state_of_a_series_is_that_of_all_its_files(study):
    before = file_states([study])
    assert len(before) == 24
    next(study.iterdir()).touch()
    assert file_states([study]) != before


def test_a_series_is_inspected(tmp_path):
    from attunet.data.formats import write_volume
    from attunet.data.volume import Volume

    save_series(make_series(sample(), modality="CT"), tmp_path / "images/a")
    volume = read_volume(tmp_path / "images/a")
    label = np.zeros(volume.array.shape, np.uint8)
    label[0, 3:7, 2:6, 1:4] = 1
    (tmp_path / "labels").mkdir()
    write_volume(Volume(label, volume.affine), tmp_path / "labels/a.nii.gz")
    result = inspect(read_dataset(tmp_path))
    assert [(facts.shape, facts.spacing) for facts in result.facts] == [((12, 10, 6), (0.5, 0.75, 2.0))]
    assert result.clean


def test_without_pydicom_the_error_says_what_to_install(study, monkeypatch):
    import sys

    from attunet.data.formats.dicom import find
    from attunet.errors import EngineError

    monkeypatch.setattr(find, "_LISTINGS", {})
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(EngineError) as caught:
        read_volume(study, key="3")
    assert 'pip install "attunet[dicom]"' in caught.value.hint
    assert "study" in caught.value.message


@pytest.mark.parametrize(
    ("folder", "shape", "steps"),
    [
        ("totalsegmentator_examples/images/example_ct_dicom", (512, 512, 20), (0.9765625, 0.9765625, 2.0)),
        ("dcmqi_ct_3slice_seg/images", (512, 512, 3), (0.810547, 0.810547, 1.0)),
    ],
)
def test_real_series_equal_those_that_simpleitk_reads(folder, shape, steps, shared_data):
    import SimpleITK as sitk  # noqa: N813

    volume = read_volume(shared_data / folder)
    assert volume.spatial_shape == shape
    np.testing.assert_allclose(volume.spacing, steps, rtol=1e-6)
    files = sorted(file for file in (shared_data / folder).rglob("*") if file.is_file())
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(files[0].parent)))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(reader.Execute()).T)
