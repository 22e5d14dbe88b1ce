"""Recognising data sets by looking at them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_series, sample, save_series

from attunet.data.layouts import LAYOUTS, read_dataset
from attunet.errors import DatasetError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def describe(root: Path, **description: object) -> Path:
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def ids(root: Path) -> list[str]:
    return [case.id for case in read_dataset(root).cases]


def test_every_layout_has_its_own_name_and_is_named_when_none_fits(tmp_path):
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
    assert not any(layout.detect(tmp_path) for layout in LAYOUTS)
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)
    assert all(layout.recognised_by in caught.value.hint for layout in LAYOUTS)


def test_a_description_that_fits_no_layout_is_not_ignored(tmp_path):
    describe(tmp_path, labels={"background": 0, "liver": 1})
    table(tmp_path, "image,label", "a.png,b.png")
    with pytest.raises(DatasetError, match="no data set recognised"):
        read_dataset(tmp_path)


def test_msd(tmp_path):
    touch(tmp_path, "imagesTr/b.nii.gz", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTr/._a.nii.gz")
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ba"]
    describe(tmp_path, labels={"0": "background", "1": "liver"}, modality={"0": "CT"}, training=pairs)
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.label_names) == ("msd", {"background": 0, "liver": 1})
    assert (dataset.channel_names, ids(tmp_path)) == (("CT",), ["a", "b"])
    assert dataset.cases[0].label == tmp_path / "labelsTr/a.nii.gz"


def test_nnunet_2_gathers_channels_and_takes_out_the_ignore_label(tmp_path):
    touch(tmp_path, *(f"imagesTr/a_000{n}.nii.gz" for n in range(2)), "labelsTr/a.nii.gz")
    labels = {"background": 0, "tumour": 1, "ignore": 2}
    describe(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels=labels, file_ending=".nii.gz")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.channel_names, dataset.ignore_label) == ("nnunet", ("T1", "T2"), 2)
    assert dataset.label_names == {"background": 0, "tumour": 1}
    assert [image.name for image in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert not dataset.problems


def test_regions_keep_their_order_and_the_values_they_are_painted_with(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    labels = {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    files = {"channel_names": {"0": "T1"}, "file_ending": ".nii.gz"}
    dataset = read_dataset(describe(tmp_path, labels=labels, regions_class_order=[1, 2, 3], **files))
    assert list(dataset.regions.items()) == [("whole tumor", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,))]
    painted = {"background": 0, "whole tumor": 1, "core": 2, "enhancing": 3}
    assert list(dataset.label_names.items()) == list(painted.items())
    assert dataset.ignore_label == 4


def test_nnunet_2_notes_missing_channels_and_orphans(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/z.nii.gz")
    describe(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels={"bg": 0, "x": 1}, file_ending=".nii.gz")
    assert {(p.case, p.kind) for p in read_dataset(tmp_path).problems} == {
        ("a", "channel missing"),
        ("z", "label without image"),
    }


def test_nnunet_2_may_name_the_files_of_each_case(tmp_path):
    files = {"a": {"images": ["x/one.nii", "y/two.nii"], "label": "l/a.nii"}}
    describe(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels={"bg": 0, "x": 1}, dataset=files)
    assert read_dataset(tmp_path).cases[0].images == (tmp_path / "x/one.nii", tmp_path / "y/two.nii")


def test_nnunet_1_lists_images_without_their_channel_number(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    pairs = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    describe(tmp_path, labels={"0": "background", "1": "x"}, training=pairs)
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, len(dataset.cases[0].images)) == ("nnunet", 2)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}, "channel_names": {"0": "x"}}, "regions_class_order"),
        ({"labels": {"background": 0, "a": 0}, "channel_names": {"0": "x"}}, "twice"),
        ({"labels": {"background": 0, "a": "b"}, "channel_names": {"0": "x"}}, "whole numbers"),
        ({"labels": [1], "channel_names": {"0": "x"}}, "expected names"),
        ({"labels": {"b": 0}, "file_ending": ".xyz"}, "type .xyz"),
        ({"labels": {"b": 0}, "file_ending": ".nii.gz"}, "CASE_0000"),
        ({"training": [{"label": "x"}]}, "pairs"),
        ({"training": [{"image": "b/a.nii"}, {"image": "b/a.nii"}]}, "twice"),
        ({"dataset": {"a": {}}, "channel_names": {"0": "x"}}, "'images' is missing"),
    ],
)
def test_descriptions_that_contradict_themselves(description, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        read_dataset(describe(tmp_path, **description))


def test_a_description_that_is_no_json(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="JSON"):
        read_dataset(tmp_path)


def test_a_list_that_names_one_of_several_channels_reads_all(tmp_path):
    touch(
        tmp_path,
        *(f"imagesTr/{c}_000{n}.nii.gz" for c in "ab" for n in range(2)),
        *(f"labelsTr/{c}.nii.gz" for c in "ab"),
    )
    pairs = [{"image": f"imagesTr/{c}_0000.nii.gz", "label": f"labelsTr/{c}.nii.gz"} for c in "ab"]
    description = {"labels": {"0": "background", "1": "x"}, "training": pairs, "numTraining": 2}
    dataset = read_dataset(describe(tmp_path, modality={"0": "T1", "1": "T2"}, **description))
    assert [(case.id, len(case.images)) for case in dataset.cases] == [("a", 2), ("b", 2)]
    assert not dataset.problems
    dataset = read_dataset(describe(tmp_path, modality={"0": "T1"}, **description))
    assert [(case.id, len(case.images)) for case in dataset.cases] == [("a_0000", 1), ("b_0000", 1)]
    assert "imagesTr/a_0001.nii.gz" in dataset.problems[0].message


def test_listed_images_of_one_name_in_several_folders(tmp_path):
    touch(tmp_path, *(f"p{n}/{kind}.nii.gz" for n in range(3) for kind in ("ct", "seg")))
    pairs = [{"image": f"p{n}/ct.nii.gz", "label": f"p{n}/seg.nii.gz"} for n in range(3)]
    assert ids(describe(tmp_path, labels={"0": "background", "1": "x"}, training=pairs)) == ["p0_ct", "p1_ct", "p2_ct"]


def test_nnunet_says_what_its_description_leaves_out(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.NII.GZ", "labelsTr/a.nii.gz", "imagesTr/odd.nii.gz", "imagesTs/t_0000.nii.gz")
    (tmp_path / "imagesTr/b_0000.nii.gz").symlink_to("/nowhere/b.nii.gz")
    describe(tmp_path, channel_names={"0": "CT"}, labels={"bg": 0, "x": 1}, file_ending=".nii.gz", numTraining=2)
    dataset = read_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["a"]
    said = {problem.kind: problem.message for problem in dataset.problems if problem.kind != "left out"}
    assert said.keys() == {"broken link", "number of cases"}
    assert "b_0000" in said["broken link"]
    left = [problem.message for problem in dataset.problems if problem.kind == "left out"]
    assert ["t_0000" in left[0], "odd.nii.gz" in left[1]] == [True, True]


def test_nnunet_numbers_of_patients_are_not_channels(tmp_path):
    touch(tmp_path, *(f"{folder}/patient_000{n}.nii.gz" for folder in ("imagesTr", "labelsTr") for n in range(1, 4)))
    describe(tmp_path, channel_names={"0": "CT"}, labels={"bg": 0, "x": 1}, file_ending=".nii.gz")
    assert ids(tmp_path) == ["patient_0001", "patient_0002", "patient_0003"]


@pytest.mark.parametrize("id", ["../../../escaped", "/absolute", "..", "a\0b", "NUL", "x" * 300])
def test_ids_that_could_lead_outside_are_refused(id, tmp_path):
    files = {id: {"images": ["i.nii.gz"], "label": "l.nii.gz"}}
    with pytest.raises(DatasetError, match="the case in"):
        read_dataset(describe(tmp_path, channel_names={"0": "x"}, labels={"bg": 0, "x": 1}, dataset=files))


@pytest.mark.parametrize(
    "folders", [("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"), ("Images", "Labels")]
)
def test_paired_folders(folders, tmp_path):
    touch(tmp_path, f"{folders[0]}/a.png", f"{folders[0]}/b.nii.gz", f"{folders[1]}/a.png", f"{folders[1]}/c.png")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.label_names) == ("plain", None)
    assert [(case.id, case.label is None) for case in dataset.cases] == [("a", False), ("b", True)]
    assert [(p.case, p.kind) for p in dataset.problems] == [("c", "label without image")]


def test_paired_names_may_differ_by_ending_and_channel(tmp_path):
    touch(tmp_path, "images/a_0000.nii", "images/a_0001.nii", "images/b_0000.nii", "masks/a.nii", "masks/b_mask.nii")
    cases = read_dataset(tmp_path).cases
    assert [(case.id, len(case.images), case.label.name) for case in cases if case.label] == [
        ("a", 2, "a.nii"),
        ("b", 1, "b_mask.nii"),
    ]


def test_paired_frame_numbers_are_not_channels(tmp_path):
    touch(tmp_path, *(f"{folder}/frame_000{n}.png" for folder in ("images", "labels") for n in range(3)))
    assert ids(tmp_path) == ["frame_0000", "frame_0001", "frame_0002"]


def test_paired_with_one_name_twice(tmp_path):
    with pytest.raises(DatasetError, match="both case a"):
        read_dataset(touch(tmp_path, "images/a.png", "images/a.nii.gz", "labels/a.png"))


def test_a_series_is_an_image_named_like_its_folder(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz", "labels/series.nii.gz")
    save_series(make_series(sample()), tmp_path / "images/series")
    dataset = read_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["a", "series"]
    assert dataset.cases[1].images == (tmp_path / "images/series",)
    assert not dataset.problems


def test_files_of_different_series_are_images_of_their_own(tmp_path):
    for name in "ab":
        save_series(make_series(sample((12, 10, 1))), tmp_path / "images", suffix=f"{name}.dcm")
    touch(tmp_path, "labels/0000a.png", "labels/0000b.png")
    assert ids(tmp_path) == ["0000a", "0000b"]


def test_series_without_labels_are_named(tmp_path):
    save_series(make_series(sample(), SeriesNumber=4, SeriesDescription="axial"), tmp_path / "a")
    with pytest.raises(DatasetError, match=r"1 DICOM series and no labels of them: 4 \(axial, 6 slices, CT") as caught:
        read_dataset(tmp_path)
    assert "attunet predict -i" in caught.value.hint


def test_localizers_next_to_a_series_are_left_out_with_a_warning(tmp_path):
    touch(tmp_path, "labels/series.nii.gz")
    series = make_series(sample())
    localizer = make_series(sample((8, 8, 1)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save_series([*series, *localizer], tmp_path / "images/series")
    dataset = read_dataset(tmp_path)
    assert ids(tmp_path) == ["series"]
    assert ["localizer" in problem.message for problem in dataset.problems] == [True]


def table(root: Path, *lines: str, name: str = "cases.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return root / name


def test_table(tmp_path):
    path = table(tmp_path, "id,image,label,group,split", "b,x/b.png,y/b.png,P1,train", "a,/abs/a.png,,,test")
    dataset = read_dataset(path)
    first, second = dataset.cases
    assert (dataset.layout, dataset.name) == ("csv", "cases")
    assert (first.id, first.images, first.label, first.group, first.split) == (
        "a",
        (Path("/abs/a.png"),),
        None,
        None,
        "test",
    )
    assert (second.images, second.label) == ((tmp_path / "x/b.png",), tmp_path / "y/b.png")
    assert (second.group, second.split) == ("P1", "train")
    assert read_dataset(tmp_path).cases == dataset.cases


def test_table_of_partly_labelled_cases(tmp_path):
    path = table(
        tmp_path, "image,label,labels", "a.png,a_l.png,liver=5;spleen=1", "b.png,b_l.png,liver", "c.png,c_l.png,"
    )
    dataset = read_dataset(path)
    assert dataset.label_names == {"background": 0, "spleen": 1, "liver": 5}
    assert [case.annotated for case in dataset.cases] == [None, ("liver",), None]


def test_table_with_semicolons_channels_and_repeated_names(tmp_path):
    path = table(tmp_path, "image_1;Image_0;label", "p1/t2.nii;p1/t1.nii;p1/l.nii", "p2/t2.nii;p2/t1.nii;", ";;")
    cases = read_dataset(path).cases
    assert [case.id for case in cases] == ["p1_t1", "p2_t1"]
    assert [image.name for image in cases[0].images] == ["t1.nii", "t2.nii"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["picture,label", "a,b"], "columns picture, label"),
        (["image,label"], "no rows"),
        (["image,label", ",b.png"], "line 2"),
        (["image,split", "a.png,maybe"], "split maybe"),
        (["id,image", "a,1.png", "a,2.png"], "more than one case a"),
        (["image,label,labels", "a.png,b.png,1,2"], "line 2 .* has 4 cells, expected 3"),
        (["image,label,labels", "a.png,b.png,liver"], "liver.*no row gives it a value"),
    ],
)
def test_tables_that_cannot_be_used(lines, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        read_dataset(table(tmp_path, *lines))


def test_nothing_recognised_lists_the_layouts(tmp_path):
    with pytest.raises(DatasetError, match="no file or folder"):
        read_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match="empty"):
        read_dataset(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(DatasetError, match="single file"):
        read_dataset(tmp_path / "a.npy")
    with pytest.raises(DatasetError, match=r"found a\.npy") as caught:
        read_dataset(tmp_path)
    assert "imagesTr" in caught.value.hint
    table(tmp_path, "image", "a.npy", name="1.csv")
    table(tmp_path, "image", "a.npy", name="2.csv")
    with pytest.raises(DatasetError, match="2 CSV files"):
        read_dataset(tmp_path)


def test_the_folder_of_images_alone_names_the_folder_above(tmp_path):
    touch(tmp_path, "images/a.npy", "labels/a.npy")
    for one in ("images", "labels"):
        with pytest.raises(DatasetError) as caught:
            read_dataset(tmp_path / one)
        assert f"pass the folder above, {tmp_path.resolve()}" in caught.value.hint
