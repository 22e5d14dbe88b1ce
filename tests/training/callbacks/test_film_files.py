import json

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.cases import read_dataset
from attunet.data.formats import read_volume
from attunet.data.preprocess import IGNORED
from attunet.training.callbacks.film_files import Frame, small_shape, write_film
from attunet.training.store import store_cases

sizes = st.integers(1, 700)


@given(st.tuples(sizes, sizes, sizes))
def test_a_small_grid_is_no_larger_than_the_case_and_never_longer_than_allowed(shape):
    small = small_shape(shape)
    assert all(1 <= one <= other for one, other in zip(small, shape, strict=True))
    assert max(small) <= (64 if shape[2] > 1 else 256)


def a_frame(case, shape, value, epoch=0):
    maps = {(case, gate): np.full(small_shape(shape), value, np.uint8) for gate in ("level2", "level3.1")}
    return Frame(epoch, 50 * (epoch + 1), 0.5 * epoch, maps)


@pytest.fixture
def oblique(tmp_path, tiny_plan):
    """A case whose grid is turned, flipped, anisotropic and cut to its content, stored; its image's path."""

    def make(plan, shape=(30, 20, 100)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        turned = np.array([[0, -0.8, 0, 30], [0, 0, 0.4, -70], [-1.5, 0, 0, 12], [0, 0, 0, 1.0]])
        image = np.zeros(shape, np.float32)
        image[4:, 2:, 10:90] = np.random.default_rng(0).normal(50, 5, (shape[0] - 4, shape[1] - 2, 80))
        label = np.zeros(shape, np.uint8)
        label[10:20, 6:14, 40:60] = 1
        for kind, array in (("images", image), ("labels", label)):
            nibabel.save(nibabel.Nifti1Image(array, turned), tmp_path / "data" / kind / "a.nii")
        (stored,) = store_cases(read_dataset(tmp_path / "data").cases, plan, tmp_path / "store").values()
        return stored, tmp_path / "data" / "labels" / "a.nii"

    return make


def centre_of(volume, mask):
    middle = np.argwhere(mask).mean(axis=0)
    return (volume.affine @ [*middle, 1])[:3]


def test_everything_lies_where_the_case_does(oblique, tiny_plan, tmp_path):
    plan = tiny_plan(
        preprocessing=Preprocessing(spacing=(0.7, 0.45, 1.4), normalization=(Normalization(kind="zscore"),))
    )
    stored, label = oblique(plan)
    shape = stored.label().shape
    write_film(tmp_path / "film", [stored], [a_frame("a", shape, 51), a_frame("a", shape, 255, epoch=4)], plan)
    original, small = read_volume(label), read_volume(tmp_path / "film" / "a_label.nii.gz")
    assert max(shape) > 64 >= max(small.spatial_shape)
    away = centre_of(original, original.array[0] > 0) - centre_of(small, small.array[0] > 0)
    assert np.abs(away).max() < max(small.spacing) / 2
    for name in ("a_image.nii.gz", "a_level2.nii.gz", "a_level3.1.nii.gz"):
        other = read_volume(tmp_path / "film" / name)
        assert other.spatial_shape == small.spatial_shape
        np.testing.assert_allclose(other.affine, small.affine, atol=1e-5)
    corners = stored.affine() @ [-0.5, -0.5, -0.5, 1], small.affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(*corners, atol=1e-4)


def test_maps_are_bytes_that_read_as_coefficients_frame_by_frame(oblique, tiny_plan, tmp_path):
    stored, _ = oblique(tiny_plan())
    shape = stored.label().shape
    write_film(
        tmp_path, [stored], [a_frame("a", shape, value, epoch) for epoch, value in enumerate((0, 51, 255))], tiny_plan()
    )
    image = nibabel.load(tmp_path / "a_level2.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert image.shape == (*small_shape(shape), 3)
    for frame, value in enumerate((0.0, 0.2, 1.0)):
        np.testing.assert_allclose(image.get_fdata()[..., frame], value, atol=1e-6)
    assert json.loads((tmp_path / "film.json").read_text()) == {
        "frames": [{"epoch": epoch, "step": 50 * (epoch + 1), "minutes": 0.5 * epoch} for epoch in range(3)],
        "probes": [
            {"case": "a", "gates": ["level2", "level3.1"], "image": "a_image.nii.gz", "label": "a_label.nii.gz"}
        ],
    }


def test_labels_have_the_values_of_their_file(tmp_path, write_blobs, tiny_plan):
    folder = write_blobs(tmp_path / "data", cases=1, value=255, second=7, ignored=9)
    plan = tiny_plan(labels={"background": 0, "bright": 255, "dark": 7}, ignore_label=9)
    (stored,) = store_cases(read_dataset(folder).cases, plan, tmp_path / "store").values()
    write_film(tmp_path / "film", [stored], [a_frame("case0", (24, 24, 16), 0)], plan)
    found, classes = read_volume(tmp_path / "film" / "case0_label.nii.gz").array[0], stored.label()[:]
    for index, value in {0: 0, 1: 255, 2: 7, IGNORED: 9}.items():
        np.testing.assert_array_equal(found == value, classes == index)


def test_a_ct_is_shown_in_its_own_units(oblique, tiny_plan, tmp_path):
    how = Normalization(kind="ct", lower=-100, upper=1000, mean=80, std=40)
    plan = tiny_plan(preprocessing=Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(how,)))
    stored, _ = oblique(plan)
    write_film(tmp_path, [stored], [a_frame("a", stored.label().shape, 0)], plan)
    assert read_volume(tmp_path / "a_image.nii.gz").array.mean() == pytest.approx(50, abs=2)
