"""Arrays in memory or in a file look the same."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.errors import FormatError
from attunet.inference.buffers import Scratch


@pytest.mark.parametrize("large", [0, 2**30])
def test_what_is_written_stays_after_its_pages_were_released(large, tmp_path):
    scratch = Scratch((2, 5, 4, 3), tmp_path, large=large)
    assert not scratch.array.any()
    values = np.random.default_rng(0).uniform(size=scratch.array.shape).astype(np.float32)
    for row in range(5):
        scratch.array[:, row] = values[:, row]
        scratch.release()
    np.testing.assert_array_equal(scratch.array, values)
    assert list(tmp_path.iterdir()) == []  # the file has no name
    assert scratch.array.strides == (4 * 60, 4, 4 * 5, 4 * 20)  # as in NIfTI


@pytest.mark.parametrize("large", [0, 2**30])
def test_one_channel_is_filled(large, tmp_path):
    scratch = Scratch((2, 5, 4, 3), tmp_path, large=large)
    scratch.fill(1, 0.5)
    assert (scratch.array[1] == 0.5).all()
    assert not scratch.array[0].any()


def test_the_array_keeps_its_file():
    array = Scratch((1, 3, 3, 3), large=0).array
    array[:] = 7
    assert (array == 7).all()


def test_no_folder_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(FormatError, match=r"cannot keep .* No such file"):
        Scratch((1, 2, 2, 2), tmp_path / "none", large=0)
