"""Planes of the model grid, whatever their number, restore what the whole grid restores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.preprocess import prepare
from attunet.data.restoration.route import Planes, Route, bands_of
from attunet.data.restoration.whole import restore, restore_labels, restore_regions
from attunet.data.volume import Volume

VALUES = (0, 4, 2, 9)


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
def test_rows_are_those_of_the_whole(shape, spacing, signs, world, axes, count, thickness, coarse, crop):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, world] * signs
    array = np.ones((1, *shape))
    array[:, : shape[0] // 3] = 0
    random = np.random.default_rng(0)
    settings = Preprocessing(spacing=spacing, normalization=(Normalization(kind="none"),), crop_to_content=crop)
    record = prepare(Volume(array, affine), settings).record
    logits = random.normal(size=(4, *record.model_shape)).astype(np.float32)
    logits = np.rint(logits) if coarse else logits
    route = Route(record, tuple(axes))
    turned = np.ascontiguousarray(logits.transpose(0, *(axis + 1 for axis in axes)))
    floats = np.zeros((4, *record.shape), np.float32)
    masks = np.zeros((2, 1, *record.shape), np.int64)
    owned, covered = np.zeros(turned.shape[2], int), 0
    for band in bands_of(route, count):
        covered += band.across.stop - band.across.start
        owned[band.own] += 1
        done = 0
        if band.empty:
            continue
        for stop in [*range(thickness, turned.shape[1], thickness), turned.shape[1]]:
            first = max(0, stop - thickness - 1)  # one plane again, to interpolate between
            planes = Planes(first, turned[:, first:stop, band.sources])
            rows = slice(done, route.ready(stop))
            route.content(floats, band)[:, rows] = route.floats(planes, band, rows)
            for regions, mask in enumerate(masks):
                target = route.content(mask, band)[0]
                route.decide(planes, band, rows, regions=bool(regions), write=target.__setitem__)
            done = rows.stop
        assert done == route.resizing.new[0]
    assert (owned == 1).all()
    assert covered == record.shape[record.axes[axes[1]]]
    np.testing.assert_array_equal(floats, restore(logits, record))
    np.testing.assert_array_equal(np.array(VALUES)[masks[0, 0]], restore_labels(logits, record, VALUES))
    painted = restore_regions(logits, record, (0, 1, 2, 3, 4))
    np.testing.assert_array_equal(masks[1, 0], painted)
