"""Reading cases, and finding what to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunet.data.cases import Case, find_cases, output_suffix, read_case, read_case_image, read_case_label
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import DatasetError, FormatError, GeometryError, LabelError


def save(path: Path, value: float = 1, shape: tuple[int, ...] = (3, 4, 5), spacing: float = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume.from_array(np.full(shape, value, np.float32), (spacing,) * 3), path)
    return path


def test_channels_of_several_files_are_stacked(tmp_path):
    case = Case("a", (save(tmp_path / "0.nii", 1), save(tmp_path / "1.nii", 2)), None)
    image = read_case_image(case)
    assert image.array.shape == (2, 3, 4, 5)
    assert image.array[:, 0, 0, 0].tolist() == [1, 2]


def test_channels_on_different_grids_are_refused(tmp_path):
    case = Case("a", (save(tmp_path / "0.nii"), save(tmp_path / "1.nii", spacing=2)), None)
    with pytest.raises(GeometryError, match=r"0\.nii and 1\.nii of case a"):
        read_case_image(case)


def test_image_and_label_come_on_one_grid(tmp_path):
    case = Case("a", (save(tmp_path / "i.nii"),), save(tmp_path / "l.nii", 3, spacing=1.001))
    image, label = read_case(case)
    assert label is not None
    np.testing.assert_array_equal(label.affine, image.affine)
    assert (label.array.dtype, label.array.max()) == (np.uint8, 3)
    assert read_case(Case("a", case.images, None))[1] is None


def test_a_label_on_another_grid_follows_the_policy(tmp_path):
    case = Case("a", (save(tmp_path / "i.nii"),), save(tmp_path / "l.nii", 3, spacing=2))
    with pytest.raises(GeometryError, match="spacing"):
        read_case(case)
    assert read_case_label(case, geometry="copy-affine").array.min() == 3
    assert read_case_label(case, geometry="resample").spatial_shape == (3, 4, 5)


def test_a_case_without_label_says_so(tmp_path):
    with pytest.raises(LabelError, match="no label"):
        read_case_label(Case("a", (save(tmp_path / "i.nii"),), None))
    with pytest.raises(FormatError, match="no file"):
        read_case_image(Case("a", (tmp_path / "none.nii",), None))


def ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


def test_files_and_folders_are_found_once(tmp_path):
    a, b = save(tmp_path / "in/a.nii.gz"), save(tmp_path / "in/b.nii.gz")
    (tmp_path / "in/notes.txt").write_text("x")
    assert ids(find_cases([tmp_path / "in", a], 1)) == ["a", "b"]
    assert ids(find_cases([b, a], 1)) == ["b", "a"]


def test_channel_numbers_are_gathered_or_dropped(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        save(tmp_path / f"two/{name}.nii")
    cases = find_cases([tmp_path / "two"], 2)
    assert [(case.id, len(case.images)) for case in cases] == [("a", 2), ("b", 2)]
    save(tmp_path / "one/a_0000.nii")
    assert ids(find_cases([tmp_path / "one"], 1)) == ["a"]
    save(tmp_path / "one/b.nii")
    assert ids(find_cases([tmp_path / "one"], 1)) == ["a_0000", "b"]


def test_an_incomplete_case_is_left_to_fail_alone(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000"):
        save(tmp_path / f"{name}.nii")
    assert [len(case.images) for case in find_cases([tmp_path], 2)] == [2, 1]


def test_a_file_of_unknown_suffix_is_left_to_its_reader(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    assert ids(find_cases([tmp_path / "x.txt"], 1)) == ["x"]


def test_what_cannot_be_predicted_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no file or folder"):
        find_cases([tmp_path / "none"], 1)
    with pytest.raises(DatasetError, match="no image"):
        find_cases([tmp_path], 1)
    with pytest.raises(DatasetError, match="written as a"):
        find_cases([save(tmp_path / "1/a.nii"), save(tmp_path / "2/a.nii.gz")], 1)
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom/1").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(DatasetError, match="no series of"):
        find_cases([tmp_path / "dicom"], 1)


@pytest.mark.parametrize(("name", "suffix"), [("a.NII", ".nii"), ("a.png", ".png"), ("a.txt", ".nii.gz")])
def test_results_take_the_suffix_of_the_image(name, suffix):
    assert output_suffix(Case("a", (Path(name), Path("b.mha")), None)) == suffix
