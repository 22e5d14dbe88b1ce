"""Planes of the model grid, whatever their number, restore what the whole grid restores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.preprocess import prepare
from attunet.data.restore import InverseTransform, Planes, split_bands
from attunet.data.volume import Volume


@given(
    shape=st.tuples(*[st.integers(1, 11)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 2.3])] * 3),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    world=st.permutations(range(3)),
    axes=st.permutations(range(3)),
    count=st.integers(1, 4),
    thickness=st.integers(1, 5),
    coarse=st.booleans(),
    crop=st.booleans(),
)
def test_rows_are_those_of_the_whole(restore, shape, spacing, signs, world, axes, count, thickness, coarse, crop):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, world] * signs
    array = np.ones((1, *shape))
    array[:, : shape[0] // 3] = 0
    random = np.random.default_rng(0)
    settings = Preprocessing(spacing=spacing, normalization=(Normalization(kind="none"),), crop_to_content=crop)
    record = prepare(Volume(array, affine), settings).record
    logits = random.normal(size=(4, *record.model_shape)).astype(np.float32)
    logits = np.rint(logits) if coarse else logits
    inverse = InverseTransform(record, tuple(axes))
    turned = np.ascontiguousarray(logits.transpose(0, *(axis + 1 for axis in axes)))
    floats = np.zeros((4, *record.shape), np.float32)
    masks = np.zeros((2, 1, *record.shape), np.int64)
    owned, covered = np.zeros(turned.shape[2], int), 0
    for band in split_bands(inverse, count):
        covered += band.across.stop - band.across.start
        owned[band.own] += 1
        done = 0
        if band.empty:
            continue
        for stop in [*range(thickness, turned.shape[1], thickness), turned.shape[1]]:
            first = max(0, stop - thickness - 1)  # one plane again, to interpolate between
            planes = Planes(first, turned[:, first:stop, band.sources])
            rows = slice(done, inverse.finished_rows(stop))
            inverse.content(floats, band)[:, rows] = inverse.interpolate(planes, band, rows)
            for regions, mask in enumerate(masks):
                target = inverse.content(mask, band)[0]
                inverse.argmax(planes, band, rows, regions=bool(regions), write=target.__setitem__)
            done = rows.stop
        assert done == inverse.resizing.new[0]
    assert (owned == 1).all()
    assert covered == record.shape[record.axes[axes[1]]]
    restored = restore(logits, record)
    inside = np.zeros(record.shape, bool)
    inside[record.content] = True
    np.testing.assert_array_equal(floats, restored)
    np.testing.assert_array_equal(masks[0, 0], np.where(inside, restored.argmax(axis=0), 0))
    painted = np.zeros(record.shape, int)
    for index, channel in enumerate(restored, start=1):
        painted[channel > 0.5] = index
    np.testing.assert_array_equal(masks[1, 0], painted)
