"""Scans that differ from those of the training are told from those that do not."""

import numpy as np
import pytest

from attunet.config import FingerprintSummary, Normalization, Preprocessing
from attunet.data.volume import Volume
from attunet.inference.familiarity import unfamiliar
from attunet.inference.segmenter import Segmenter

SHAPE, SPACING = (60, 50, 30), (2.0, 2.0, 5.0)
CT = Normalization(kind="ct", lower=-50, upper=200, mean=60, std=40)


@pytest.fixture(scope="module")
def plan(tiny_plan):
    """A plan of a CT with thick axial slices."""
    known = FingerprintSummary(
        cases=20, channels=1, median_shape=SHAPE, median_spacing=SPACING, label_voxels={"blob": 80}
    )
    steps = Preprocessing(spacing=SPACING, normalization=(CT,))
    return tiny_plan(fingerprint=known, preprocessing=steps, modality="ct", channel_names=("CT",))


def scan(shape=SHAPE, spacing=SPACING, *, axes=(0, 1, 2), signs=(-1, -1, 1), low=-1000.0, high=150.0, **how):
    """A CT of this size along right, front and up; `axes` are those that the file's axes follow."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, axis in enumerate(axes):
        affine[axis, column] = signs[axis] * spacing[axis]
    array = np.random.default_rng(0).uniform(low, high, [1, *(shape[axis] for axis in axes)])
    return Volume(array.astype(np.float32), affine, **how)


def told(volume, plan, content=None):
    return unfamiliar(volume, content or tuple(slice(0, size) for size in volume.spatial_shape), plan)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, -1)])
def test_a_scan_like_those_of_the_training_is_met_with_silence(plan, axes, signs):
    assert told(scan(axes=axes, signs=signs), plan) == ()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_spacing_is_told_with_its_direction_in_the_patient(plan, axes):
    (warning,) = told(scan((60, 50, 12), (2.0, 2.0, 12.5), axes=axes), plan)
    assert warning == (
        "this scan's spacing is outside of what the model was trained on: 12.5 mm from foot to head (usually 5 mm)"
    )


def test_the_direction_of_slices_is_told(plan):
    found = told(scan((60, 20, 75), (2.0, 5.0, 2.0)), plan)
    assert "this scan has coronal slices, those of the training were axial" in found
    assert len(found) == 2  # and the spacing


def test_the_field_of_view_is_that_of_the_content(plan):
    volume = scan((60, 50, 200))
    (larger,) = told(volume, plan)
    assert larger.startswith("this scan's field of view is larger")
    assert larger.endswith("1000 mm from foot to head (usually 150 mm)")
    assert told(volume, plan, (slice(0, 60), slice(0, 50), slice(100, 130))) == ()
    (smaller,) = told(volume, plan, (slice(0, 15), slice(0, 50), slice(100, 130)))
    assert "smaller" in smaller
    assert "from left to right" in smaller


def test_intensities_off_the_scale_are_told(plan):
    (strange,) = told(scan(low=1000.0, high=1100.0), plan)
    assert strange.startswith("the intensities of CT are outside of what the model was trained on: 0.0% of the voxels")
    (shifted,) = told(scan(low=0.0, high=1200.0), plan)
    assert "rescale intercept" in shifted


def test_intensities_that_each_image_normalizes_are_not_judged(plan):
    steps = Preprocessing(spacing=SPACING, normalization=(Normalization(kind="zscore"),))
    other = plan.model_copy(update={"preprocessing": steps, "modality": "mr"})
    assert told(scan(low=0.0, high=30000.0), other) == ()


def test_sizes_are_not_judged_where_there_is_no_scale(plan):
    volume = scan((60, 50, 200), (9.0, 9.0, 9.0))
    assert len(told(volume, plan)) > 1
    assert told(scan((60, 50, 200), (9.0, 9.0, 9.0), calibrated=False), plan) == ()
    assert told(volume, plan.model_copy(update={"modality": "image"})) == ()


def test_a_prediction_tells_it(tiny_run):
    segmenter = Segmenter.load(tiny_run)
    array = np.random.default_rng(0).normal(size=(1, 16, 12, 8)).astype(np.float32)
    spacing = segmenter.plan.fingerprint.median_spacing
    assert segmenter.predict(Volume.from_array(array, spacing)).warnings == ()
    coarse = tuple(2.5 * step for step in spacing)
    warnings = segmenter.predict(Volume.from_array(array, coarse)).warnings
    assert [warning.startswith("this scan's spacing") for warning in warnings] == [True]
    assert warnings[0].count("mm") == 6  # each axis, and what is usual
