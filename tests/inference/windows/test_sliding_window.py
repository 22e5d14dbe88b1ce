"""The sliding window, fed to engines whose answer is known."""

from __future__ import annotations

from itertools import chain, combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.data.coarse_map import CoarseMap
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.region import Region
from attunet.inference.windows.sliding_window import gaussian, sliding_window, stitch, windows_to_fill
from attunet.inference.windows.tiling import Tiling, window_starts


class Echo:
    """Answers with its input, and with its input at half the size as attention; remembers what it was fed."""

    name = "echo"

    def __init__(self, batch=1):
        self.batch = batch
        self.fed = []

    def __call__(self, patches):
        self.fed.append(patches.shape)
        return EngineOutput(patches, {"level2": halved(patches[:, :1])})


def halved(array):
    """The mean of each two neighbours along every spatial axis; axes of length 1 stay."""
    for axis in range(2, array.ndim):
        if array.shape[axis] > 1:
            array = (
                np.take(array, range(0, array.shape[axis], 2), axis)
                + np.roll(array, -1, axis).take(range(0, array.shape[axis], 2), axis)
            ) / 2
    return array


def stitched(image, engine, patch, *, step=0.5, **blending):
    return stitch(image, engine, Tiling.of(image.shape[1:], patch, step), Blending(**blending))


def ramp(shape):
    """(1, I, J, K) rising from 0 to 1 along every axis."""
    axes = np.meshgrid(*(np.linspace(0, 1, size) if size > 1 else np.zeros(1) for size in shape), indexing="ij")
    return np.mean(axes, axis=0, dtype=np.float32)[None].astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 23)] * 3),
    patch=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 7)),
    channels=st.integers(1, 3),
    step=st.floats(0.05, 1.0),
    mirror=st.sets(st.integers(0, 2)),
    batch=st.integers(1, 5),
)
def test_an_echo_gives_the_image_back(shape, patch, channels, step, mirror, batch):
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    engine = Echo(batch)
    result = stitched(image, engine, patch, step=step, mirror_axes=tuple(mirror))
    np.testing.assert_allclose(result[0], image, rtol=1e-4, atol=1e-4)  # hundreds of windows are summed in float32
    assert result[1] == {}

    windows = len(Tiling.of(shape, patch, step))
    assert sum(size[0] for size in engine.fed) == windows * 2 ** len(mirror)
    fed = patch if patch[2] > 1 else patch[:2]
    assert {size[1:] for size in engine.fed} == {(channels, *fed)}
    assert max(size[0] for size in engine.fed) <= batch


@pytest.mark.parametrize("mirror", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize(("shape", "patch"), [((33, 30, 21), (16, 12, 8)), ((40, 31, 3), (16, 12, 1))])
def test_attention_is_stitched_where_it_belongs(shape, patch, mirror):
    image = ramp(shape)
    result = stitched(image, Echo(), patch, mirror_axes=mirror, attention=True)
    assert result[1]["level2"].shape == image.shape
    np.testing.assert_allclose(result[1]["level2"], image, atol=0.02)


def test_attention_of_several_maps_and_gates_keeps_its_names():
    class Gated(Echo):
        def __call__(self, patches):
            both = np.concatenate([patches * 0 + 0.25, patches * 0 + 0.75], axis=1)
            return EngineOutput(patches, {"level3": both, "level1": both[:, :1]})

    result = stitched(ramp((9, 9, 9)), Gated(), (4, 4, 4), attention=True)
    assert list(result[1]) == ["level1", "level3"]
    np.testing.assert_allclose(result[1]["level3"].mean(axis=(1, 2, 3)), [0.25, 0.75], atol=1e-6)


def test_the_middle_of_a_window_counts_most():
    class Edges(Echo):
        """Right in the middle of the patch, wrong at its border, as a network is."""

        def __call__(self, patches):
            answer = np.zeros_like(patches)
            answer[:, :, 4:-4] = 1.0
            return EngineOutput(answer, {})

    result = stitched(ramp((64, 4, 4)), Edges(), (16, 4, 4))
    assert result[0][0, 8:-8, 1:3, 1:3].min() > 0.7  # 0.5 if all counted alike


@given(size=st.integers(1, 200), edge=st.integers(1, 60), step=st.floats(0.01, 1.0))
def test_windows_cover_everything_and_end_at_the_edge(size, edge, step):
    size = max(size, edge)
    (starts,) = window_starts((size,), (edge,), step)
    assert starts[0] == 0
    assert starts[-1] == size - edge
    assert len(set(starts)) == len(starts)
    gaps = np.diff(starts)
    assert (gaps <= max(1, np.ceil(edge * step))).all()
    assert (gaps <= edge).all()


@pytest.mark.parametrize("patch", [(16, 12, 8), (7, 5, 1), (1, 1, 1)])
def test_weights_peak_in_the_middle_and_never_vanish(patch):
    weight = gaussian(patch)
    assert weight.shape == patch
    assert weight.min() >= 1e-3
    assert weight.max() == 1
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1], rtol=1e-6)


