"""MetaImage headers: read as ITK reads them, and refused when they are damaged."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from attunet.data.formats import check_header, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

HEADER = "NDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\n{}ElementDataFile = {}\n"
TURN = "0 1 0 -1 0 0 0 0 1"


def write(path, fields="", data="LOCAL", *, values=bytes(range(24))):
    path.write_bytes(HEADER.format(fields, data).encode() + values)
    return path


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "BinaryData: True\nElementSpacing: 5 3 4\n",
        "ElementSize = 2 3 4\n",
        "ElementSize = 2 2 2\nElementSpacing = 3 3 3\n",
        "ElementSpacing = -2 3 4\n",
        f"TransformMatrix = {TURN}\nPosition = 1 2 3\nAnatomicalOrientation = RAI\n",
        f"Rotation = {TURN}\nOrigin = 1 2 3\n",
        f"Orientation = {TURN}\nOffset = 1 2 3\nCenterOfRotation = 1 1 1\n",
        "Offset = 1 1 1\nPosition = 2 2 2\nOrigin = 3 3 3\n",
        "\nComment = anything at all\nelementspacing = 9 9 9\n",
        "HeaderSize = 4\n",
        "HeaderSize = -1\n",
        "CompressedData = False\nCompressedDataSize = 5\nBinaryDataByteOrderMSB = t\n",
    ],
)
def test_headers_mean_what_they_mean_to_itk(fields, tmp_path, by_itk):
    path = write(tmp_path / "x.mha", fields)
    array, affine = by_itk(path)
    found = read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, affine)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 2, 3, 4)])
@pytest.mark.parametrize("compress", [False, True])
def test_every_type_that_itk_writes(kind, shape, compress, tmp_path, by_itk):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    if len(shape) == 4:
        image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in array])
    else:
        image = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(tmp_path / "x.mha"), compress)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.mha").array, by_itk(tmp_path / "x.mha")[0])


def test_channels_and_big_endian_values(tmp_path, by_itk):
    fields = "ElementNumberOfChannels = 2\nElementByteOrderMSB = True\n"
    path = write(tmp_path / "x.mha", fields, values=bytes(range(96)))
    path.write_bytes(path.read_bytes().replace(b"MET_UCHAR", b"MET_SHORT_ARRAY"))
    np.testing.assert_array_equal(read_volume(path).array, by_itk(path)[0])
    assert read_volume(path).channels == 2


def test_units_are_converted_and_said(tmp_path):
    path = write(tmp_path / "x.mha", "DistanceUnits = um\nElementSpacing = 500 500 500\nOffset = 1000 0 0\n")
    assert read_volume(path).spacing == (0.5, 0.5, 0.5)
    assert read_volume(path).affine[0, 3] == -1
    assert "converted" in check_header(path)[0].message
    assert not check_header(write(tmp_path / "y.mha", "DistanceUnits = mm\n"))


def test_slices_in_files_beside_the_header(tmp_path):
    for k in range(2):
        (tmp_path / f"s_{k + 1:02d}.raw").write_bytes(bytes(range(12 * k, 12 * k + 12)))
    expected = np.arange(24).reshape(2, 3, 4).T[None]
    for data in ("s_%02d.raw 1 2 1", "s_%02d.raw", "LIST\ns_01.raw\ns_02.raw", "LIST 2D\ns_01.raw\n\ns_02.raw"):
        np.testing.assert_array_equal(read_volume(write(tmp_path / "x.mhd", data=data, values=b"")).array, expected)
    for data in ("s_%02d.raw 1 1 1", "s_%02d.raw 0 9", "LIST\ns_01.raw", "LIST 1\ns_01.raw\ns_02.raw", "%", ""):
        with pytest.raises(FormatError):
            read_volume(write(tmp_path / "x.mhd", data=data, values=b""))


def test_a_damaged_bit_never_goes_unnoticed(tmp_path):
    array = np.random.default_rng(0).normal(0, 100, (1, 20, 20, 20)).astype(np.int16)
    write_volume(Volume(array, np.eye(4)), tmp_path / "x.mha")
    whole, generator = (tmp_path / "x.mha").read_bytes(), np.random.default_rng(1)
    begin = whole.index(b"LOCAL\n") + 6
    for _ in range(50):
        content = bytearray(whole)
        content[generator.integers(begin, len(content))] ^= 1 << generator.integers(8)
        (tmp_path / "x.mha").write_bytes(content)
        with pytest.raises(FormatError):
            read_volume(tmp_path / "x.mha")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NDims = 3", "NDims = -1"),
        ("NDims = 3", "NDims = 1000000000"),
        ("NDims = 3", "NDims = three"),
        ("NDims = 3\n", ""),
        ("4 3 2", "4 3"),
        ("4 3 2", "-4 -3 2"),
        ("4 3 2", "400000 300000 200000"),
        ("4 3 2", "9" * 5000 + " 3 2"),
        ("MET_UCHAR", "MET_OTHER"),
        ("MET_UCHAR", ""),
        ("NDims", "x" * 70_000),
        ("NDims = 3", "no field"),
        ("NDims = 3", "ElementNumberOfChannels = 0\nNDims = 3"),
        ("NDims = 3", "HeaderSize = -2\nNDims = 3"),
        ("NDims = 3", "ElementSpacing = 1 1\nNDims = 3"),
        ("NDims = 3", "Offset = a b c\nNDims = 3"),
        ("NDims = 3", "Offset = inf 0 0\nNDims = 3"),
        ("NDims = 3", "BinaryData = False\nNDims = 3"),
        ("NDims = 3", "CompressedData = True\nNDims = 3"),
        ("LOCAL", "x" * 5000),
        ("LOCAL", "%" * 4000),
        ("ElementDataFile = LOCAL\n", ""),
    ],
)
def test_damaged_headers_are_refused(old, new, tmp_path):
    path = write(tmp_path / "x.mha")
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(FormatError):
        read_volume(path)


@pytest.mark.parametrize(
    "fields",
    ["ElementSpacing = 0 1 1\n", "ElementSpacing = nan 1 1\n", "TransformMatrix = 1 0 0 1 0 0 0 0 1\n"],
)
def test_a_grid_that_is_none_is_refused(fields, tmp_path):
    with pytest.raises(GeometryError):
        read_volume(write(tmp_path / "x.mha", fields))


def test_a_header_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = write(tmp_path / "x.mha", "CompressedData = True\n", values=zlib.compress(bytes(1000)))
    path.write_bytes(path.read_bytes().replace(b"4 3 2", b"300 300 300"))
    with pytest.raises(FormatError, match="declares 300 x 300 x 300"):
        read_volume(path)
