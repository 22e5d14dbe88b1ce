"""Lines, numbers, units and grids of text headers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats.text_headers import grid_volume, header_lines, integers, numbers, unit_warning, world_scales
from attunet.errors import FormatError, GeometryError

PATH = Path("x.mha")


def test_lines_end_with_the_file_and_are_bounded():
    assert list(header_lines(io.BytesIO(b"a = 1\r\n\n  b\n"), PATH)) == ["a = 1", "", "b"]
    for content in (b"x" * 100_000, b"\n" * 100_000, b"a\0b\n"):
        with pytest.raises(FormatError, match="is not text, or has no end"):
            list(header_lines(io.BytesIO(content), PATH))


def test_integers():
    assert integers("1 -2 +3", "sizes", PATH) == integers("1 -2 +3", "sizes", PATH, 3) == (1, -2, 3)
    for text in ("1 2", "1 2 x", "1 2 3.0", "1 2 " + "9" * 5000, "1 2 ²", "1 2 1_0", "1 2 +-3"):
        with pytest.raises(FormatError, match="sizes"):
            integers(text, "sizes", PATH, 3)


def test_numbers():
    assert numbers("1,-2.5 3e2", "origin", PATH, 3) == (1, -2.5, 300)
    for text in ("1 2", "1 2 x", "1 2 inf", "1 2 -1e999"):
        with pytest.raises(FormatError, match="origin"):
            numbers(text, "origin", PATH, 3)


def test_units_scale_the_axes_and_are_said():
    assert world_scales(["um", "mm", "", "x"], 4).tolist() == [0.001, 1, 1, 1]
    assert world_scales(["cm"], 2).tolist() == [10, 1]
    assert [problem.kind for problem in unit_warning(["um", "", "mm", "?", "x"], PATH)] == ["unit", "unit"]


def test_a_grid_in_lps_becomes_one_in_ras():
    volume = grid_volume(np.zeros((2, 3, 4), np.uint8), np.diag([2.0, 3.0]), np.array([1.0, 2.0]), PATH)
    assert volume.spatial_shape == (3, 4, 1)
    assert volume.affine.tolist() == [[-2, 0, 0, -1], [0, -3, 0, -2], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(GeometryError):
        grid_volume(np.zeros((1, 3, 4), np.uint8), np.zeros((2, 2)), np.zeros(2), PATH)
