"""The fingerprint of a data set, from files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from attunet.data.cases import read_dataset
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import DataError, DatasetError, LabelError
from attunet.planning.fingerprint import fingerprint


def write_case(root, name, image, label, affine=None, suffix=".nii.gz"):
    affine = np.eye(4) if affine is None else affine
    for folder, array in (("images", image), ("labels", label)):
        (root / folder).mkdir(exist_ok=True)
        write_volume(Volume(array if array.ndim == 4 else array[None], affine), root / folder / f"{name}{suffix}")


def scan(shape=(12, 10, 8), low=-1000, high=400, margin=2):
    image = np.full(shape, low, np.int16)
    inside = tuple(slice(margin, -margin) for _ in shape)
    image[inside] = np.linspace(low + 1, high, image[inside].size).reshape(image[inside].shape)
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(size // 2, size // 2 + 2) for size in shape)] = 3
    return image, label


def test_shape_and_spacing_are_of_the_content_on_canonical_axes(tmp_path):
    affine = np.array([[0, 0, -3.0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])
    write_case(tmp_path, "a", *scan(), affine)
    facts = fingerprint(read_dataset(tmp_path))
    assert facts.cases[0].shape == (4, 8, 6)
    np.testing.assert_allclose(facts.spacings, [(3, 1, 2)])
    assert facts.label_counts() == {"background": 12 * 10 * 8 - 8, "label_3": 8}


def test_every_case_is_reported_and_the_foreground_sampled(tmp_path):
    for name in "abc":
        write_case(tmp_path, name, *scan())
    told = []
    facts = fingerprint(read_dataset(tmp_path), advance=lambda: told.append(1))
    assert len(told) == len(facts.cases) == 3
    assert facts.cases[0].intensities.shape == (1, 8)
    assert facts.cases[0].intensities.min() > -1000


def test_hounsfield_units_are_recognised_whatever_is_labelled(tmp_path):
    image, label = scan()
    image[label > 0] = 40
    write_case(tmp_path, "a", image, label)
    assert fingerprint(read_dataset(tmp_path)).modality == "ct"
    write_case(tmp_path, "a", np.abs(image), label)
    assert fingerprint(read_dataset(tmp_path)).modality == "other"


def test_pictures_are_recognised(tmp_path):
    image, label = scan((20, 16, 5), low=0, high=255)
    write_case(tmp_path, "a", image[..., :1], label[..., 2:3] * 85, suffix=".png")
    facts = fingerprint(read_dataset(tmp_path))
    assert facts.modality == "image"
    assert facts.labels == {"background": 0, "label_255": 255}
    assert facts.shapes[0, 2] == 1


def test_chosen_labels_get_a_background(tmp_path):
    write_case(tmp_path, "a", *scan())
    assert fingerprint(read_dataset(tmp_path), labels={"liver": 3}).labels == {"background": 0, "liver": 3}


def test_chosen_labels_must_occur(tmp_path):
    write_case(tmp_path, "a", *scan())
    with pytest.raises(LabelError, match=r"liver \(5\) occur in no case; found values 0, 3"):
        fingerprint(read_dataset(tmp_path), labels={"liver": 5})


@pytest.fixture
def nested(tmp_path):
    """An organ with a lesion in it, as values 1 and 2, declared as the regions whole and lesion."""
    image, label = scan()
    label[label > 0] = 1
    label[6, 5, 4] = 2
    write_case(tmp_path, "a", image, label)
    regions = {"whole": (1, 2), "lesion": (2,)}
    return replace(read_dataset(tmp_path), regions=regions, label_names={"whole": 1, "lesion": 2})


def test_regions_are_passed_on(nested):
    facts = fingerprint(nested)
    assert facts.regions == {"whole": (1, 2), "lesion": (2,)}
    assert facts.labels == {"background": 0, "whole": 1, "lesion": 2}
    assert facts.label_counts() == {"background": 12 * 10 * 8 - 8, "whole": 8, "lesion": 1}
    np.testing.assert_allclose(facts.label_voxels, [[8, 1]])


def test_some_of_the_regions_can_be_chosen(nested):
    facts = fingerprint(nested, labels={"lesion": 2})
    assert (facts.regions, facts.labels) == ({"lesion": (2,)}, {"background": 0, "lesion": 2})
    with pytest.raises(LabelError, match="no region organ, known are whole, lesion"):
        fingerprint(nested, labels={"organ": 1})


def test_several_values_become_one_label(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label)
    write_case(tmp_path, "b", image[::-1], label * 85)
    facts = fingerprint(read_dataset(tmp_path), labels={"liver": (3, 255)})
    assert (facts.labels, facts.regions) == ({"background": 0, "liver": 255}, {"liver": (3, 255)})
    assert facts.label_voxels.tolist() == [[8], [8]]


def test_a_value_of_soft_masks_leaves_their_edges_out(tmp_path):
    image, _ = scan((24, 24, 8))
    label = np.zeros(image.shape)
    label[6:18, 6:18] = 255
    for name, step in (("a", 1), ("b", -1)):
        write_case(tmp_path, name, image[::step], gaussian_filter(label, 1.2).astype(np.uint8))
    facts = fingerprint(read_dataset(tmp_path), labels={"x": 254})
    assert "2 masks have soft edges, and the chosen labels leave out 1" in facts.warnings[0]
    assert fingerprint(read_dataset(tmp_path), labels={"x": tuple(range(128, 256))}).warnings == ()


def test_a_wide_range_is_listed_as_far_as_it_occurs(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label.astype(np.uint16) * 15000)
    write_case(tmp_path, "b", image[::-1], label.astype(np.uint16) * 20000)
    facts = fingerprint(read_dataset(tmp_path), labels={"liver": tuple(range(32768, 65536))})
    assert (facts.labels, facts.regions) == ({"background": 0, "liver": 60000}, {"liver": (45000, 60000)})
    facts = fingerprint(read_dataset(tmp_path), labels={"liver": tuple(range(50000, 65536))})
    assert (facts.labels, facts.regions) == ({"background": 0, "liver": 60000}, {})
    assert facts.warnings == ("only one case holds liver (b): the fold that holds it out cannot learn it",)
    with pytest.raises(LabelError, match="occur in no case"):
        fingerprint(read_dataset(tmp_path), labels={"liver": tuple(range(10000, 20000))})


@pytest.mark.parametrize(
    ("value", "labels", "message"),
    [
        (255, None, "two encodings"),
        (-3, None, "negative label value"),
        (0, {"liver": (7, 8)}, r"liver \(7, 8\) occur in no case"),
    ],
)
def test_implausible_labels_are_refused(value, labels, message, tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label)
    write_case(tmp_path, "b", image[::-1], np.where(label > 0, value, 0).astype(np.int16))
    with pytest.raises(LabelError, match=message):
        fingerprint(read_dataset(tmp_path), labels=labels)
    assert fingerprint(read_dataset(tmp_path), labels={"liver": 3}).labels == {"background": 0, "liver": 3}


def test_a_set_without_foreground_is_refused_even_if_labels_are_declared(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label * 0)
    declared = replace(read_dataset(tmp_path), label_names={"background": 0, "liver": 3})
    with pytest.raises(LabelError, match="nothing to learn"):
        fingerprint(declared)


def test_labels_without_background_are_a_warning(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, np.where(label > 0, 2, 1))
    facts = fingerprint(read_dataset(tmp_path))
    assert facts.labels == {"background": 0, "label_1": 1, "label_2": 2}
    assert "no label file has a voxel of background" in facts.warnings[0]


def test_an_image_of_another_scale_is_a_warning(tmp_path):
    for name, edge in (("a", 1), ("b", 1.5), ("c", 0.001)):
        write_case(tmp_path, name, *scan(), affine=np.diag([edge, edge, edge, 1]))
    assert any("c: its voxels are 0.001 mm" in warning for warning in fingerprint(read_dataset(tmp_path)).warnings)


def test_a_value_of_no_region_is_refused(nested):
    with pytest.raises(LabelError, match="contain 2, which belong to no region"):
        fingerprint(replace(nested, regions={"whole": (1,)}))


def test_nothing_labelled_is_refused(tmp_path):
    write_case(tmp_path, "a", *scan())
    dataset = read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no labelled case"):
        fingerprint(replace(dataset, cases=(replace(dataset.cases[0], label=None),)))


def test_different_numbers_of_channels_are_refused(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label)
    write_case(tmp_path, "b", np.stack([image, image]), label)
    with pytest.raises(DatasetError, match=r"\[1, 2\]"):
        fingerprint(read_dataset(tmp_path))


def test_nan_is_refused_by_the_name_of_its_case(tmp_path):
    image, label = scan()
    write_case(tmp_path, "a", image, label)
    write_case(tmp_path, "b", np.full(image.shape, np.nan, np.float32), label)
    with pytest.raises(DataError, match="case b contains NaN"):
        fingerprint(read_dataset(tmp_path))