def test_the_image_is_left_as_it_was():
    image = ramp((10, 10, 10))
    before = image.copy()
    stitched(image, Echo(), (4, 4, 4), mirror_axes=(0,))
    np.testing.assert_array_equal(image, before)


class Rough(Echo):
    """Logits of three classes that do not sum exactly whatever the order, and a gate on every voxel."""

    def __call__(self, patches):
        logits = np.concatenate([patches * 0.7, np.roll(patches, 1, 2) * 1.1, patches**2 * 0.3], axis=1)
        return EngineOutput(logits, {"level1": 1 / (1 + np.exp(-patches))})


def at_once(image, engine, patch, step, mirror, exchange, axes):
    """The plain way, with sums as large as the volume: windows one after the other, the last of `axes` fastest."""
    before = [max(0, edge - size) // 2 for size, edge in zip(image.shape[1:], patch, strict=True)]
    after = [max(0, edge - size) - low for size, edge, low in zip(image.shape[1:], patch, before, strict=True)]
    padded = np.pad(image, [(0, 0), *zip(before, after, strict=True)], mode="edge")
    starts = window_starts(padded.shape[1:], patch, step)
    weight, copies = gaussian(patch), list(chain.from_iterable(combinations(mirror, n) for n in range(len(mirror) + 1)))
    sums, total = {}, np.zeros(padded.shape[1:], np.float32)
    for place in product(*(starts[axis] for axis in axes)):
        box = tuple(slice(place[axes.index(axis)], place[axes.index(axis)] + patch[axis]) for axis in range(3))
        for copy in copies:
            turned = tuple(axis + 1 for axis in copy)
            window = np.flip(padded[:, *box], turned)[None]
            output = engine(window[..., 0] if patch[2] == 1 else window)
            for name, array in {"logits": output.logits, **output.attention}.items():
                values = np.flip(array[0][..., None] if patch[2] == 1 else array[0], turned)
                if name == "logits" and exchange and set(exchange) & set(copy):
                    values = values[[0, 2, 1]]
                sums.setdefault(name, np.zeros((len(values), *total.shape), np.float32))[:, *box] += values * weight
        total[box] += weight
    total *= len(copies)
    inside = tuple(slice(low, low + size) for low, size in zip(before, image.shape[1:], strict=True))
    return {name: (array / total)[:, *inside] for name, array in sums.items()}


@settings(max_examples=30)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    patch=st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 7)),
    step=st.floats(0.2, 1.0),
    mirror=st.sets(st.integers(0, 1)),
    exchange=st.sampled_from([{}, {0: [0, 2, 1]}]),
    axes=st.permutations(range(3)),
    batch=st.integers(1, 3),
    planes=st.sampled_from([None, 1, 3]),
    fill=st.integers(1, 4),
    band=st.tuples(st.integers(0, 19), st.integers(1, 20)),
)
def test_what_is_passed_on_is_bit_by_bit_what_sums_of_the_whole_volume_give(
    shape, patch, step, mirror, exchange, axes, batch, planes, fill, band
):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    mirror, axes = tuple(sorted(mirror)), tuple(axes)
    expected = at_once(image, Rough(), patch, step, mirror, exchange, axes)
    low = min(band[0], shape[axes[1]] - 1)
    part = slice(low, min(low + band[1], shape[axes[1]]))
    blending = Blending(mirror_axes=mirror, exchange=exchange, attention=True)
    done = 0
    for slab in sliding_window(
        image, [Rough(batch)], Tiling.of(shape, patch, step, axes), blending, band=part, planes=planes, fill=fill
    ):
        assert slab.first == done
        assert slab.covered is None
        done += slab.planes
        for name, array in slab.outputs[0].items():
            turned = expected[name].transpose(0, *(axis + 1 for axis in axes))
            np.testing.assert_array_equal(array, turned[:, slab.first : done, part])
    assert done == shape[axes[0]]


@pytest.mark.parametrize("batch", [1, 3])
def test_every_window_is_counted_once_when_all_its_copies_are_done(batch):
    image, seen = ramp((20, 9, 9)), []
    tiling = Tiling.of((20, 9, 9), (8, 6, 6), 0.5)
    blending = Blending(mirror_axes=(0, 1))
    for _ in sliding_window(image, [Echo(batch), Echo(batch)], tiling, blending, on_windows=seen.append):
        pass
    assert sum(seen) == 2 * len(tiling)


def test_every_combination_of_axes_is_a_copy_the_plain_one_first():
    assert Blending(mirror_axes=(0, 2)).copies == [(), (0,), (2,), (0, 2)]


