"""Labels of DICOM go with the series that they refer to, wherever both lie and whatever they are called."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import make_segmentation, make_structure_set
from dicom_series import make_series, new_uid, sample, save_series

from attunet.data.cases import read_case
from attunet.data.dataset import DatasetOptions
from attunet.data.layouts import read_dataset

SHAPE = (12, 10, 6)


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def mask(seed):
    return np.random.default_rng(seed).random(SHAPE) < 0.4


def labels_of(dataset):
    """The foreground of each case by its id, after its image was read."""
    found = {}
    for case in dataset.cases:
        image, label = read_case(case)
        assert image.spatial_shape == label.spatial_shape
        found[case.id] = label.array[0] > 0
    return found


def kinds(dataset):
    return {problem.kind: problem.message for problem in dataset.problems}


@pytest.mark.parametrize(
    ("images", "label"),
    [
        ("p{}/CT", "p{}/RS.dcm"),
        ("p{}", "p{}/labels"),  # in the folder of its series
        ("p{}/study/1.000-CT-0{}", "p{}/study/300.000-Segmentation-77/1-1.dcm"),
        ("images/a{}", "labels/other{}.dcm"),  # names that do not tell
    ],
)
@pytest.mark.parametrize("make", [make_structure_set, make_segmentation], ids=["structure set", "segmentation"])
def test_where_files_lie_does_not_matter(tmp_path, images, label, make):
    for number in (1, 2):
        series = make_series(sample(SHAPE, number))
        save_series(series, tmp_path / images.format(number, number), suffix="")
        save(
            make(series, [("liver", mask(number))]), tmp_path / label.format(3 - number if "other" in label else number)
        )
    dataset = read_dataset(tmp_path)
    found = labels_of(dataset)
    assert len(found) == 2
    for number, (id, label_) in enumerate(found.items(), start=1):
        assert str(number) in id
        assert (label_ == mask(number)).all()
    assert "ReferencedSeriesSequence" in str(dataset.rule)
    assert not dataset.problems


def test_the_series_that_a_label_names_is_chosen_among_others(tmp_path):
    first, second = make_series(sample(SHAPE, 1)), make_series(sample(SHAPE, 2))
    save_series(first, tmp_path / "p1/all", suffix=".a.dcm")
    save_series(second, tmp_path / "p1/all", suffix=".b.dcm")
    third = save_series(make_series(sample(SHAPE, 3)), tmp_path / "p1/scout")
    save(make_structure_set(second, [("liver", mask(2))]), tmp_path / "p1/RS.dcm")
    dataset = read_dataset(tmp_path)
    (case,) = dataset.cases
    assert case.key == second[0].SeriesInstanceUID
    image, label = read_case(case)
    assert (image.array[0] == sample(SHAPE, 2)).all()
    assert (label.array[0] == mask(2)).all()
    assert third.name in kinds(dataset)["left out"]


def test_several_labelled_series_of_a_folder_are_several_cases(tmp_path):
    for number in (1, 2):
        series = make_series(sample(SHAPE, number))
        save_series(series, tmp_path / "p1", suffix=f".{number}.dcm")
        save(make_segmentation(series, [("liver", mask(number))]), tmp_path / f"p1/seg{number}.dcm")
    found = labels_of(read_dataset(tmp_path))
    assert sorted(id[-4:] for id in found) == ["p1_1", "p1_2"]
    assert sorted(label.sum() for label in found.values()) == sorted(mask(number).sum() for number in (1, 2))


def test_several_labels_of_a_series_make_up_one(tmp_path):
    series, whole = make_series(sample(SHAPE)), mask(1)
    left, right = whole.copy(), whole.copy()
    left[6:], right[:6] = False, False
    save_series(series, tmp_path / "p1/ct")
    save(make_segmentation(series, [("left", left)]), tmp_path / "p1/a.dcm")
    save(make_structure_set(series, [("right", right)]), tmp_path / "p1/b.dcm")
    dataset = read_dataset(tmp_path)
    _, label = read_case(dataset.cases[0])
    assert dataset.label_names == {"background": 0, "left": 1, "right": 2}
    assert (label.array[0] == left + 2 * right).all()


def test_a_frame_of_reference_tells_where_the_series_is_not_named(tmp_path):
    series = make_series(sample(SHAPE))
    save_series(series, tmp_path / "p1/ct")
    segmentation = make_segmentation(series, [("liver", mask(1))])
    segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID = new_uid()
    save(segmentation, tmp_path / "p1/seg.dcm")
    dataset = read_dataset(tmp_path)
    assert (next(iter(labels_of(dataset).values())) == mask(1)).all()
    assert "each goes with the only one in its frame of reference" in kinds(dataset)["matched by frame of reference"]


def test_what_refers_to_nothing_or_to_too_much_is_a_problem(tmp_path):
    series, twin = make_series(sample(SHAPE)), make_series(sample(SHAPE))
    for ds in twin:
        ds.FrameOfReferenceUID = series[0].FrameOfReferenceUID
    save_series(series, tmp_path / "p1/ct")
    save_series(twin, tmp_path / "p1/again")
    save(make_segmentation(series, [("liver", mask(1))]), tmp_path / "p1/seg.dcm")
    save(make_segmentation(make_series(sample(SHAPE)), [("liver", mask(1))]), tmp_path / "p1/lost.dcm")
    vague = make_segmentation(series, [("liver", mask(1))])
    del vague.ReferencedSeriesSequence
    save(vague, tmp_path / "p1/vague.dcm")
    dataset = read_dataset(tmp_path)
    assert len(dataset.cases) == 1
    found = kinds(dataset)
    assert found["label without image"] == "p1/lost.dcm refers to no series that is there"
    assert found["several images"] == "p1/vague.dcm refers to several series: p1/again, p1/ct"
    assert "p1/again" in found["left out"]


def test_names_pair_labels_whose_series_are_of_another_format(tmp_path):
    import nibabel

    for number in (1, 2):
        series = make_series(sample(SHAPE, number), np.eye(4))
        save_series(series, tmp_path / "dicom" / str(number))
        (tmp_path / "data/images").mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(sample(SHAPE, number), np.eye(4)), tmp_path / f"data/images/p{number}.nii.gz")
        save(make_structure_set(series, [("liver", mask(number))]), tmp_path / f"data/labels/p{number}.dcm")
    found = labels_of(read_dataset(tmp_path / "data"))
    assert {id: int(label.sum()) for id, label in found.items()} == {f"p{n}": int(mask(n).sum()) for n in (1, 2)}


def test_names_decide_where_series_are_channels_of_one_case(tmp_path):
    for number in (1, 2):
        t1 = make_series(sample(SHAPE, number), modality="MR")
        save_series(t1, tmp_path / f"p{number}/t1")
        save_series(make_series(sample(SHAPE, 7), modality="MR"), tmp_path / f"p{number}/t2")
        save(make_structure_set(t1, [("liver", mask(number))]), tmp_path / f"p{number}/seg.dcm")
    dataset = read_dataset(tmp_path)
    assert dataset.channel_names == ("t1", "t2")
    assert [len(case.images) for case in dataset.cases] == [2, 2]
    assert all((label == mask(number)).all() for number, label in enumerate(labels_of(dataset).values(), start=1))


def test_stated_patterns_take_precedence(tmp_path):
    series = make_series(sample(SHAPE))
    save_series(series, tmp_path / "images/p1")
    save(make_segmentation(series, [("liver", mask(1))]), tmp_path / "labels/p1.dcm")
    dataset = read_dataset(tmp_path, DatasetOptions(pattern="images/{id}", label_pattern="labels/{id}.dcm"))
    assert dataset.rule.images == ("images/{id}",)
    assert (labels_of(dataset)["p1"] == mask(1)).all()


def test_damaged_labels_are_problems(tmp_path):
    series = make_series(sample(SHAPE))
    save_series(series, tmp_path / "p1/ct")
    save(make_segmentation(series, [("liver", mask(1))]), tmp_path / "p1/seg.dcm")
    path = tmp_path / "p1/more.dcm"
    structures = make_structure_set(series, [("liver", mask(1))])
    structures.ROIContourSequence[0].ReferencedROINumber = 5
    save(structures, path)
    assert "contours of an ROI 5" in kinds(read_dataset(tmp_path))["unreadable file"]
