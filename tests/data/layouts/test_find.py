"""The cases to predict in trees of folders; flat folders are tested with the cases."""

import pytest

from attunet.data.cases import find_cases
from attunet.data.dataset import DatasetOptions
from attunet.errors import DatasetError

BRATS = ("flair", "t1", "t1ce", "t2")


def build(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def found(cases, root):
    return [(case.id, [image.relative_to(root).as_posix() for image in case.images]) for case in cases]


@pytest.mark.parametrize("flat", [False, True])
def test_channels_are_found_by_the_names_of_the_model_in_its_order(flat, tmp_path):
    names = ("t1", "t1ce", "T2", "flair", "seg")
    build(tmp_path, *(f"{'' if flat else f'B_{n}/'}B_{n}_{name}.nii.gz" for n in (1, 2) for name in names))
    left = []
    cases = find_cases([tmp_path], 4, names=BRATS, on_left_out=lambda files, _: left.extend(files))
    assert [case.id for case in cases] == ["B_1", "B_2"]
    assert [image.name.split("_")[2] for image in cases[0].images] == [
        f"{n}.nii.gz" for n in ("flair", "t1", "t1ce", "T2")
    ]
    assert sorted(path.name for path in left) == ["B_1_seg.nii.gz", "B_2_seg.nii.gz"]


def test_cases_of_one_channel_in_a_tree_leave_labels_out(tmp_path):
    build(tmp_path, *(f"case_{n}/{name}.nii.gz" for n in (1, 2) for name in ("imaging", "segmentation")))
    left = []
    cases = find_cases([tmp_path], 1, on_left_out=lambda files, reason: left.append((len(files), reason)))
    assert found(cases, tmp_path) == [("case_1", ["case_1/imaging.nii.gz"]), ("case_2", ["case_2/imaging.nii.gz"])]
    assert left == [(2, "are named like labels")]


def test_other_channels_are_left_out_for_a_model_of_one_channel(tmp_path):
    build(tmp_path, "p1/p1_t1.nii", "p1/p1_t1ce.nii", "p1/p1_seg.nii", "p2/p2_t1.nii")
    left = {}
    cases = find_cases([tmp_path], 1, names=("t1",), on_left_out=lambda files, why: left.update({why: files}))
    assert [path.name for case in cases for path in case.images] == ["p1_t1.nii", "p2_t1.nii"]
    assert [path.name for path in left["name another channel than t1"]] == ["p1_t1ce.nii"]
    assert len(find_cases([tmp_path], 1, names=("dwi",))) == 3


def test_a_pattern_gives_the_channels_of_the_model_and_no_masks(tmp_path):
    build(tmp_path, *(f"p1/{name}.nii" for name in (*BRATS, "seg")))
    (case,) = find_cases([tmp_path], 2, DatasetOptions(pattern="{id}/{channel}.nii"), names=("t2", "flair"))
    assert [path.name for path in case.images] == ["t2.nii", "flair.nii"]


def test_names_that_repeat_in_folders_are_told_apart(tmp_path):
    build(tmp_path, "a/x1.png", "b/x1.png", "b/x2.png")
    assert [case.id for case in find_cases([tmp_path], 1)] == ["a_x1", "b_x1", "x2"]


def test_numbers_of_patients_are_not_channels(tmp_path):
    build(tmp_path, *(f"patient_000{n}.nii.gz" for n in (1, 2, 3)))
    assert [case.id for case in find_cases([tmp_path], 4)] == ["patient_0001", "patient_0002", "patient_0003"]


def test_a_pattern_states_the_names(tmp_path):
    build(tmp_path, *(f"x{n}/{c}/img.png" for n in (1, 2) for c in "BA"))
    options = DatasetOptions(pattern="{id}/{channel}/img.png")
    cases = find_cases([tmp_path], 2, options, names=("B", "A"))
    assert found(cases, tmp_path) == [(f"x{n}", [f"x{n}/B/img.png", f"x{n}/A/img.png"]) for n in (1, 2)]
    with pytest.raises(DatasetError, match="both"):
        find_cases([tmp_path], 2, DatasetOptions(pattern="{id}/*/img.png"))


def test_a_path_that_is_no_data_is_refused_with_what_was_meant(tmp_path):
    (tmp_path / "scans").mkdir()
    for wrong in ("scasn", "scans "):
        with pytest.raises(DatasetError) as raised:
            find_cases([tmp_path / wrong], 1)
        assert raised.value.hint == f"did you mean {tmp_path / 'scans'}?"
    for name in ("manifest.json", "plan.json"):
        (tmp_path / "scans" / name).write_text("{}")
    with pytest.raises(DatasetError, match="is a model folder"):
        find_cases([tmp_path / "scans"], 1)