def test_channels_change_places_only_where_left_becomes_right():
    blending = Blending(mirror_axes=(0, 1), exchange={0: [0, 2, 1]})
    assert [blending.order(copy, 3) for copy in blending.copies] == [[0, 1, 2], [0, 2, 1], [0, 1, 2], [0, 2, 1]]


@pytest.mark.parametrize(("batches", "mirror", "windows"), [(4, (), 8), (4, (0, 1), 2), (1, (0, 1, 2), 1)])
def test_copies_fill_batches_too(batches, mirror, windows):
    engine = type("Pair", (), {"batch": 2})()
    assert windows_to_fill([engine], Blending(mirror_axes=mirror), batches) == windows


def test_beyond_the_image_its_edge_is_repeated():
    seen = []

    class Eye:
        name, batch = "eye", 1

        def __call__(self, patches):
            seen.append(patches.copy())
            return EngineOutput(patches, {})

    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    stitched(image, Eye(), (6, 2, 2), mirror_axes=(0,))
    expected = image[0, [0, 0, 1, 2, 2, 2]]
    np.testing.assert_array_equal(seen[0][0, 0], expected)
    np.testing.assert_array_equal(seen[1][0, 0], expected[::-1])


def test_weights_are_made_once():
    assert gaussian((8, 8, 4)) is gaussian((8, 8, 4))


@settings(max_examples=30)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    patch=st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 7)),
    step=st.floats(0.2, 1.0),
    mirror=st.sets(st.integers(0, 1)),
    axes=st.permutations(range(3)),
    coarse=st.tuples(*[st.integers(1, 5)] * 3),
    filled=st.sampled_from([0.05, 0.3, 1.0]),
    planes=st.sampled_from([None, 1, 3]),
    band=st.tuples(st.integers(0, 19), st.integers(1, 20)),
)
def test_inside_a_region_the_numbers_are_those_of_all_windows(
    shape, patch, step, mirror, axes, coarse, filled, planes, band
):
    random = np.random.default_rng(0)
    image = random.normal(size=(1, *shape)).astype(np.float32)
    context = CoarseMap(random.normal(size=(2, *coarse)).astype(np.float32), shape)
    region = Region(random.random(coarse) < filled, shape)
    whole = Tiling.of(shape, patch, step, tuple(axes))
    blending = Blending(mirror_axes=tuple(mirror), exchange={0: [0, 2, 1]}, context={0: [1, 0]}, attention=True)
    near = whole.within(region)
    assert {*near} == {start for start in whole if region.touches(whole.box(start))}

    low = min(band[0], shape[axes[1]] - 1)
    part = slice(low, min(low + band[1], shape[axes[1]]))
    found = {name: np.zeros((9 if name == "logits" else 3, *shape)) for name in ("logits", "level1")}
    reached = np.zeros(shape, bool)
    for slab in sliding_window(image, [Rough()], near, blending, contexts=[context], band=part, planes=planes, fill=1):
        rows = slice(part.start + slab.across[0].start, part.start + slab.across[0].stop)
        box = slice(slab.first, slab.first + slab.planes), rows, slab.across[1]
        if slab.outputs[0]:
            reached.transpose(axes)[box] = True if slab.covered is None else slab.covered
        for name, array in slab.outputs[0].items():
            found[name].transpose(0, *(axis + 1 for axis in axes))[:, *box] = array

    inside = np.zeros(shape, bool)
    inside.transpose(axes)[:, part] = region.part(slice(0, 99), part, slice(0, 99), axes)
    np.testing.assert_array_equal(reached, inside)
    expected = dict(zip(("logits", "attention"), stitch(image, Rough(), whole, blending, context), strict=True))
    np.testing.assert_array_equal(found["logits"][:, inside], expected["logits"][:, inside])
    np.testing.assert_array_equal(found["level1"][:, inside], expected["attention"]["level1"][:, inside])


def test_the_context_follows_the_window_and_its_mirror_image():
    seen = []

    class Eye:
        name, batch = "eye", 1

        def __call__(self, patches):
            seen.append(patches[0].copy())
            return EngineOutput(patches[:, :2], {})

    image, context = ramp((9, 6, 4)), np.random.default_rng(1).random((2, 9, 6, 4), np.float32)
    tiling = Tiling.of((9, 6, 4), (6, 6, 4), 0.5)
    blending = Blending(mirror_axes=(0,), exchange={0: [1, 0]}, context={0: [1, 0]})
    stitch(image, Eye(), tiling, blending, CoarseMap(context, (9, 6, 4)))
    for start, plain, mirrored in zip(tiling, seen[::2], seen[1::2], strict=True):
        window = slice(start[0], start[0] + 6)
        np.testing.assert_array_equal(plain, np.concatenate([image, context])[:, window])
        np.testing.assert_array_equal(mirrored, np.concatenate([image, context[::-1]])[:, window][:, ::-1])
