"""Scans that differ from those of the training are told from those that do not."""

import numpy as np
import pytest

from attunet.config import ChannelRanges, FingerprintSummary, ImageRanges, Normalization, Preprocessing
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


def test_intensities_that_each_image_normalizes_are_not_judged_by_medians(plan):
    steps = Preprocessing(spacing=SPACING, normalization=(Normalization(kind="zscore"),))
    other = plan.model_copy(update={"preprocessing": steps, "modality": "mr"})
    assert told(scan(low=0.0, high=30000.0), other) == ()


def test_sizes_are_not_judged_where_there_is_no_scale(plan):
    volume = scan((60, 50, 200), (9.0, 9.0, 9.0))
    assert len(told(volume, plan)) > 1
    assert told(scan((60, 50, 200), (9.0, 9.0, 9.0), calibrated=False), plan) == ()
    assert told(volume, plan.model_copy(update={"modality": "image"})) == ()


def test_nothing_is_known_of_the_training_of_converted_weights(plan):
    unknown = plan.fingerprint.model_copy(update={"cases": 0})
    assert len(told(scan((20, 50, 200), (9.0, 9.0, 9.0)), plan)) > 1
    assert told(scan((20, 50, 200), (9.0, 9.0, 9.0)), plan.model_copy(update={"fingerprint": unknown})) == ()


HOUNSFIELD = ChannelRanges(
    low=(-1020, -980), high=(140, 400), width=(1100, 1400), below_zero=(0.7, 0.9), median_place=(0.1, 0.6), distinct=900
)
MAGNITUDE = ChannelRanges(
    low=(0, 10), high=(400, 90_000), width=(400, 90_000), below_zero=(0, 0), median_place=(0.1, 0.3), distinct=300
)


def knowing(plan, channels=(HOUNSFIELD,), normalization=(CT,), modality="ct", **changes):
    """The plan, with the ranges of its training: axial slices of 4 to 6 mm, 1.8 to 2.2 mm within them."""
    ranges = {
        "shape": ((50, 70), (40, 60), (20, 40)),
        "spacing": ((1.8, 2.2), (1.8, 2.2), (4, 6)),
        "extent": ((100, 140), (80, 120), (100, 200)),
        "planes": ("axial",),
        "tilt": 5.0,
        "channels": channels,
    }
    names = ("CT",) if modality == "ct" else ("T1", "T2")[: len(channels)]
    return plan.model_copy(
        update={
            "fingerprint": plan.fingerprint.model_copy(update={"ranges": ImageRanges(**ranges | changes)}),
            "preprocessing": Preprocessing(spacing=SPACING, normalization=normalization),
            "channel_names": names,
            "modality": modality,
        }
    )


def mr(plan, count=1, usual=MAGNITUDE):
    return knowing(plan, (usual,) * count, (Normalization(kind="zscore"),) * count, "mr")


def magnitude(*, shape=SHAPE, change=lambda array: array, channels=1):
    """An MR: dark for the most part."""
    volume = scan(shape)
    array = np.random.default_rng(0).gamma(2, 60, (channels, *shape)).astype(np.float32)
    return volume.with_array(change(array))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        (SHAPE, SPACING),
        ((60, 50, 20), (2.0, 2.0, 8.0)),  # thicker than any
        ((100, 90, 60), (1.2, 1.2, 2.5)),  # thinner than any
        ((32, 25, 12), (2.0, 2.0, 5.0)),  # smaller than any
        ((120, 110, 60), (2.0, 2.0, 6.0)),  # larger than any
    ],
)
def test_a_scan_within_the_ranges_or_near_them_is_met_with_silence(shape, spacing, axes, plan):
    assert told(scan(shape, spacing, axes=axes), knowing(plan)) == ()


def test_what_is_usual_is_a_range(plan):
    (coarse,) = told(scan((60, 50, 15), (2.0, 2.0, 10.0)), knowing(plan))
    assert coarse == (
        "this scan's spacing is outside of what the model was trained on: 10 mm from foot to head (usually 4 to 6 mm)"
    )
    (fine,) = told(scan((150, 50, 30), (0.8, 2.0, 5.0)), knowing(plan))
    assert "0.8 mm from left to right (usually 1.8 to 2.2 mm)" in fine
    (one,) = told(scan((60, 50, 15), (2.0, 2.0, 10.0)), knowing(plan, spacing=((2, 2), (2, 2), (5, 5))))
    assert "(usually 5 mm)" in one


def test_sizes_beyond_the_ranges_are_told(plan):
    (smaller,) = told(scan((60, 18, 30)), knowing(plan))
    assert smaller.endswith(
        "smaller than what the model was trained on: 36 mm from back to front (usually 80 to 120 mm)"
    )
    (larger,) = told(scan((60, 50, 90)), knowing(plan))
    assert larger.endswith(
        "larger than what the model was trained on: 450 mm from foot to head (usually 100 to 200 mm)"
    )


def test_every_plane_of_the_training_is_known(plan):
    coronal, sizes = scan((60, 24, 75), (2.0, 5.0, 2.0)), {"spacing": ((2, 5),) * 3, "extent": ((50, 200),) * 3}
    (odd,) = told(coronal, knowing(plan, **sizes))
    assert odd == "this scan has coronal slices, those of the training were axial"
    assert told(coronal, knowing(plan, planes=("coronal", "axial"), **sizes)) == ()
    assert told(coronal, knowing(plan, planes=(), **sizes)) == ()


