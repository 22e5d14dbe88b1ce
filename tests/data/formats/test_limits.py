"""Headers that lie, files that are none, and the limits that can be raised."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from attunet.data.formats import SUFFIXES, limits, read_volume
from attunet.data.formats.limits import MAX_DEFLATE_RATIO, check_size, fill, max_voxels
from attunet.errors import ConfigError, FormatError


def test_the_bytes_of_a_plausible_header_are_returned(tmp_path):
    assert check_size(tmp_path, (3, 4), 2, stored=24) == 24
    assert check_size(tmp_path, (100, 100), 2, stored=20, ratio=MAX_DEFLATE_RATIO) == 20000


@pytest.mark.parametrize("shape", [(), (0, 4), (-1, -4), (4, -(10**400))])
def test_axes_must_be_positive(shape, tmp_path):
    with pytest.raises(FormatError, match="no voxels"):
        check_size(tmp_path, shape, 1, stored=100)


@pytest.mark.parametrize(("shape", "ratio"), [((101,), 1), ((10**5000, 2), 1), ((101_000,), 1000), ((10**5000,), 1000)])
def test_a_header_that_its_file_cannot_bear_out_is_refused(shape, ratio, tmp_path):
    with pytest.raises(FormatError, match="truncated"):
        check_size(tmp_path, shape, 1, stored=100, ratio=ratio)


def test_the_limit_on_voxels_says_how_to_raise_it(tmp_path, monkeypatch):
    shape = (2**16, 2**16, 2)
    with pytest.raises(FormatError, match="limit for compressed") as caught:
        check_size(tmp_path, shape, 1, stored=2**30, ratio=1100)
    variable, value = caught.value.hint.split()[-1].split("=")
    monkeypatch.setenv(variable, value)
    assert max_voxels() == 2**33
    assert check_size(tmp_path, (2**16, 2**15), 1, stored=2**30, ratio=1100) == 2**31
    assert check_size(tmp_path, shape, 1, stored=2**34) == 2**33  # stored as they are: the file is as large itself
    monkeypatch.setenv(variable, "many")
    with pytest.raises(ConfigError, match="many"):
        max_voxels()


def test_a_ratio_that_no_image_reaches_is_refused_unless_the_limit_is_set(tmp_path, monkeypatch):
    shape, unbounded = (2**14, 2**14), float("inf")
    with pytest.raises(FormatError, match="in one byte") as caught:
        check_size(tmp_path, shape, 1, stored=1000, ratio=unbounded)
    assert check_size(tmp_path, (2**13, 2**13), 1, stored=1000, ratio=unbounded) == 2**26  # little is always taken
    assert check_size(tmp_path, shape, 1, stored=2**20, ratio=unbounded) == 2**28
    monkeypatch.setenv(*caught.value.hint.split()[-1].split("="))
    assert check_size(tmp_path, shape, 1, stored=1000, ratio=unbounded) == 2**28


def test_more_than_the_memory_of_the_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTUNET_MAX_VOXELS", str(10**17))
    with pytest.raises(FormatError, match="GB of memory"):
        check_size(tmp_path, (10**16,), 8, stored=10**15, ratio=1100)


def test_arrays_are_filled_in_their_own_order_and_the_rest_is_read(tmp_path):
    stream = io.BytesIO(bytes(range(30)))
    array = np.empty((2, 3), np.uint8, order="F")
    fill(array, stream, tmp_path, skip=4)
    assert array.tolist() == [[4, 6, 8], [5, 7, 9]]
    assert not stream.read()
    with pytest.raises(FormatError, match="truncated"):
        fill(array, io.BytesIO(bytes(5)), tmp_path)


def test_a_stream_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, into):
            into[:] = bytes(len(into))
            return len(into)

    monkeypatch.setattr(limits, "LONGEST_REST", 2**22)
    array = np.empty((2, 3), np.uint8)
    with pytest.raises(FormatError, match="goes on"):
        fill(array, io.BufferedReader(Endless()), tmp_path)
    with pytest.raises(FormatError, match="before its voxels"):
        fill(array, io.BufferedReader(Endless()), tmp_path, skip=2**40)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_reader_waits_for_a_pipe(suffix, tmp_path):
    os.mkfifo(tmp_path / f"x{suffix}")
    with pytest.raises(FormatError):
        read_volume(tmp_path / f"x{suffix}")


def test_a_name_that_is_too_long_is_one_error(tmp_path):
    with pytest.raises(FormatError, match="File name too long"):
        read_volume(tmp_path / f"{'x' * 5000}.nii")
