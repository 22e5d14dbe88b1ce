"""NumPy files: every shape that an image may have, and headers that are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.formats import read_volume, write_volume
from attunet.errors import FormatError


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (2, 4, 5, 6)])
def test_shapes_survive(shape, tmp_path):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.save(tmp_path / "x.npy", array)
    volume = read_volume(tmp_path / "x.npy")
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    write_volume(volume, tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), array)


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4, 5)])
def test_other_shapes_are_no_images(shape, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(FormatError, match="expected an array"):
        read_volume(tmp_path / "x.npy")


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="never unpickled"):
        read_volume(tmp_path / "x.npy")


@pytest.mark.parametrize(("old", "new"), [(b"}", b"("), (b"(4", b"(x"), (b"'shape'", b"'shope'"), (b"<i2", b"<z9")])
def test_a_damaged_header_is_reported(old, new, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 5), np.int16))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes().replace(old, new, 1))
    with pytest.raises(FormatError, match="cannot read"):
        read_volume(tmp_path / "x.npy")


def test_a_truncated_file_is_reported(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((40, 50), np.int16))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    with pytest.raises(FormatError, match="is truncated"):
        read_volume(tmp_path / "x.npy")
