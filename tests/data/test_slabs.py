"""Slabs: every row once, errors heard, memory laid out anew without a change."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data import slabs
from attunet.data.slabs import cores, each_slab, packed


@pytest.mark.parametrize("available", [1, 3])
@given(rows=st.integers(0, 40), size=st.integers(1, 50))
def test_every_row_is_worked_on_once(available, rows, size):
    counts = np.zeros(rows, dtype=int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "cores", lambda: available)
        each_slab(lambda slab: np.add(counts[slab], 1, out=counts[slab]), rows, size)
    assert (counts == 1).all()


def test_slabs_go_to_several_threads(monkeypatch):
    monkeypatch.setattr(slabs, "cores", lambda: 2)
    both = threading.Barrier(2, timeout=20)
    each_slab(lambda slab: both.wait() and None, 2, 1)


def test_what_goes_wrong_in_a_slab_is_raised(monkeypatch):
    monkeypatch.setattr(slabs, "cores", lambda: 2)

    def work(slab: slice) -> None:
        if slab.start == 3:
            raise MemoryError("of slab 3")

    with pytest.raises(MemoryError, match="slab 3"):
        each_slab(work, 9, 1)


def test_there_is_at_least_one_core():
    assert cores() >= 1


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    axes=st.permutations(range(3)),
    steps=st.tuples(*[st.sampled_from((1, -1))] * 3),
    dtype=st.sampled_from((np.uint8, np.int16, np.float32)),
)
def test_packing_changes_the_layout_only(shape, axes, steps, dtype):
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape).transpose(axes)
    array = array[tuple(slice(None, None, step) for step in steps)]
    result = packed(array)
    assert result.flags.c_contiguous
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, array)


def test_what_is_packed_is_not_copied():
    array = np.zeros((3, 4, 5))
    assert packed(array) is array


def test_a_worker_uses_only_the_cores_that_it_was_given(monkeypatch):
    monkeypatch.setattr(slabs, "_limits", [])
    assert slabs.core_limit() is None
    everything = slabs.cores()
    slabs.limit_cores(1)
    assert (slabs.core_limit(), slabs.cores()) == (1, 1)
    slabs.limit_cores(10**6)
    assert slabs.cores() == everything
