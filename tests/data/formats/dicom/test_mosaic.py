"""Mosaics of Siemens."""

import subprocess
import sys

import numpy as np
import pytest
from dicom_series import make_mosaic, sample, save_series
from nibabel.nicom import csareader

from attunet.data.formats.dicom import find_series, read_series

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 60], [0, 0, 4.0, -20], [0, 0, 0, 1]])
"""Of the image that holds the tiles."""


@pytest.fixture
def mosaic():
    """A mosaic of seven tiles of (columns, rows) = (6, 5), and the array (I, J, K) of its slices."""
    array = sample((6, 5, 7))
    ds = make_mosaic(array, AFFINE)
    assert csareader.read(ds[0x00291010].value)["tags"]["NumberOfImagesInMosaic"]["items"] == [7]
    return ds, array


def test_tiles_are_slices_at_their_places(mosaic, tmp_path):
    ds, array = mosaic
    (found,) = find_series(save_series([ds], tmp_path)).series
    np.testing.assert_array_equal(read_series(found).array[0], array)
    expected = AFFINE.copy()
    expected[:3, 3] += AFFINE[:3, 0] * 6 + AFFINE[:3, 1] * 5  # the mosaic is centred on the first slice
    np.testing.assert_allclose(found.affine, expected, atol=1e-6)


def test_reading_one_says_nothing(mosaic, tmp_path):
    save_series([mosaic[0]], tmp_path)
    imports = "from pathlib import Path; from attunet.data.formats.dicom import find_series"
    code = f"{imports}; find_series(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_without_the_private_header_it_is_refused(mosaic, tmp_path):
    ds, _ = mosaic
    del ds[0x00291010]
    found = find_series(save_series([ds], tmp_path))
    assert "mosaic without the header of Siemens" in str(found.refused[0])


def test_mosaics_of_a_time_series_are_parts(mosaic, tmp_path):
    ds, array = mosaic
    ds.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    ds.InstanceNumber, ds.SOPInstanceUID = 2, "2.25.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "2.25.2"
    ds.save_as(tmp_path / "2.dcm", enforce_file_format=True)
    assert [one.shape for one in find_series(tmp_path).series] == [array.shape] * 2
