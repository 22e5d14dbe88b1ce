"""Labels of several files: put together, overlapping, of objects."""

from dataclasses import replace
from itertools import combinations

import nibabel
import numpy as np
import pytest

from attunet.data.cases import Case, read_case
from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats import write_volume
from attunet.data.label_files import combined_value, read_label_files, split_value
from attunet.data.volume import Volume
from attunet.errors import GeometryError, LabelError

SHAPE = (6, 5, 4)


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def mask(box, value=1):
    array = np.zeros(SHAPE, np.uint8)
    array[box] = value
    return array


@pytest.fixture
def organs(tmp_path):
    """Liver 1 and spleen 2, apart; tumour 3, which lies in the liver."""
    boxes = {"liver": np.s_[:3], "spleen": np.s_[4:], "tumour": np.s_[1:2, 2:]}
    parts = [
        LabelPart(name, value, save(tmp_path / f"{name}.nii.gz", mask(boxes[name], value=255 if value == 2 else 1)))
        for value, name in enumerate(boxes, start=1)
    ]
    return LabelFiles("label", tuple(parts), values=(1, 2, 3))


def test_a_file_per_label_is_read_as_one_label(organs):
    apart = replace(organs, parts=organs.parts[:2])
    array = read_label_files(apart).array[0]
    assert array.dtype == np.uint8
    assert (array[:3] == 1).all()
    assert (array[3] == 0).all()
    assert (array[4:] == 2).all()  # whatever value the file has


def test_overlapping_labels_are_refused_with_their_names(organs):
    with pytest.raises(LabelError, match=r"liver and tumour in 12 voxels") as raised:
        read_label_files(organs)
    assert "--overlap" in raised.value.hint


def test_the_last_file_wins_if_asked(organs):
    array = read_label_files(replace(organs, overlap="last")).array[0]
    assert np.bincount(array.ravel()).tolist() == [20, 60 - 12, 40, 12]


def test_overlapping_labels_get_a_value_of_their_own(organs):
    array = read_label_files(replace(organs, overlap="regions")).array[0]
    both = combined_value((1, 3), (1, 2, 3))
    assert both == 5
    assert np.bincount(array.ravel()).tolist() == [20, 48, 40, 0, 0, 12]


def test_three_labels_in_one_voxel(tmp_path):
    parts = [LabelPart(f"a{value}", value, save(tmp_path / f"{value}.nii", mask(np.s_[:value]))) for value in (1, 2, 3)]
    for order in (parts, parts[::-1]):
        array = read_label_files(LabelFiles("label", tuple(order), (1, 2, 3), "regions")).array[0]
        assert [set(split_value(int(array[row, 0, 0]), (1, 2, 3))) for row in range(3)] == [{1, 2, 3}, {2, 3}, {3}]


@pytest.mark.parametrize("values", [(1, 2, 3), (5, 7, 8, 200), tuple(range(1, 31))])
def test_every_combination_has_one_value(values):
    sets = [parts for size in (1, 2, 3) for parts in combinations(values, size)]
    numbers = [combined_value(parts, values) for parts in sets]
    assert len(set(numbers)) == len(numbers)
    assert [split_value(number, values) for number in numbers] == sets
    assert max(numbers) == values[-1] + len(numbers) - len(values)  # without gaps


def test_more_combinations_than_integers_are_refused():
    with pytest.raises(LabelError, match="40 of 60"):
        combined_value(range(1, 41), range(1, 61))


def test_objects_are_merged_only_on_request(tmp_path):
    parts = []
    for index in range(3):
        picture = np.zeros((1, 8, 9, 1), np.uint8)
        picture[0, 2 * index : 2 * index + 3, 3] = 255
        path = tmp_path / "masks" / f"{index:08x}.png"
        path.parent.mkdir(exist_ok=True)
        write_volume(Volume(picture, np.eye(4)), path)
        parts.append(LabelPart("nucleus", 1, path))
    nuclei = LabelFiles("object", tuple(parts))
    with pytest.raises(LabelError, match="3 files") as raised:
        read_label_files(nuclei)
    assert "--merge-instances" in raised.value.hint
    array = read_label_files(replace(nuclei, merge=True)).array
    assert array.sum() == 7
    assert array.max() == 1


def test_parts_on_other_grids_are_refused(organs, tmp_path):
    moved = np.eye(4)
    moved[0, 3] = 3
    wrong = LabelPart("spleen", 2, save(tmp_path / "moved.nii", mask(np.s_[4:]), moved))
    with pytest.raises(GeometryError, match=r"liver\.nii\.gz and moved\.nii"):
        read_label_files(replace(organs, parts=(organs.parts[0], wrong)))


def test_a_part_of_several_values_is_refused(tmp_path):
    both = mask(np.s_[:2]) + mask(np.s_[4:], value=2)
    part = LabelPart("organs", 1, save(tmp_path / "organs.nii", both))
    with pytest.raises(LabelError, match="values 1, 2"):
        read_label_files(LabelFiles("label", (part,)))


def test_a_case_has_such_a_label(organs, tmp_path):
    image = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16))
    case = Case("s1", (image,), replace(organs, overlap="last"))
    assert case.paths == (image, *(part.path for part in organs.parts))
    assert str(case.label) == str(tmp_path)
    _, label = read_case(case)
    assert label.array.max() == 3
    assert case.reading != replace(case, label=organs).reading
    assert replace(case, label=image).reading == {}
