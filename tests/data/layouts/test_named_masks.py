"""Labels in segmentations and structure sets: names of masks are names of labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_labels import make_segmentation, make_structure_set
from dicom_series import make_series, sample, save_series

from attunet.data.cases import read_case, read_case_label
from attunet.data.checks import inspect
from attunet.data.dataset import DatasetOptions, LabelFiles
from attunet.data.layouts import read_dataset
from attunet.data.layouts.table import write_table
from attunet.errors import DatasetError, FormatError, LabelError

SHAPE = (12, 10, 6)


def masks(seed, *names):
    """Masks that do not overlap."""
    label = np.random.default_rng(seed).integers(0, len(names) + 1, SHAPE)
    return [(name, label == value) for value, name in enumerate(names, start=1)]


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def case(folder, name, parts, make=make_structure_set, seed=0):
    """A series in a folder, and its label beside it."""
    series = make_series(sample(SHAPE, seed))
    save_series(series, folder / "images" / name)
    save(make(series, parts), folder / "labels" / f"{name}.dcm")
    return series


@pytest.fixture(params=[make_structure_set, make_segmentation], ids=["structure set", "segmentation"])
def make(request):
    return request.param


def value_of(masks, values):
    """The label that masks make up, with a value for each."""
    label = np.zeros(SHAPE, np.uint8)
    for name, mask in masks:
        label[mask] = values.get(name, 0)
    return label


def test_names_of_masks_are_labels_numbered_in_their_order(tmp_path, make):
    first, second = masks(1, "spleen", "Liver"), masks(2, "liver")
    case(tmp_path, "p1", first, make)
    case(tmp_path, "p2", second, make, seed=1)
    dataset = read_dataset(tmp_path)
    assert dataset.label_names == {"background": 0, "Liver": 1, "spleen": 2}
    one, other = dataset.cases
    assert (read_case_label(one).array[0] == value_of(first, {"Liver": 1, "spleen": 2})).all()
    assert (read_case_label(other).array[0] == value_of(second, {"liver": 1})).all()
    assert other.annotated == ("Liver",)  # no mask of the spleen: not annotated
    absent = read_dataset(tmp_path, DatasetOptions(missing_labels="absent"))
    assert [each.annotated for each in absent.cases] == [None, None]


def test_declared_labels_choose_masks_and_their_values(tmp_path, make):
    parts = masks(1, "liver", "BODY", "spleen")
    case(tmp_path, "p1", parts, make)
    case(tmp_path, "p2", masks(2, "BODY"), make, seed=1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Spleen": 3, "liver": 7}}))
    dataset = read_dataset(tmp_path)
    assert (read_case_label(dataset.cases[0]).array[0] == value_of(parts, {"liver": 7, "spleen": 3})).all()
    assert dataset.cases[1].label is None
    kinds = {problem.kind: problem.message for problem in dataset.problems}
    assert kinds["masks left out"] == "no label is called like the masks BODY in 2 cases"
    assert kinds["label missing"] == "p2.dcm holds no label, only BODY"


def test_declared_labels_that_no_mask_has_are_refused(tmp_path, make):
    case(tmp_path, "p1", masks(1, "GTV-1"), make)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1}}))
    with pytest.raises(DatasetError, match="declares the labels tumour, but its DICOM objects hold the masks GTV-1"):
        read_dataset(tmp_path)


def test_overlapping_masks_follow_the_options_of_all_labels(tmp_path, make):
    organ = np.zeros(SHAPE, bool)
    organ[2:8, 2:8] = True
    tumour = np.zeros(SHAPE, bool)
    tumour[5:10, 4:6] = True
    case(tmp_path, "p1", [("organ", organ), ("tumour", tumour)], make)
    with pytest.raises(LabelError, match="overlap: organ and tumour in 36 voxels"):
        read_case_label(read_dataset(tmp_path).cases[0])
    last = read_case_label(read_dataset(tmp_path, DatasetOptions(overlap="last")).cases[0])
    assert (last.array[0] == value_of([("organ", organ), ("tumour", tumour)], {"organ": 1, "tumour": 2})).all()
    regions = read_dataset(tmp_path, DatasetOptions(overlap="regions"))
    assert set(np.unique(read_case_label(regions.cases[0]).array)) == {0, 1, 2, 3}


def test_only_the_masks_of_chosen_labels_are_read(tmp_path, make):
    everywhere = np.ones(SHAPE, bool)
    parts = masks(1, "liver", "spleen")
    case(tmp_path, "p1", [*parts, ("BODY", everywhere)], make)
    case(tmp_path, "p2", [("BODY", everywhere)], make, seed=1)
    chosen = read_dataset(tmp_path, DatasetOptions(masks=("spleen",)))
    assert chosen.label_names == {"background": 0, "BODY": 1, "liver": 2, "spleen": 3}
    assert (read_case_label(chosen.cases[0]).array[0] == value_of(parts, {"spleen": 3})).all()
    assert chosen.cases[1].label is None
    absent = read_dataset(tmp_path, DatasetOptions(masks=("spleen",), missing_labels="absent"))
    assert (read_case_label(absent.cases[1]).array == 1).all()  # which is no label to learn
    assert DatasetOptions.from_dict(chosen.options.to_dict()) == chosen.options


def test_one_mask_can_be_chosen_by_name(tmp_path, make):
    parts = masks(1, "liver", "spleen")
    case(tmp_path, "p1", parts, make)
    (chosen,) = read_dataset(tmp_path, DatasetOptions(label_key="SPLEEN")).cases
    assert (read_case_label(chosen).array[0] == parts[1][1]).all()
    (other,) = read_dataset(tmp_path, DatasetOptions(label_key="heart")).cases
    with pytest.raises(FormatError, match="no single mask heart, but the masks liver, spleen"):
        read_case_label(other)


def test_masks_of_one_name_are_united_only_on_purpose(tmp_path, make):
    parts = masks(1, "lesion", "Lesion")
    case(tmp_path, "p1", parts, make)
    with pytest.raises(LabelError, match=r"several masks called lesion.*--merge-instances"):
        read_case_label(read_dataset(tmp_path).cases[0])
    merged = read_case_label(read_dataset(tmp_path, DatasetOptions(merge_instances=True)).cases[0])
    assert (merged.array[0] == (parts[0][1] | parts[1][1])).all()


def test_a_table_names_objects_and_the_masks_in_them(tmp_path, make):
    parts, more = masks(1, "liver", "spleen"), masks(2, "spleen")
    series = case(tmp_path, "p1", parts, make)
    save(make(series, more), tmp_path / "labels/more.dcm")
    table = tmp_path / "cases.csv"
    table.write_text("image,label,labels\nimages/p1,labels/p1.dcm,liver=4;spleen=2\n")
    expected = value_of(parts, {"liver": 4, "spleen": 2})
    assert (read_case_label(read_dataset(table).cases[0]).array[0] == expected).all()
    table.write_text("image,label_Liver=4,label_other=2\nimages/p1,labels/p1.dcm,labels/p1.dcm#spleen\n")
    dataset = read_dataset(table)
    assert (read_case_label(dataset.cases[0]).array[0] == expected).all()
    table.write_text("image,label\nimages/p1,labels/p1.dcm|labels/more.dcm\n")
    with pytest.raises(LabelError, match="several masks called spleen"):
        read_case_label(read_dataset(table).cases[0])
    table.write_text("image,label_liver\nimages/p1,labels/more.dcm\n")  # its only mask
    assert (read_case_label(read_dataset(table).cases[0]).array[0] == more[0][1]).all()


def test_a_written_table_gives_the_same_labels(tmp_path, make):
    case(tmp_path, "p1", masks(1, "spleen", "liver"), make)
    case(tmp_path, "p2", masks(2, "liver"), make, seed=1)
    dataset = read_dataset(tmp_path)
    write_table(dataset, tmp_path / "cases.csv")
    again = read_dataset(tmp_path / "cases.csv")
    assert again.label_names == dataset.label_names
    for one, other in zip(dataset.cases, again.cases, strict=True):
        assert (read_case_label(one).array == read_case_label(other).array).all()
        assert one.annotated == other.annotated


def test_labels_of_dicom_go_with_images_of_other_formats(tmp_path, make):
    import nibabel

    parts = masks(1, "liver")
    series = case(tmp_path / "dicom", "p1", parts, make)
    image, label = read_case(read_dataset(tmp_path / "dicom").cases[0])
    turned = nibabel.Nifti1Image(image.array[0], image.affine).as_reoriented([[1, -1], [0, 1], [2, 1]])
    (tmp_path / "images").mkdir()
    nibabel.save(turned, tmp_path / "images/p1.nii.gz")
    save(make(series, parts), tmp_path / "labels/p1.dcm")
    (tmp_path / "cases.csv").write_text("image,label\nimages/p1.nii.gz,labels/p1.dcm\n")
    _, other = read_case(read_dataset(tmp_path / "cases.csv").cases[0])
    assert (other.array[0] == label.array[0].transpose(1, 0, 2)[:, ::-1]).all()


def test_what_is_odd_is_reported_with_its_case(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 2:5, [1, 4]] = True
    case(tmp_path, "p1", [("liver", mask), ("empty", None)])
    found = {(problem.case, problem.message) for problem in inspect(read_dataset(tmp_path)).problems}
    assert ("p1", "the ROI empty is left out: it has no contours") in found
    assert ("p1", "the ROI liver has no contour on 2 of the 4 slices that it spans") in found


def test_labels_of_another_series_are_reported(tmp_path, make):
    parts = masks(1, "liver")
    case(tmp_path, "p1", parts, make)
    save(make(make_series(sample(SHAPE)), parts), tmp_path / "labels/other.dcm")
    (tmp_path / "cases.csv").write_text("image,label\nimages/p1,labels/p1.dcm\n")
    assert not inspect(read_dataset(tmp_path / "cases.csv")).problems
    (tmp_path / "cases.csv").write_text("image,label\nimages/p1,labels/other.dcm\n")
    (problem,) = inspect(read_dataset(tmp_path / "cases.csv")).problems
    assert (problem.case, problem.kind, problem.severity) == ("p1", "another series", "warning")


def test_a_damaged_object_is_the_problem_of_its_case(tmp_path, make):
    case(tmp_path, "p1", masks(1, "liver"), make)
    case(tmp_path, "p2", masks(2, "liver"), make, seed=1)
    path = tmp_path / "labels/p2.dcm"
    path.write_bytes(path.read_bytes()[:900])
    dataset = read_dataset(tmp_path)
    assert isinstance(dataset.cases[0].label, LabelFiles)
    assert {problem.case for problem in inspect(dataset).problems if problem.severity == "problem"} == {"p2"}
