"""Stitching proved: a gate that returns where it is gives every voxel's place back, whatever lies in between.

The image's channels hold each voxel's coordinates, the gate of a fake engine answers with them. On the patch's own grid
every place must come back exactly; on a coarser grid wherever the places of a window's first and last coefficients
enclose it, and elsewhere within half a coefficient less half a voxel, as interpolation cannot go beyond the last one.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from attunet.config import Normalization
from attunet.data.volume import Volume
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.sliding_window import stitch
from attunet.inference.windows.tiling import Tiling, window_starts

PATCHES = [(16, 12, 8), (13, 11, 9), (12, 10, 1)]
LARGE = [(44, 44, 44), (45, 43, 47)]
"""Patches that hold the whole model grid."""
ANTIALIAS = 0.09
"""Voxels by which shrinking an image with antialiasing may displace what it holds: the image's, not the stitching's."""
CODES = ("RAS", "LPS", "SAR", "AIL", "PLI", "IPR")


class Places:
    """Answers with the coordinates it is fed: as they are at level 1, and at level 2 of each block of `stride` voxels.

    The last block may reach beyond the patch, as in a network that pads it: its middle lies where it would lie there.
    """

    name = "places"

    def __init__(self, stride=(2, 2, 2), batch=2, factor=1.0):
        self.stride, self.batch, self.factor = stride, batch, factor

    def __call__(self, patches):
        coarse = patches
        for axis, stride in enumerate(self.stride[: patches.ndim - 2], start=2):
            coarse = middles(coarse, axis, stride)
        logits = np.zeros((len(patches), 2, *patches.shape[2:]), np.float32)
        return EngineOutput(logits, {"level1": patches * self.factor, "level2": coarse * self.factor})


def attention_of(image, engine, patch, *, step=0.5, **blending):
    tiling = Tiling.of(image.shape[1:], patch, step)
    return stitch(image, engine, tiling, Blending(attention=True, **blending))[1]


def middles(array, axis, stride):
    """Of a function that is linear along the axis: its value in the middle of each block of `stride`."""
    size = array.shape[axis]
    if stride == 1 or size == 1:
        return array
    position = np.arange(0, size, stride) + (stride - 1) / 2
    below = np.clip(np.floor(position).astype(int), 0, size - 2)
    shape = [-1 if other == axis else 1 for other in range(array.ndim)]
    low, high = np.take(array, below, axis), np.take(array, below + 1, axis)
    return (low + (high - low) * (position - below).reshape(shape)).astype(np.float32)


def enclosed(size, patch, step, stride, mirrored):
    """Along one axis: the voxels that no window sees closer to its edge than the middle of the coefficient there."""
    inside, first = np.arange(patch), (stride - 1) / 2
    near = (inside < first) | (inside > (-(-patch // stride) - 1) * stride + first)
    if mirrored:  # the copy is padded at its own end
        near |= near[::-1]
    clear = np.ones(size, bool)
    for start in window_starts((size,), (patch,), step)[0]:
        clear[start + inside[near]] = False
    return clear


def coordinates(shape):
    """(3, I, J, K): the indices of each voxel, a little apart from each other so that axes cannot be mixed up."""
    return np.indices(shape).astype(np.float32) * np.array([1.0, 1.5, 2.0], np.float32)[:, None, None, None]


@settings(max_examples=15, deadline=None)
@given(
    patch=st.tuples(*[st.integers(4, 15)] * 3),
    beyond=st.tuples(*[st.integers(0, 12)] * 3),
    stride=st.tuples(*[st.integers(1, 4)] * 3),
    step=st.floats(0.6, 1.0),
    mirror=st.sets(st.integers(0, 2)),
    batch=st.integers(1, 3),
)
def test_windows_give_every_place_back(patch, beyond, stride, step, mirror, batch):
    shape = tuple(np.add(patch, beyond))  # smaller images are padded by their edge: see below
    where = coordinates(shape)
    result = attention_of(
        where, Places(stride, batch), patch, step=step, mirror_axes=tuple(mirror), strides={"level2": stride}
    )
    np.testing.assert_allclose(result["level1"], where, atol=2e-4)
    for axis in range(3):
        unit = (1.0, 1.5, 2.0)[axis]
        error = np.abs(np.moveaxis(result["level2"][axis] - where[axis], axis, 0))
        assert error.max() <= unit * (stride[axis] - 1) / 2 + 1e-3
        clear = enclosed(shape[axis], patch[axis], step, stride[axis], axis in mirror)
        assert error[clear].max(initial=0) < 1e-3


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), patch=st.tuples(*[st.integers(4, 15)] * 3), mirror=st.sets(st.just(1))
)
@settings(max_examples=15, deadline=None)
def test_what_pads_a_small_image_is_masked_out(shape, patch, mirror):
    where = coordinates(shape)
    result = attention_of(where, Places((1, 1, 1)), patch, mirror_axes=tuple(mirror))
    np.testing.assert_allclose(result["level1"], where, atol=1e-3)


@pytest.mark.parametrize("stride", [(2, 2, 2), (4, 1, 3)])
def test_any_function_of_place_comes_back_from_the_patchs_own_grid(stride):
    where = np.random.default_rng(0).normal(size=(2, 19, 14, 11)).astype(np.float32)
    result = attention_of(where, Places(stride), (8, 7, 5), mirror_axes=(0, 1, 2))
    np.testing.assert_allclose(result["level1"], where, atol=1e-4)


def affine_of(codes, spacing, angles):
    """A grid whose axes run along the codes, turned a little."""
    upright = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(codes), (20, 20, 20))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ upright[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = 12.0, -34.0, 56.0
    return affine


def places_of(affine, shape):
    """(3, I, J, K): the millimetres R, A, S of each voxel."""
    indices = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ indices + affine[:3, 3:]).reshape(3, *shape).astype(np.float32)


def scan_of(affine, shape, margins):
    """Coordinates as channels, shifted to be positive, within margins of nothing; where that content lies."""
    where = places_of(affine, shape)
    content = tuple(slice(low, size - high) for size, (low, high) in zip(shape, margins, strict=True))
    array = np.zeros_like(where)
    array[:, *content] = where[:, *content] - where.min(axis=(1, 2, 3), keepdims=True) + 1
    return Volume(array, affine), content, where.min(axis=(1, 2, 3), keepdims=True) - 1


def deep(content, affine, model_spacing, coarse):
    """The part of the content that lies further from its faces than any interpolation there reaches."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.ceil((max(model_spacing) * coarse + spacing) / spacing).astype(int)
    return tuple(
        slice(part.start + r, max(part.start + r, part.stop - r)) for part, r in zip(content, reach, strict=True)
    )


