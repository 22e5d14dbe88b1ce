"""What the options of a data set choose: overlapping and missing label files, objects, frames and arrays."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from attunet.data.cases import Case, Dataset, DatasetOptions, find_cases, read_case, read_dataset
from attunet.data.checks import inspect
from attunet.data.composition import with_choices
from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import DatasetError, FormatError, LabelError
from attunet.planning.fingerprint import fingerprint

SHAPE = (12, 10, 8)
NAMES = {"liver": 1, "spleen": 2, "tumour": 3}
BOXES = {"liver": np.s_[1:6, 1:8], "spleen": np.s_[8:11], "tumour": np.s_[3:5, 3:6, 2:6]}


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


@pytest.fixture
def abdomen(tmp_path):
    """Three cases, in which the tumour lies in the liver; the last has no file of a tumour."""
    cases = []
    for index in range(3):
        folder = tmp_path / f"s{index}"
        image = np.random.default_rng(index).normal(0, 1, SHAPE).astype(np.float32)
        parts = []
        for name in list(NAMES)[: 2 if index == 2 else 3]:
            mask = np.zeros(SHAPE, np.uint8)
            mask[BOXES[name]] = 1
            image[mask > 0] += 5
            parts.append(LabelPart(name, NAMES[name], save(folder / "segmentations" / f"{name}.nii.gz", mask)))
        label = LabelFiles("label", tuple(parts))
        cases.append(Case(f"s{index}", (save(folder / "ct.nii.gz", image),), label))
    names = {"background": 0, **NAMES}
    return Dataset(root=tmp_path, layout="matched", cases=tuple(cases), label_names=names)


def kinds(dataset, **options):
    problems = inspect(with_choices(dataset, DatasetOptions(**options))).problems
    return {(problem.kind, problem.severity) for problem in problems if problem.kind != "orientation unknown"}


def test_overlapping_labels_are_a_problem_with_a_remedy(abdomen):
    assert kinds(abdomen) >= {("overlapping labels", "problem"), ("label files missing", "warning")}
    dataset = with_choices(abdomen, DatasetOptions())
    (found, _) = [problem for problem in inspect(dataset).problems if problem.kind == "overlapping labels"]
    assert "liver and tumour" in found.message
    assert "--overlap regions" in found.remedy
    with pytest.raises(LabelError, match="overlap"):
        fingerprint(dataset)


def test_the_last_file_may_win(abdomen):
    assert kinds(abdomen, overlap="last") == {("label files missing", "warning")}
    found = fingerprint(with_choices(abdomen, DatasetOptions(overlap="last")))
    assert found.labels == {"background": 0, **NAMES}
    assert not found.regions


def test_a_label_without_a_file_is_not_annotated_unless_it_is_said_to_be_absent(abdomen):
    unknown = with_choices(abdomen, DatasetOptions(overlap="last"))
    assert [case.annotated for case in unknown.cases] == [None, None, ("liver", "spleen")]
    (problem,) = unknown.problems
    assert "tumour in 1" in problem.message
    assert "--missing-labels absent" in problem.remedy
    absent = with_choices(abdomen, DatasetOptions(overlap="last", missing_labels="absent"))
    assert all(case.annotated is None for case in absent.cases)
    assert "absent in these cases" in absent.problems[0].message


def test_overlapping_labels_become_regions(abdomen):
    dataset = with_choices(abdomen, DatasetOptions(overlap="regions"))
    assert kinds(abdomen, overlap="regions") == {("label files missing", "warning")}
    found = fingerprint(dataset)
    both = 5  # the pair of 1 and 3
    assert found.regions == {"liver": (1, both), "spleen": (2,), "tumour": (3, both)}
    assert list(found.regions)[-1] == "tumour"  # the smallest is written last
    assert found.labels == {"background": 0, "liver": 1, "spleen": 2, "tumour": both}  # inside the liver, as a mask
    tumour = found.foreground.index("tumour")
    assert (found.label_voxels[:, tumour] == [24, 24, 0]).all()
    assert (found.label_voxels[:, found.foreground.index("liver")] == 5 * 7 * 8).all()


def test_an_outer_region_of_which_little_is_seen_keeps_a_value_of_its_own(abdomen):
    parts = abdomen.cases[0].label.parts
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:6, 1:7] = 1  # nearly the whole liver
    save(parts[2].path, mask)
    dataset = replace(abdomen, cases=abdomen.cases[:1])
    found = fingerprint(with_choices(dataset, DatasetOptions(overlap="regions")))
    assert found.labels["tumour"] in found.regions["liver"]
    assert found.labels["liver"] == 1


def test_objects_are_a_problem_until_they_are_merged(tmp_path, abdomen):
    cases = tuple(
        replace(case, label=LabelFiles("object", tuple(LabelPart("object", 1, part.path) for part in case.label.parts)))
        for case in abdomen.cases
    )
    dataset = replace(abdomen, cases=cases, label_names=None)
    assert ("instance masks", "problem") in kinds(dataset)
    assert kinds(dataset, merge_instances=True) == set()
    with pytest.raises(DatasetError, match="--merge-instances has no effect"):
        with_choices(abdomen, DatasetOptions(merge_instances=True))
    with pytest.raises(DatasetError, match="--overlap regions has no effect"):
        with_choices(dataset, DatasetOptions(overlap="regions"))


def test_a_frame_is_chosen_for_every_case_and_its_cache(tmp_path):
    series = np.arange(6 * 5 * 4 * 7, dtype=np.int16).reshape(6, 5, 4, 7)
    path = save(tmp_path / "bold.nii.gz", series)
    (every,), (third,) = find_cases([path], 1), find_cases([path], 1, DatasetOptions(frame=3))
    assert read_case(every)[0].channels == 7
    np.testing.assert_array_equal(read_case(third)[0].array, series[None, ..., 3])
    assert third.reading == {"frame": 3}
    assert every.reading == {}
    (late,) = find_cases([path], 1, DatasetOptions(frame=7))
    with pytest.raises(FormatError, match="no frame 7: it contains 7 frames") as raised:
        read_case(late)
    assert "--frame" in raised.value.hint


def test_data_files_outside_the_folder_of_a_header_need_a_flag(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "voxels.raw").write_bytes(bytes(range(24)))
    text = "NDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementDataFile = ../voxels.raw\n"
    for name in ("image", "label"):
        (tmp_path / "set" / f"{name}.mhd").write_text(text)
    (tmp_path / "set" / "cases.csv").write_text("image,label\nimage.mhd,label.mhd\n")
    with pytest.raises(FormatError, match="outside its folder") as refused:
        read_case(read_dataset(tmp_path / "set").cases[0])
    assert "--allow-outside" in refused.value.hint
    image, label = read_case(read_dataset(tmp_path / "set", DatasetOptions(allow_outside=True)).cases[0])
    assert image.array.ravel(order="F").tolist() == label.array.ravel(order="F").tolist() == list(range(24))


def test_a_key_without_a_use_is_refused(tmp_path):
    path = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16))
    with pytest.raises(DatasetError, match=r"--key image has no effect: \.nii\.gz"):
        find_cases([path], 1, DatasetOptions(key="image"))


def test_one_file_is_not_image_and_label_at_once(tmp_path):
    path = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16))
    with pytest.raises(LabelError, match="both image and label") as raised:
        read_case(Case("a", (path,), path))
    assert "--label-key" in raised.value.hint


def test_options_are_recorded_where_they_differ(tmp_path):
    options = DatasetOptions(overlap="regions", frame="all", key="image")
    assert options.to_dict() == {"overlap": "regions", "frame": "all", "key": "image"}
    assert DatasetOptions.from_dict(options.to_dict()) == options


def test_a_folder_as_of_totalsegmentator_is_planned_with_its_regions(abdomen):
    options = DatasetOptions(overlap="regions")
    dataset = read_dataset(abdomen.root, options)
    assert [case.id for case in dataset.cases] == ["s0", "s1", "s2"]
    assert all(isinstance(case.label, LabelFiles) and case.label.overlap == "regions" for case in dataset.cases)
    assert dataset.cases[2].annotated == ("liver", "spleen")
    found = fingerprint(dataset)
    assert set(found.regions["tumour"]) & set(found.regions["liver"])
    assert dataset.options.to_dict() == {"overlap": "regions"}


def test_a_folder_of_nuclei_is_read_when_they_are_merged(tmp_path):
    for index in range(2):
        random = np.random.default_rng(index)
        folder = tmp_path / f"{random.bytes(16).hex()}"
        picture = random.integers(0, 255, (3, 16, 16, 1), np.uint8)
        write_volume(Volume(picture, np.eye(4)), folder / "images" / f"{folder.name}.png")
        for nucleus in range(3):
            mask = np.zeros((1, 16, 16, 1), np.uint8)
            mask[0, 5 * nucleus : 5 * nucleus + 4, 3:9] = 255
            write_volume(Volume(mask, np.eye(4)), folder / "masks" / f"{random.bytes(16).hex()}.png")
    refused = inspect(read_dataset(tmp_path))
    assert "instance masks" in {problem.kind for problem in refused.problems}
    merged = read_dataset(tmp_path, DatasetOptions(merge_instances=True))
    assert [read_case(case)[1].array.sum() for case in merged.cases] == [3 * 4 * 6] * 2


def test_image_and_label_of_a_csv_file_may_be_arrays_of_one_archive(tmp_path):
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.savez(tmp_path / "case1.npz", image=image, label=(image > 1).astype(np.uint8))
    (tmp_path / "cases.csv").write_text("image,label\ncase1.npz,case1.npz\n")
    dataset = read_dataset(tmp_path / "cases.csv", DatasetOptions(key="image", label_key="label"))
    volume, label = read_case(dataset.cases[0])
    np.testing.assert_array_equal(label.array, volume.array > 1)
    assert dataset.cases[0].reading == {"key": "image", "label_key": "label"}
