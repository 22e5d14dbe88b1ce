"""The synthetic abdomen: anatomy at its place, a pancreas that its intensity does not give away."""

import json

import nibabel as nib
import numpy as np
import pytest

from attunet.data.phantom import PHANTOM_LABELS, make_phantom, make_trunk, write_phantom_dataset
from attunet.data.phantom.patient import Patient


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


@pytest.fixture(scope="module")
def trunk():
    return make_trunk(0, shape=(103, 103, 150), spacing=(4.0, 4.0, 6.0))


def test_a_trunk_holds_the_organs_in_little_of_its_volume(trunk):
    image, label = trunk
    assert image.array.dtype == np.int16
    assert image.orientation == "LPS"
    np.testing.assert_array_equal(image.affine, label.affine)
    assert set(np.unique(label.array)) == set(PHANTOM_LABELS.values())
    assert 0.005 < (label.array > 0).mean() < 0.03
    litres = (label.array == PHANTOM_LABELS["liver"]).sum() * np.prod(image.spacing) / 1e6
    assert 0.8 < litres < 2.5


def test_a_trunk_has_thorax_above_and_pelvis_below_the_abdomen(trunk):
    image, label = trunk
    heights = np.argwhere(label.array[0] > 0)[:, 2]
    assert 45 < heights.min() < heights.max() < 110
    middle = image.array[0, 30:73, 30:73]
    lungs = (middle < -700).mean(axis=(0, 1))
    bone = (middle > 250).mean(axis=(0, 1))
    assert lungs[110] > 0.3 > 0.05 > lungs[60]
    assert bone[28] > 0.02


def test_a_trunk_lies_on_a_table_in_noisy_air(trunk):
    image, _ = trunk
    assert abs(float(np.median(image.array[0, :, :3])) + 1000) < 15
    below = image.array[0, 40:63, 82:92, 75].astype(float).mean(axis=0)
    assert -950 < below.max() < -200


def test_a_trunk_on_a_finer_grid_is_the_same_patient():
    (coarse, mask), (fine, finer) = (
        make_trunk(3, shape=shape, spacing=spacing, noise=0.0)
        for shape, spacing in (((60, 60, 100), (6.0, 6.0, 9.0)), ((120, 120, 200), (3.0, 3.0, 4.5)))
    )
    np.testing.assert_allclose(coarse.affine[:3, 3], fine.affine[:3, 3])
    voxels = mask.array.astype(bool).sum() * 324, finer.array.astype(bool).sum() * 40.5
    assert voxels[0] == pytest.approx(voxels[1], rel=0.2)


def test_a_box_around_a_shape_leaves_nothing_out():
    patient = Patient.empty((40, 36, 30), np.random.default_rng(1))
    ball = patient.ellipsoid((20.0, -10.0, 15.0), (40.0, 25.0, 30.0), 0.4)
    x, y, z = patient.left - 20.0, patient.back + 10.0, patient.up - 15.0
    across, along = x * np.cos(0.4) + y * np.sin(0.4), y * np.cos(0.4) - x * np.sin(0.4)
    np.testing.assert_array_equal(ball, (across / 40) ** 2 + (along / 25) ** 2 + (z / 30) ** 2 < 1)
    assert ball.any()
    assert not patient.ellipsoid((900.0, 0.0, 0.0), (5.0, 5.0, 5.0)).any()
