"""Preparing and restoring: nothing moves, nothing is lost, whatever the orientation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.orientation import canonical
from attunet.data.preprocess import IGNORED, begin_preparation, prepare, prepare_label
from attunet.data.restore import InverseTransform, Planes, blank_mask, model_affine, split_bands
from attunet.data.volume import Volume
from attunet.errors import DataError, GeometryError, LabelError

ORIENTATIONS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
NONE = Normalization(kind="none")


def oriented_affine(axes, signs, spacing, tilt, origin=(-31.0, 12.5, 7.0)):
    """An affine whose voxel axes run along the world axes, tilted by up to a few degrees about each."""
    rotation = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), tilt, strict=True):
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = rotation @ turn
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[:, axes] * signs * spacing
    affine[:3, 3] = origin
    return affine


def plan(spacing, slice_axis=2, normalization=(NONE,), crop=True):
    return Preprocessing(
        spacing=tuple(spacing), slice_axis=slice_axis, normalization=normalization, crop_to_content=crop
    )


def native(volume, slice_axis=2, normalization=(NONE,)):
    """A plan that resamples nothing."""
    return plan(canonical(volume, slice_axis)[0].spacing, slice_axis, normalization)


ANY_ORIENTATION = st.sampled_from(ORIENTATIONS)


@st.composite
def volumes(draw, orientations=ANY_ORIENTATION):
    axes, signs = draw(orientations)
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    spacing = draw(st.tuples(*[st.sampled_from((0.4, 1.0, 3.27))] * 3))
    tilt = draw(st.tuples(*[st.floats(-0.3, 0.3)] * 3))
    array = np.random.default_rng(draw(st.integers(0, 999))).integers(-50, 50, size=(1, *shape), dtype=np.int16)
    if draw(st.booleans()):
        array[:, : shape[0] // 2] = -50  # a margin to crop
    return Volume(array, oriented_affine(axes, signs, spacing, tilt))


def labels_from(probabilities, record, values, *, regions=False):
    """Label values (I, J, K) on the original grid, all planes at once."""
    inverse, mask = InverseTransform(record, (0, 1, 2)), blank_mask(record, values)
    (band,) = split_bands(inverse, 1)
    content, file_values = inverse.content(mask, band)[0], np.array(values, mask.dtype)

    def write(rows, classes):
        content[rows] = file_values.take(classes)

    rows = slice(0, inverse.resizing.new[0])
    inverse.argmax(Planes(0, probabilities), band, rows, regions=regions, write=write)
    return mask[0]


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
@settings(max_examples=3, deadline=None)
@given(data=st.data(), slice_axis=st.sampled_from((0, 1, 2)))
def test_restore_undoes_prepare_exactly(restore, axes, signs, data, slice_axis):
    volume = data.draw(volumes(st.just((axes, signs))))
    prepared = prepare(volume, native(volume, slice_axis))
    restored = restore(prepared.array, prepared.record, fill=float(volume.array.min()))
    np.testing.assert_array_equal(restored, volume.array)
    assert restored.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(volume=volumes(), slice_axis=st.sampled_from((0, 1, 2)), seed=st.integers(0, 99))
def test_one_hot_label_comes_back_exactly(restore, volume, slice_axis, seed):
    values = (0, 7, 200)
    record = prepare(volume, native(volume, slice_axis)).record
    file_label = np.random.default_rng(seed).choice(np.array(values, dtype=np.float32), size=volume.array.shape)
    indices = prepare_label(Volume(file_label, volume.affine), record, values)
    logits = (indices[None] == np.arange(3)[:, None, None, None]).astype(np.float32)
    result = labels_from(logits, record, values)
    outside = restore(np.ones((1, *record.model_shape), np.float32), record)[0] == 0
    np.testing.assert_array_equal(result, np.where(outside, 0, file_label[0]))
    assert result.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(volume=volumes(), slice_axis=st.sampled_from((0, 1, 2)))
def test_canonical_keeps_every_voxel_at_its_place_in_the_patient(volume, slice_axis):
    upright, axes, _ = canonical(volume, slice_axis)
    world = [axis for axis in (0, 1, 2) if axis != slice_axis] + [slice_axis]
    assert upright.orientation == "".join("RAS"[axis] for axis in world)
    assert sorted(axes) == [0, 1, 2]
    np.testing.assert_allclose(
        centroid(upright.array[0] + 51, upright.affine), centroid(volume.array[0] + 51, volume.affine)
    )


@settings(max_examples=60, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    tilt=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    target=st.tuples(*[st.sampled_from((0.7, 1.0, 1.6, 2.5))] * 3),
    slice_axis=st.sampled_from((0, 1, 2)),
)
def test_content_keeps_its_place_in_mm(orientation, tilt, target, slice_axis):
    spacing = (0.9, 1.1, 1.5)
    volume = Volume(blob((27, 24, 19), (14, 9, 8))[None], oriented_affine(*orientation, spacing, tilt))
    prepared = prepare(volume, plan(target, slice_axis, crop=False))
    moved = centroid(prepared.array[0], model_affine(prepared.record)) - centroid(volume.array[0], volume.affine)
    assert np.linalg.norm(moved) < 0.5 * min(*spacing, *target)


def test_resampling_there_and_back_keeps_a_smooth_image(restore):
    volume = Volume(
        blob((32, 30, 28), (15, 14, 13), width=5.0)[None],
        oriented_affine((1, 0, 2), (-1, 1, -1), (1, 1, 1), (0.1, 0, 0.2)),
    )
    for target in ((0.5, 0.5, 0.5), (2.0, 2.0, 2.0)):
        prepared = prepare(volume, plan(target))
        assert np.abs(restore(prepared.array, prepared.record) - volume.array).max() < 0.1 * volume.array.max()


def test_model_grid_has_the_planned_spacing_and_flat_images_stay_flat():
    volume = Volume.from_array(np.random.default_rng(0).random((1, 20, 10, 1)), (1.0, 1.0, 8.0))
    record = prepare(volume, plan((2.0, 0.5, 1.0))).record
    assert record.model_shape == (10, 20, 1)
    np.testing.assert_allclose(Volume(np.zeros((1, 1, 1, 1)), model_affine(record)).spacing, (2.0, 0.5, 8.0))


def test_raster_image_is_unchanged():
    volume = Volume.from_array(np.arange(12.0).reshape(3, 4) + 1)
    np.testing.assert_array_equal(prepare(volume, native(volume)).array, volume.array)


def test_crop_keeps_what_any_channel_shows_and_a_constant_image_is_whole():
    array = np.zeros((2, 6, 6, 6), dtype=np.uint8)
    array[0, 1:3, 2, 3] = 9
    array[1, 4, 2, 3] = 9
    both = (NONE, NONE)
    prepared = prepare(Volume.from_array(array), plan((1, 1, 1), normalization=both))
    assert (prepared.record.start, prepared.record.cropped_shape) == ((1, 2, 3), (4, 1, 1))
    constant = prepare(Volume.from_array(np.full_like(array, 5)), plan((1, 1, 1), normalization=both))
    assert constant.record.cropped_shape == (6, 6, 6)


@settings(max_examples=60, deadline=None)
@given(volume=volumes(), slice_axis=st.sampled_from((0, 1, 2)))
def test_the_content_is_the_box_on_the_original_grid(restore, volume, slice_axis):
    record = prepare(volume, native(volume, slice_axis)).record
    cropped = np.zeros(record.shape, bool)
    cropped[record.content] = True
    np.testing.assert_array_equal(cropped, restore(np.ones((1, *record.model_shape), np.float32), record)[0] == 1)
    assert all(0 <= part.start < part.stop <= size for part, size in zip(record.content, record.shape, strict=True))


def test_zscore_is_taken_over_the_content_and_leaves_the_input_alone():
    array = np.random.default_rng(0).normal(100, 20, size=(1, 8, 8, 8)).astype(np.float32)
    array[:, :, :4, ::2] = -1000
    before = array.copy()
    result = prepare(Volume.from_array(array), plan((1, 1, 1), normalization=(Normalization(kind="zscore"),))).array
    content = result[array > -1000]
    assert abs(content.mean()) < 1e-4
    assert abs(content.std() - 1) < 1e-4
    np.testing.assert_array_equal(array, before)


def test_zscore_of_a_constant_image_is_zero():
    volume = Volume.from_array(np.full((4, 4, 4), 1_000_000, dtype=np.int32))
    assert not prepare(volume, plan((1, 1, 1), normalization=(Normalization(kind="zscore"),))).array.any()


def test_ct_clips_then_scales_by_the_data_sets_own_numbers():
    how = Normalization(kind="ct", lower=-100, upper=200, mean=50, std=25)
    volume = Volume.from_array(np.array([-1000, -100, 50, 75, 3000], dtype=np.int16).reshape(5, 1, 1))
    result = prepare(volume, plan((1, 1, 1), normalization=(how,), crop=False)).array
    np.testing.assert_allclose(result.ravel(), [-6, -6, 0, 1, 6])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 3, 3)), "2 channels, expected 1"),
        (np.full((1, 3, 3, 3), np.nan), "NaN"),
        (np.array([0.0, np.inf]).reshape(1, 2, 1, 1), "infinite"),
        (np.zeros((1, 3, 3, 3), dtype=complex), "complex"),
    ],
)
def test_unusable_images_are_refused_with_a_remedy(array, message):
    with pytest.raises(DataError, match=message) as caught:
        prepare(Volume.from_array(array), plan((1, 1, 1)))
    assert caught.value.hint


def test_absurd_spacing_is_refused():
    with pytest.raises(GeometryError, match="spacing"):
        prepare(Volume.from_array(np.arange(8.0).reshape(2, 2, 2), (5000.0, 5000.0, 5000.0)), plan((1, 1, 1)))


@pytest.mark.parametrize("kind", ["ct", "zscore"])
def test_a_part_of_the_grid_has_the_numbers_of_the_whole(kind):
    image = np.random.default_rng(0).normal(size=(2, 30, 24, 20)).astype(np.float32)
    settings = Preprocessing(
        spacing=(0.7, 1.3, 1.0), normalization=(Normalization(kind=kind, lower=-1, upper=1, mean=0.1, std=0.5),) * 2
    )
    volume, asked = Volume(image, np.eye(4)), []
    whole = prepare(volume, settings, asked.append).array
    box = np.s_[4:20, 3:9, 0:7]
    part = begin_preparation(volume, settings).finish(box, asked.append).array
    np.testing.assert_array_equal(part[:, *box], whole[:, *box])
    part[:, *box] = 0
    assert not part.any()
    assert asked == [whole.nbytes, 4 * 2 * 16 * 6 * 7]


def test_labels_map_by_position_unknown_to_background_and_ignore_aside():
    image = Volume.from_array(np.arange(1.0, 6.0).reshape(5, 1, 1))
    record = prepare(image, plan((1, 1, 1), crop=False)).record
    label = image.with_array(np.array([10, 20, 30, 99, -1], dtype=np.int16).reshape(1, 5, 1, 1))
    result = prepare_label(label, record, (10, 20, 30), ignore=-1)
    np.testing.assert_array_equal(result.ravel(), [0, 1, 2, 0, IGNORED])


def test_several_values_become_one_class_and_more_than_255_fit():
    values = np.arange(1, 401, dtype=np.int32).reshape(1, 20, 20, 1)
    image = Volume.from_array(values.astype(np.float32))
    record = prepare(image, plan((1, 1, 1), crop=False)).record
    classes = ((0,), (1, 9, 400), *((value,) for value in range(2, 9)), *((value,) for value in range(10, 390)))
    result = prepare_label(image.with_array(values), record, classes, ignore=395).ravel()
    assert result.dtype == np.int16
    assert [int(result[value - 1]) for value in (1, 9, 400, 2, 389, 390, 395)] == [1, 1, 1, 2, 388, 0, IGNORED]


@pytest.mark.parametrize(
    ("label", "error"),
    [
        (np.zeros((1, 2, 2, 3), np.uint8), GeometryError),
        (np.zeros((2, 2, 2, 2), np.uint8), LabelError),
        (np.full((1, 2, 2, 2), 0.5), LabelError),
    ],
)
def test_unusable_labels_are_refused(label, error):
    record = prepare(Volume.from_array(np.arange(8.0).reshape(2, 2, 2)), plan((1, 1, 1), crop=False)).record
    with pytest.raises(error):
        prepare_label(Volume.from_array(label), record, (0, 1))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((0, 255), np.uint8), ((0, 256), np.uint16), ((-1, 5), np.int8), ((0, 70000), np.uint32)],
)
def test_file_values_come_back_in_the_smallest_dtype_that_holds_them(values, dtype):
    record = prepare(Volume.from_array(np.arange(2.0).reshape(2, 1, 1)), plan((1, 1, 1))).record
    result = labels_from(np.stack([np.zeros(record.model_shape), np.ones(record.model_shape)]), record, values)
    assert result.dtype == dtype
    assert result.ravel().tolist() == list(values)  # the first voxel lies outside the crop


def test_restored_labels_are_the_argmax_of_restored_logits_and_logits_stay_untouched(restore):
    volume = Volume(blob((15, 13, 11), (7, 6, 5))[None], oriented_affine((2, 0, 1), (1, -1, 1), (1, 1, 1), (0, 0.1, 0)))
    record = prepare(volume, plan((2.0, 1.0, 0.6), crop=False)).record
    logits = np.random.default_rng(0).normal(size=(4, *record.model_shape)).astype(np.float32)
    before = logits.copy()
    expected = restore(logits, record).argmax(axis=0)
    np.testing.assert_array_equal(labels_from(logits, record, (0, 1, 2, 3)), expected)
    np.testing.assert_array_equal(logits, before)


@settings(max_examples=60, deadline=None)
@given(
    volume=volumes(),
    slice_axis=st.sampled_from((0, 1, 2)),
    target=st.tuples(*[st.sampled_from((0.3, 1.0, 2.2))] * 3),
    steps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_in_any_orientation_labels_and_regions_are_those_of_what_is_restored(
    restore, volume, slice_axis, target, steps, seed
):
    record = prepare(volume, plan(target, slice_axis)).record
    random = np.random.default_rng(seed)
    logits = random.integers(0, 3, (4, *record.model_shape)) / 2 if steps else random.random((4, *record.model_shape))
    logits = logits.astype(np.float32)
    restored = restore(logits, record)
    values = np.array((5, 0, 9, 300))
    inside = restore(np.ones((1, *record.model_shape)), record)[0] > 0
    expected = np.where(inside, values[restored.argmax(axis=0)], 5)
    np.testing.assert_array_equal(labels_from(logits, record, values.tolist()), expected)
    painted = np.full(record.shape, 7)
    for value, channel in zip(values, restored, strict=True):
        painted[channel > 0.5] = value
    np.testing.assert_array_equal(labels_from(logits, record, (7, *values.tolist()), regions=True), painted)


def test_regions_are_painted_in_order_over_the_background(restore):
    volume = Volume(blob((15, 13, 11), (7, 6, 5))[None], oriented_affine((2, 0, 1), (1, -1, 1), (1, 1, 1), (0, 0.1, 0)))
    record = prepare(volume, plan((2.0, 1.0, 0.6))).record
    likely = np.random.default_rng(0).uniform(size=(3, *record.model_shape)).astype(np.float32)
    expected = np.full(record.shape, 9)
    for value, channel in zip((5, 300, 2), restore(likely, record), strict=True):
        expected[channel > 0.5] = value
    painted = labels_from(likely, record, (9, 5, 300, 2), regions=True)
    np.testing.assert_array_equal(painted, expected)
    assert painted.dtype == np.uint16


def blob(shape, centre, width=3.0):
    """A smooth ball in air."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (100 * np.exp(-((grid - centre) ** 2).sum(-1) / (2 * width**2))).astype(np.float32)


def centroid(weights, affine):
    """Centre of mass in mm."""
    indices = np.indices(weights.shape).reshape(3, -1)
    centre = indices @ weights.ravel().astype(np.float64) / weights.sum(dtype=np.float64)
    return affine[:3, :3] @ centre + affine[:3, 3]


def test_noise_that_is_clipped_away_is_no_content():
    air = np.random.default_rng(0).normal(-1000, 20, (1, 20, 18, 16)).astype(np.float32)
    air[0, 5:12, 4:9, 3:15] = 60
    ct = Normalization(kind="ct", lower=-160, upper=240, mean=50, std=60)
    volume = Volume(air, np.diag([-1.0, -1.0, 1.0, 1.0]))
    made = prepare(volume, plan((1, 1, 1), normalization=(ct,)))
    assert made.array.shape == (1, 7, 5, 12)
    assert made.record.content == (slice(5, 12), slice(4, 9), slice(3, 15))
    mask = labels_from(np.stack([np.zeros((7, 5, 12)), np.ones((7, 5, 12))]), made.record, (0, 1))
    np.testing.assert_array_equal(mask, air[0] == 60)