@pytest.mark.parametrize(("degrees", "odd"), [(0, False), (20, False), (40, True)])
def test_a_tilt_is_told(degrees, odd, plan):
    volume, angle = scan(), np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = told(Volume(volume.array, turn @ volume.affine), knowing(plan))
    expected = f"this scan is tilted by {degrees}° against the patient's axes (usually at most 5°)"
    assert found == ((expected,) if odd else ())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_the_scale_of_a_channel_that_each_image_normalizes_is_not_judged(scale, plan):
    assert told(magnitude(change=lambda array: scale * array), mr(plan)) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: 4 * array - 800, ("of another kind than those of the training", "(usually 0%)")),
        (lambda array: array.max() - array, ("of another kind", "or inverted", "(usually 10% to 30%)")),
        (lambda array: np.full_like(array, 40), ("almost all the same: 40",)),
        (
            lambda array: (array > 100).astype(np.uint8),
            ("few, as in a mask: 2 distinct values (usually at least 300)",),
        ),
        (lambda array: np.rint(array / 100), ("few, as in a mask",)),
    ],
)
def test_values_of_another_kind_are_told(change, words, plan):
    (strange,) = told(magnitude(change=change), mr(plan))
    assert strange.startswith("the intensities of T1 are ")
    assert all(word in strange for word in words)


def test_values_that_the_training_had_too_are_not_strange(plan):
    flat = MAGNITUDE.model_copy(update={"width": (0, 90_000), "distinct": 1})
    assert told(magnitude(change=lambda array: np.full_like(array, 40)), mr(plan, usual=flat)) == ()
    signed = MAGNITUDE.model_copy(update={"below_zero": (0.4, 0.5)})
    (positive,) = told(magnitude(), mr(plan, usual=signed))
    assert "0% of their range is negative (usually 40% to 50%)" in positive


def test_channels_of_which_the_same_is_true_share_a_warning(plan):
    (strange,) = told(magnitude(change=np.zeros_like, channels=2), mr(plan, 2))
    assert strange == "the intensities of T1, T2 are almost all the same: 0"
    two = magnitude(change=lambda array: np.zeros_like(array) + np.array([1, 2])[:, None, None, None], channels=2)
    assert told(two, mr(plan, 2)) == ("the intensities of T1, T2 are almost all the same: 1, 2",)
    only = magnitude(change=lambda array: array * np.array([1, 0])[:, None, None, None], channels=2)
    assert told(only, mr(plan, 2)) == ("the intensities of T2 are almost all the same: 0",)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (24.0, 1174.0, "(usually -1020 to 400); the rescale intercept may be missing, or it is no CT"),
        (-160.0, 240.0, "(usually -1020 to 400)"),  # a window
        (-1.0, 1.0, "(usually -1020 to 400)"),
        (-1000.0, -880.0, "(usually -1020 to 400)"),
    ],
)
def test_a_ct_on_another_scale_is_told(low, high, words, plan):
    (strange,) = told(scan(low=low, high=high), knowing(plan))
    assert strange.startswith("the intensities of CT are outside of what the model was trained on: ")
    assert strange.endswith(words)


def test_values_beyond_those_of_a_ct_are_clipped_and_not_told(plan):
    volume = scan(high=200.0)
    volume.array[0, :20] = -3024  # the margin that some scanners write
    volume.array[0, 50:53] = 3071  # metal
    assert told(volume, knowing(plan)) == ()
    unclipped = knowing(plan, normalization=(Normalization(kind="none"),))
    assert told(volume, unclipped)[0].startswith("the intensities of CT are outside")


def test_a_training_without_the_rescale_intercept_knows_such_scans(plan):
    shifted = HOUNSFIELD.model_copy(update={"low": (4, 44), "high": (1164, 1424)})
    steps = CT.model_copy(update={"lower": 974, "upper": 1224})
    assert told(scan(low=24.0, high=1174.0), knowing(plan, (shifted,), (steps,))) == ()


def test_labelled_voxels_are_missed_within_the_range_of_all_voxels(plan):
    bones = CT.model_copy(update={"lower": 160, "upper": 400})
    (strange,) = told(scan(), knowing(plan, normalization=(bones,)))
    assert strange.endswith("0.0% of the voxels are between 160 and 400, as labelled voxels were")


def test_small_pictures_are_told_and_large_ones_are_not(plan):
    pictures = knowing(
        plan, (MAGNITUDE,), (Normalization(kind="zscore"),), "image", shape=((256, 300), (256, 300), (1, 1))
    )
    assert told(magnitude(shape=(200, 140, 1)), pictures) == ()
    assert told(magnitude(shape=(3000, 2000, 1)), pictures) == ()
    assert told(magnitude(shape=(200, 100, 1)), pictures) == (
        "this image is smaller than what the model was trained on: 200x100x1 voxels (usually at least 256x256x1)",
    )


def test_a_prediction_tells_it(tiny_run):
    segmenter = Segmenter.load(tiny_run)
    array = np.random.default_rng(0).normal(size=(1, 16, 12, 8)).astype(np.float32)
    spacing = segmenter.plan.fingerprint.median_spacing
    assert segmenter.predict(Volume.from_array(array, spacing)).warnings == ()
    coarse = tuple(2.5 * step for step in spacing)
    warnings = segmenter.predict(Volume.from_array(array, coarse)).warnings
    assert [warning.startswith("this scan's spacing") for warning in warnings] == [True]
    assert warnings[0].count("mm") == 6  # each axis, and what is usual


def test_a_prediction_compares_with_the_ranges_of_the_model(ranged_run):
    segmenter = Segmenter.load(ranged_run)
    array = np.random.default_rng(0).normal(500, 150, (1, 16, 12, 8)).astype(np.float32)
    assert segmenter.predict(Volume.from_array(array, (1.2, 1.0, 0.8))).warnings == ()
    assert segmenter.predict(Volume.from_array(np.full_like(array, 3), (1.2, 1.0, 0.8))).warnings == (
        "the intensities of channel 0 are almost all the same: 3",
    )
