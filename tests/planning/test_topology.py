"""Patch, strides and kernels from shape and spacing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.planning.topology import plan_topology


def topology(shape, spacing=(1.0, 1.0, 1.0), dims=3, voxels=100_000, levels=5, **settings):
    return plan_topology(np.array(shape, float), np.array(spacing, float), dims, voxels, levels, **settings)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.floats(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    dims=st.sampled_from([2, 3]),
    fixed=st.sampled_from([None, 5]),
)
def test_the_pieces_fit_together(shape, spacing, dims, fixed):
    planned = topology(shape, spacing, dims, fixed_levels=fixed)
    assert len(planned.kernel_sizes) == len(planned.strides) + 1
    assert len(planned.strides) == 4 if fixed else 1 <= len(planned.strides) <= 4
    assert planned.patch_size[2] == 1 or dims == 3
    total = np.prod(planned.strides, axis=0)
    assert not (np.array(planned.patch_size[:dims]) % total).any()
    assert np.prod(planned.patch_size) <= 160_000 or planned.patch_size[:dims] == tuple(total)


def test_a_small_volume_is_seen_whole():
    assert topology((35, 50, 36)).patch_size == (40, 56, 40)
    assert topology((9, 12, 10)).strides == ((2, 2, 2),)


def test_a_large_volume_is_seen_in_cubes_of_millimetres():
    i, j, k = topology((512, 512, 200), (0.5, 0.5, 2.0)).patch_size
    assert i == j
    assert 0.5 < (k * 2.0) / (i * 0.5) < 2


def test_coarse_axes_are_halved_later_and_convolved_later():
    planned = topology((128, 128, 32), (1.0, 1.0, 4.0))
    assert planned.strides[0] == (2, 2, 1)
    assert (2, 2, 2) in planned.strides
    assert planned.kernel_sizes[0] == (3, 3, 1)
    assert planned.kernel_sizes[-1] == (3, 3, 3)


def test_what_is_smaller_than_a_stride_still_gets_a_network():
    planned = topology((2, 3, 1))
    assert planned.strides == ((2, 2, 2),)
    assert planned.patch_size == (2, 4, 2)


def test_thin_axes_of_published_networks_do_not_burst_the_budget():
    assert np.prod(topology((300, 300, 2), fixed_levels=5).patch_size) <= 160_000