@pytest.fixture(scope="module")
def segmenter(make_plan_of):
    """A function: a segmenter of engines that answer with places, once and threefold, for a model grid and patch."""

    def make(spacing, patch, crop=True, slice_axis=2):
        flat = patch[2] == 1
        plan = make_plan_of(2 if flat else 3, in_channels=3, labels={"background": 0, "organ": 1}, mirror_axes=(0, 1))
        raw = (Normalization(kind="none"),) * 3
        changes = {"spacing": spacing, "normalization": raw, "crop_to_content": crop, "slice_axis": slice_axis}
        preprocessing = plan.preprocessing.model_copy(update=changes)
        plan = plan.model_copy(update={"preprocessing": preprocessing, "patch_size": patch})
        stride = (2, 2, 1) if flat else (2, 2, 2)
        return Segmenter((Member("one", plan, (Places(stride, factor=0.5), Places(stride, factor=1.5))),))

    return make


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(12, 18)] * 3),
    margins=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3),
    codes=st.sampled_from(CODES),
    spacing=st.tuples(*[st.floats(1.0, 1.8)] * 3),
    angles=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    model=st.tuples(*[st.floats(0.8, 1.0)] * 3),
    shrinks=st.booleans(),
    patch=st.sampled_from(PATCHES + LARGE),
    step=st.sampled_from([0.5, 1.0]),
    slice_axis=st.integers(0, 2),
)
def test_every_voxel_of_the_input_gets_its_own_place_back(
    shape, margins, codes, spacing, angles, model, shrinks, patch, step, slice_axis, segmenter
):
    affine = affine_of(codes, spacing, angles)
    model = tuple(np.multiply(model, max(spacing) * 2 if shrinks else min(spacing)).tolist())
    scan, content, least = scan_of(affine, shape, margins)
    result = segmenter(model, patch, slice_axis=slice_axis).predict(scan, attention=True, step_size=step)
    assert result.content == content
    for gate, coarse in (("level1", 1), ("level2", 2)):
        alpha = result.attention[gate]
        np.testing.assert_array_equal(alpha.affine, affine)
        assert alpha.array.shape == (3, *shape)
        outside = np.ones(shape, bool)
        outside[content] = False
        assert not alpha.array[:, outside].any()
        error = np.abs(alpha.array + least - places_of(affine, shape))[:, *deep(content, affine, model, coarse)]
        allowed = 2e-3 + (ANTIALIAS if shrinks else 0) * np.abs(affine[:3, :3]).sum(axis=1).max()
        if gate == "level2" and patch not in LARGE:  # inner windows' edges
            allowed += sum(model) / 2
        assert error.max(initial=0) <= allowed
