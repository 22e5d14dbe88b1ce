"""Mosaics of Siemens."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from dicom_series import make_series, sample, save_series
from nibabel.nicom import csareader

from attunet.data.formats.dicom import find_series, read_series

COUNT, ACROSS = 7, 3


def csa(count, normal):
    """A header in Siemens' format SV10 with the two elements that place the slices."""

    def element(name, kind, values):
        items = b""
        for value in values:
            text = str(value).encode().ljust(12, b"\0")
            items += struct.pack("<4i", len(text), len(text), 77, len(text)) + text
        return struct.pack("<64si4siii", name, len(values), kind, 0, len(values), 77) + items

    elements = element(b"NumberOfImagesInMosaic", b"US", [count]) + element(b"SliceNormalVector", b"FD", normal)
    return b"SV10" + b"\4\3\2\1" + struct.pack("<II", 2, 77) + elements


@pytest.fixture
def mosaic():
    """A mosaic of seven tiles of (columns, rows) = (6, 5), and the array (I, J, K) of its slices."""
    array = sample((6, 5, COUNT))
    image = np.zeros((6 * ACROSS, 5 * ACROSS), np.int16)
    for index in range(COUNT):
        row, column = divmod(index, ACROSS)
        image[6 * column : 6 * column + 6, 5 * row : 5 * row + 5] = array[:, :, index]
    affine = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 60], [0, 0, 4.0, -20], [0, 0, 0, 1]])
    (ds,) = make_series(image[:, :, None], affine, modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    ds.SpacingBetweenSlices = 4.0
    block = ds.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(COUNT, [0.0, 0.0, 1.0]))
    assert csareader.read(ds[0x00291010].value)["tags"]["NumberOfImagesInMosaic"]["items"] == [COUNT]
    return ds, array, affine


def test_tiles_are_slices_at_their_places(mosaic, tmp_path):
    ds, array, affine = mosaic
    (found,) = find_series(save_series([ds], tmp_path)).series
    np.testing.assert_array_equal(read_series(found).array[0], array)
    expected = affine.copy()
    expected[:3, 3] += affine[:3, 0] * 6 + affine[:3, 1] * 5  # the mosaic is centred on the first slice
    np.testing.assert_allclose(found.affine, expected, atol=1e-6)


def test_reading_one_says_nothing(mosaic, tmp_path):
    save_series([mosaic[0]], tmp_path)
    imports = "from pathlib import Path; from attunet.data.formats.dicom import find_series"
    code = f"{imports}; find_series(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_without_the_private_header_it_is_refused(mosaic, tmp_path):
    ds, _, _ = mosaic
    del ds[0x00291010]
    found = find_series(save_series([ds], tmp_path))
    assert "mosaic without the header of Siemens" in str(found.refused[0])


def test_mosaics_of_a_time_series_are_parts(mosaic, tmp_path):
    ds, array, _ = mosaic
    ds.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    ds.InstanceNumber, ds.SOPInstanceUID = 2, "2.25.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "2.25.2"
    ds.save_as(tmp_path / "2.dcm", enforce_file_format=True)
    assert [one.shape for one in find_series(tmp_path).series] == [array.shape] * 2
