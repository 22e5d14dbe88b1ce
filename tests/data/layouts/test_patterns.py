"""Patterns stated by hand."""

import pytest

from attunet.data.dataset import DatasetOptions
from attunet.data.layouts import read_dataset
from attunet.errors import DatasetError


def build(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_both_patterns_state_channels_and_labels(tmp_path):
    names = [f"{n}/pre/{c}.nii.gz" for n in (1, 2) for c in ("FLAIR", "T1")]
    build(tmp_path, *names, *(f"{n}/wmh.nii.gz" for n in (1, 2)), "1/orig/T1.nii.gz")
    dataset = read_dataset(tmp_path, DatasetOptions(pattern="{id}/pre/{channel}", label_pattern="{id}/WMH.nii.gz"))
    assert [(case.id, len(case.images)) for case in dataset.cases] == [("1", 2), ("2", 2)]
    assert dataset.channel_names == ("FLAIR", "T1")
    assert [left.files for left in dataset.rule.left_out] == [("1/orig/T1.nii.gz",)]
    assert (dataset.rule.images, dataset.rule.labels) == (("{id}/pre/{channel}",), ("{id}/WMH.nii.gz",))


def test_placeholders_for_label_group_and_rater(tmp_path):
    files = [f"{g}/{n}/{k}.png" for g in "AB" for n in (1, 2) for k in ("x", "organs/liver_r1", "organs/liver_r2")]
    build(tmp_path, *files)
    options = DatasetOptions(
        pattern="{group}/{id}/x.png", label_pattern="{group}/{id}/organs/{label}_{rater}.png", rater="r2"
    )
    dataset = read_dataset(tmp_path, options)
    assert [(case.id, case.group) for case in dataset.cases] == [("A_1", "A"), ("A_2", "A"), ("B_1", "B"), ("B_2", "B")]
    assert dataset.cases[0].label_paths == (tmp_path / "A/1/organs/liver_r2.png",)
    assert dataset.label_names == {"background": 0, "liver": 1}


def test_stars_and_folders_of_any_depth(tmp_path):
    build(tmp_path, "a/b/c1_x_img.png", "c2_y_img.png", "m/c1.png", "m/c2.png")
    dataset = read_dataset(tmp_path, DatasetOptions(pattern="**/{id}_*_img.png", label_pattern="m/{id}.png"))
    assert [case.id for case in dataset.cases] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{idd}/x", "unknown placeholder {idd}"),
        ("a/*.png", "no {id}"),
        ("../{id}.png", "outside"),
        ("/tmp/{id}.png", "outside"),
        ("{id}" + "x" * 600, "longer"),
        ("none/{id}.png", "fits none of the 2 images"),
    ],
)
def test_patterns_that_cannot_be_used(pattern, message, tmp_path):
    build(tmp_path, "images/a.png", "labels/a.png")
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path, DatasetOptions(pattern=pattern))


def test_patterns_take_precedence_over_a_list_of_files(tmp_path):
    build(tmp_path, "imagesTr/a.png", "labelsTr/a.png", "other/b.png", "truth/b.png")
    (tmp_path / "dataset.json").write_text(
        '{"labels": {"0": "bg", "1": "x"}, "training": [{"image": "imagesTr/a.png", "label": "labelsTr/a.png"}]}'
    )
    dataset = read_dataset(tmp_path, DatasetOptions(pattern="other/{id}", label_pattern="truth/{id}"))
    assert ([case.id for case in dataset.cases], dataset.label_names) == (["b"], {"bg": 0, "x": 1})


def test_options_without_effect_are_refused(tmp_path):
    build(tmp_path, "images/a.png", "labels/a.png")
    with pytest.raises(DatasetError, match="rater B"):
        read_dataset(tmp_path, DatasetOptions(rater="B"))
    (tmp_path / "c.csv").write_text("image,label\na.png,b.png\n")
    with pytest.raises(DatasetError, match="patterns describe"):
        read_dataset(tmp_path / "c.csv", DatasetOptions(pattern="{id}"))
    with pytest.raises(DatasetError, match="--rater B has no effect"):
        read_dataset(tmp_path / "c.csv", DatasetOptions(rater="B"))
