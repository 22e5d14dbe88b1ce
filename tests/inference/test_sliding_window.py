"""The sliding window, fed to engines whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.inference.engines import EngineOutput
from attunet.inference.sliding_window import count_windows, gaussian, sliding_window, window_starts


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
    engine, seen = Echo(batch), []
    result = sliding_window(
        image, engine, patch, classes=channels, step=step, mirror_axes=tuple(mirror), advance=seen.append
    )
    np.testing.assert_allclose(result.logits, image, rtol=1e-4, atol=1e-4)  # hundreds of windows are summed in float32
    assert result.attention == {}

    windows = count_windows(shape, patch, step)
    assert sum(seen) == windows
    assert sum(size[0] for size in engine.fed) == windows * 2 ** len(mirror)
    fed = patch if patch[2] > 1 else patch[:2]
    assert {size[1:] for size in engine.fed} == {(channels, *fed)}
    assert max(size[0] for size in engine.fed) <= batch


@pytest.mark.parametrize("mirror", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize(("shape", "patch"), [((33, 30, 21), (16, 12, 8)), ((40, 31, 3), (16, 12, 1))])
def test_attention_is_stitched_where_it_belongs(shape, patch, mirror):
    image = ramp(shape)
    result = sliding_window(image, Echo(), patch, classes=1, mirror_axes=mirror, attention=True)
    assert result.attention["level2"].shape == image.shape
    np.testing.assert_allclose(result.attention["level2"], image, atol=0.02)


def test_attention_of_several_maps_and_gates_keeps_its_names():
    class Gated(Echo):
        def __call__(self, patches):
            both = np.concatenate([patches * 0 + 0.25, patches * 0 + 0.75], axis=1)
            return EngineOutput(patches, {"level3": both, "level1": both[:, :1]})

    result = sliding_window(ramp((9, 9, 9)), Gated(), (4, 4, 4), classes=1, attention=True)
    assert list(result.attention) == ["level1", "level3"]
    np.testing.assert_allclose(result.attention["level3"].mean(axis=(1, 2, 3)), [0.25, 0.75], atol=1e-6)


def test_the_middle_of_a_window_counts_most():
    class Edges(Echo):
        """Right in the middle of the patch, wrong at its border, as a network is."""

        def __call__(self, patches):
            answer = np.zeros_like(patches)
            answer[:, :, 4:-4] = 1.0
            return EngineOutput(answer, {})

    result = sliding_window(ramp((64, 4, 4)), Edges(), (16, 4, 4), classes=1)
    assert result.logits[0, 8:-8, 1:3, 1:3].min() > 0.7  # 0.5 if all counted alike


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
    sliding_window(image, Echo(), (4, 4, 4), classes=1, mirror_axes=(0,))
    np.testing.assert_array_equal(image, before)
