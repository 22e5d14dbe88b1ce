"""The synthetic abdomen: anatomy at its place, a pancreas that its intensity does not give away."""

import json

import nibabel as nib
import numpy as np
import pytest

from attunet.data.phantom import PHANTOM_LABELS, make_phantom, write_phantom_dataset


@pytest.fixture(scope="module")
def patients():
    return [make_phantom(seed) for seed in range(4)]


def place(label, name):
    """Centre of a structure in RAS mm."""
    centre = np.argwhere(label.array[0] == PHANTOM_LABELS[name]).mean(axis=0)
    return label.affine[:3, :3] @ centre + label.affine[:3, 3]


def test_image_and_label_share_a_scanner_like_grid(patients):
    for image, label in patients:
        assert image.array.dtype == np.int16
        assert label.array.dtype == np.uint8
        assert image.orientation == "LPS"
        assert image.spacing == (3.5, 3.5, 5.0)
        np.testing.assert_array_equal(image.affine, label.affine)


def test_every_organ_is_there_in_a_plausible_size(patients):
    least = {"liver": 500, "spleen": 40, "kidneys": 100, "pancreas": 25}
    for image, label in patients:
        for name, millilitres in least.items():
            voxels = int((label.array == PHANTOM_LABELS[name]).sum())
            assert millilitres < voxels * np.prod(image.spacing) / 1000 < 4 * millilitres


def test_anatomy_is_the_right_way_round(patients):
    for _, label in patients:
        liver, spleen, kidneys = (place(label, name) for name in ("liver", "spleen", "kidneys"))
        assert liver[0] > 0 > spleen[0]
        assert kidneys[1] < place(label, "pancreas")[1]
        assert kidneys[2] < liver[2]


def test_intensity_does_not_give_the_pancreas_away(patients):
    for image, label in patients:
        pancreas = image.array[label.array == PHANTOM_LABELS["pancreas"]]
        low, high = np.percentile(pancreas, (25, 75))
        alike = (image.array > low) & (image.array < high) & (label.array == 0)
        assert alike.sum() > 4 * pancreas.size


def test_around_the_patient_is_air(patients):
    for image, _ in patients:
        assert abs(float(np.median(image.array[0, :3])) + 1000) < 15


def test_seed_decides_everything():
    first, again, other = make_phantom(5), make_phantom(5), make_phantom(6)
    np.testing.assert_array_equal(first[0].array, again[0].array)
    assert (first[1].array != other[1].array).any()


def test_any_shape_shows_the_whole_abdomen_and_noise_is_a_choice():
    image, label = make_phantom(0, shape=(33, 28, 17), spacing=(2.0, 2.0, 3.0), noise=0.0)
    assert image.spatial_shape == (33, 28, 17)
    assert set(np.unique(label.array)) == set(PHANTOM_LABELS.values())
    noisy, _ = make_phantom(0, shape=(33, 28, 17), noise=60.0)
    liver = label.array == PHANTOM_LABELS["liver"]
    assert image.array[liver].std() + 20 < noisy.array[liver].std() < 120


def test_dataset_has_the_raw_layout(tmp_path):
    write_phantom_dataset(tmp_path / "phantom", 2, seed=3, test_cases=1)
    files = sorted(str(path.relative_to(tmp_path / "phantom")) for path in tmp_path.rglob("*.*"))
    assert files == [
        "dataset.json",
        "imagesTr/phantom_000_0000.nii.gz",
        "imagesTr/phantom_001_0000.nii.gz",
        "imagesTs/phantom_002_0000.nii.gz",
        "labelsTr/phantom_000.nii.gz",
        "labelsTr/phantom_001.nii.gz",
        "labelsTs/phantom_002.nii.gz",
    ]
    description = json.loads((tmp_path / "phantom/dataset.json").read_text())
    assert description["labels"] == PHANTOM_LABELS
    assert description["numTraining"] == 2
    image = nib.load(tmp_path / "phantom/imagesTr/phantom_001_0000.nii.gz")
    label = nib.load(tmp_path / "phantom/labelsTr/phantom_001.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, label.affine)
