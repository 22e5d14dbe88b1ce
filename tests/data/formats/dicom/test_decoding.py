"""Pixels of files that lie about them."""

import tracemalloc

import numpy as np
import pytest
from dicom_series import encode, make_enhanced, make_series, sample, save_series
from pydicom.encaps import encapsulate, generate_frames

from attunet.data.formats.dicom import find_series, read_series
from attunet.errors import FormatError


def reading(datasets, folder):
    (series,) = find_series(save_series(datasets, folder)).series
    return read_series(series)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "JPEG 2000", "RLE"])
@pytest.mark.parametrize(("rows", "columns"), [(60000, 60000), (65535, 1), (11, 12)])
def test_a_size_that_the_pixels_do_not_bear_out_is_refused(rows, columns, syntax, tmp_path):
    (ds,) = make_series(sample((12, 10, 1)))
    made = encode(ds, syntax)
    made.Rows, made.Columns = rows, columns
    with pytest.raises(FormatError, match=r"truncated|header says|cannot be decoded|more than|GB of memory|size"):
        reading([made], tmp_path)


def test_truncated_pixels_are_refused(tmp_path):
    save_series(make_series(sample()), tmp_path)
    file = tmp_path / "0003.dcm"
    file.write_bytes(file.read_bytes()[:-50])
    (series,) = find_series(tmp_path).series
    with pytest.raises(FormatError, match=r"0003\.dcm is truncated"):
        read_series(series)


def test_pixels_that_are_missing_are_refused(tmp_path):
    series = make_series(sample())
    del series[2].PixelData
    with pytest.raises(FormatError, match="no pixels"):
        reading(series, tmp_path)


def test_pieces_of_frames_are_told_apart_by_the_table(tmp_path):
    array = sample()
    ds = encode(make_enhanced(array), "JPEG-LS")
    frames = list(generate_frames(ds.PixelData, number_of_frames=6))
    ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=True)
    np.testing.assert_array_equal(reading([ds], tmp_path / "table").array[0], array)
    ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=False)
    with pytest.raises(FormatError, match="declares 6 frames and has 12 pieces"):
        reading([ds], tmp_path / "none")


@pytest.mark.parametrize("count", [0, 10**7])
def test_a_number_of_frames_that_is_not_there_is_refused(count, tmp_path):
    ds = make_enhanced(sample())
    ds.NumberOfFrames = count
    found = find_series(save_series([ds], tmp_path))
    assert not found.series
    assert found.refused


def test_a_series_takes_the_memory_of_its_volume_and_a_slice_for_each_thread(tmp_path):
    array = np.zeros((256, 256, 40), np.int16)
    (series,) = find_series(save_series(make_series(array, intercept=-1024), tmp_path)).series
    read_series(series)
    tracemalloc.start()
    volume = read_series(series)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    slices = 8 * 256 * 256 * 8  # threads, and a slice in 64 bits for each
    assert peak < volume.array.nbytes + slices + 2**20
