"""NRRD headers: read as ITK reads them where it can, and refused when they are damaged."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from attunet.data.formats import check_header, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

HEADER = "NRRD0004\n# a comment\ntype: uchar\ndimension: {}\nsizes: {}\nencoding: {}\n{}\n"
GRID = "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)\n"


def write(path, fields="", sizes="4 3 2", *, values=bytes(range(24)), encoding="raw"):
    path.write_bytes(HEADER.format(len(sizes.split()), sizes, encoding, fields).encode() + values)
    return path


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("", "4 3 2"),
        ("SPACINGS: 2 3 4\nkey:=value: of anything\n", "4 3 2"),
        ("spacings: 2 3 4\naxis mins: 5 6 7\n", "4 3 2"),
        ("spacings: 2 3 4\naxismins: 5 6 7\ncenterings: cell cell cell\n", "4 3 2"),
        ("space: left-posterior-superior\n" + GRID, "4 3 2"),
        ("space: RAS\n" + GRID, "4 3 2"),
        ("space: left-anterior-superior\n" + GRID, "4 3 2"),
        ("space: scanner-xyz\n" + GRID, "4 3 2"),
        ("space dimension: 3\nmeasurement frame: (1,0,0) (0,1,0) (0,0,1)\n" + GRID, "4 3 2"),
        ("space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n", "4 3 2"),
        ("space: LPS\nspace directions: (0,-2,0.5) (0,3,0) (1,0,4)\nspace origin: (-1,0.5,3)\n", "4 3 2"),
        ("space dimension: 2\nspace directions: (2,1) (0,3)\nspace origin: (1,2)\n", "6 4"),
        ("kinds: vector domain domain domain\nspace: LPS\n" + GRID.replace("(2", "none (2", 1), "2 4 3 1"),
        ("kinds: domain list domain domain\nspace: LPS\n" + GRID.replace("(0", "none (0", 1), "4 2 3 1"),
        ("kinds: domain domain domain list\nspace: LPS\n" + GRID.replace("4)", "4) none", 1), "4 3 1 2"),
        ("kinds: RGB-color domain domain\n", "3 4 2"),
        ("spacings: 1 2 3 nan\n", "4 3 1 2"),
        ('byte skip: -1\nold min: 0\noldmax: 3\nlabels: "a b" "" "z"\n', "4 3 2"),
    ],
)
def test_headers_mean_what_they_mean_to_itk(fields, sizes, tmp_path, by_itk):
    path = write(tmp_path / "x.nrrd", fields, sizes)
    array, affine = by_itk(path)
    found = read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, affine)


@pytest.mark.parametrize("direction", ["(2,0,0) (0,3,0) (0,0,4) none", "none (2,0,0) (0,3,0) (0,0,4)"])
@pytest.mark.parametrize("kinds", ["", "kinds: {} domain domain {}\n"])
def test_an_axis_without_direction_is_the_channels_where_itk_gives_up(direction, kinds, tmp_path):
    first = direction.startswith("none")
    kinds = kinds.format(*(("time", "domain") if first else ("domain", "time")))
    fields = f"space: LPS\nspace directions: {direction}\nspace origin: (1,2,3)\n{kinds}"
    volume = read_volume(write(tmp_path / "x.nrrd", fields, "2 4 3 1" if first else "4 3 1 2"))
    assert (volume.channels, volume.spatial_shape, volume.spacing) == (2, (4, 3, 1), (2, 3, 4))


def test_spacings_that_only_the_ends_of_the_axes_tell(tmp_path):
    ends = "axis mins: 0 0 0\naxis maxs: 8 9 10\n"
    assert read_volume(write(tmp_path / "cell.nrrd", ends)).spacing == (2, 3, 5)
    nodes = "centerings: node node node\n"
    assert read_volume(write(tmp_path / "node.nrrd", ends + nodes)).spacing == pytest.approx((8 / 3, 4.5, 10))


def test_units_are_converted_and_said(tmp_path):
    path = write(tmp_path / "x.nrrd", 'space: LPS\nspace units: "um" "um" "um"\n' + GRID)
    assert read_volume(path).spacing == pytest.approx((0.002, 0.003, 0.004))
    assert "converted" in check_header(path)[0].message
    straight = write(tmp_path / "y.nrrd", 'spacings: 1 2 3\nunits: "mm" "" "furlong"\n')
    assert read_volume(straight).spacing == (1, 2, 3)
    assert "furlong" in check_header(straight)[0].message


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 2, 3, 4)])
@pytest.mark.parametrize("compress", [False, True])
def test_every_type_that_itk_writes(kind, shape, compress, tmp_path, by_itk):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    if len(shape) == 4:
        image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in array])
    else:
        image = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"), compress)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nrrd").array, by_itk(tmp_path / "x.nrrd")[0])


def test_every_encoding(tmp_path):
    values = np.arange(24, dtype=">i2")
    stored = {
        "gzip": gzip.compress(values.tobytes()),
        "bz2": bz2.compress(values.tobytes()),
        "ascii": " ".join(map(str, values)).encode(),
    }
    for encoding, content in stored.items():
        path = write(tmp_path / "x.nrrd", "endian: big\n", values=content, encoding=encoding)
        path.write_bytes(path.read_bytes().replace(b"uchar", b"signed short"))
        np.testing.assert_array_equal(read_volume(path).array[0].ravel(order="F"), values)
    with pytest.raises(FormatError, match="expected a number type"):
        read_volume(write(tmp_path / "x.nrrd", encoding="hex"))


def test_slices_in_files_beside_the_header(tmp_path):
    for k in range(2):
        (tmp_path / f"s_{k + 1:02d}.raw").write_bytes(bytes(range(12 * k, 12 * k + 12)))
    (tmp_path / "all.raw").write_bytes(bytes(range(24)))
    for data in ("LIST\ns_01.raw\ns_02.raw\n", "LIST 3\ns_01.raw\ns_02.raw", "s_%02d.raw 1 2 1", "all.raw"):
        path = write(tmp_path / "x.nhdr", f"data file: {data}", values=b"")
        np.testing.assert_array_equal(read_volume(path).array[0].ravel(order="F"), np.arange(24))
    for data in ("LIST\ns_01.raw", "LIST 1\ns_01.raw\ns_02.raw", "s_%02d.raw 1 9 1", "s_%02d.raw 1 2 0", "s_%s 1 2 1"):
        with pytest.raises(FormatError):
            read_volume(write(tmp_path / "x.nhdr", f"data file: {data}", values=b""))


def test_a_damaged_bit_never_goes_unnoticed(tmp_path):
    array = np.random.default_rng(0).normal(0, 100, (1, 20, 20, 20)).astype(np.int16)
    write_volume(Volume(array, np.eye(4)), tmp_path / "x.nrrd")
    whole, generator = (tmp_path / "x.nrrd").read_bytes(), np.random.default_rng(1)
    begin = whole.index(b"\n\n") + 12  # the header of gzip holds a time that nothing depends on
    for _ in range(50):
        content = bytearray(whole)
        content[generator.integers(begin, len(content))] ^= 1 << generator.integers(8)
        (tmp_path / "x.nrrd").write_bytes(content)
        with pytest.raises(FormatError):
            read_volume(tmp_path / "x.nrrd")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NRRD0004", "NRRD0009"),
        ("NRRD0004", "NRRD"),
        ("# a comment", "x" * 1000),
        ("# a comment", "space: " + "x" * 3000),
        ("# a comment", "type: uchar"),
        ("# a comment", "spaceing: 1 1 1"),
        ("# a comment", "kinds: domain"),
        ("# a comment", "kinds: list vector domain"),
        ("# a comment", "kinds: complex domain domain"),
        ("# a comment", "spacings: 1 1"),
        ("# a comment", "spacings: 1 1 x"),
        ("# a comment", "axis mins: inf 1 1"),
        ("# a comment", "space: nowhere\n" + GRID.strip()),
        ("# a comment", "space: RAS\nspacings: 1 1 1"),
        ("# a comment", "space: LPS\nspace directions: (1,0) (0,1,0) (0,0,1)"),
        ("# a comment", "space: LPS\nspace directions: (1,0,0) (0,1,0)"),
        ("# a comment", "space dimension: 99\nspace directions: (1,0,0) (0,1,0) (0,0,1)"),
        ("# a comment", "byte skip: -2"),
        ("# a comment", "byte skip: 9000000000000000000"),
        ("# a comment", "line skip: 2000000000"),
        ("type: uchar", "type: block"),
        ("type: uchar", "type: short"),
        ("dimension: 3", "dimension: -1"),
        ("dimension: 3", "dimension: 1000000"),
        ("dimension: 3", ""),
        ("4 3 2", "1500 1500 1400"),
        ("4 3 2", "0 3 2"),
        ("4 3 2", "-4 -3 2"),
        ("raw", "gzip"),
        ("raw", "bzip2"),
        ("raw", "ascii"),
        ("\n\n", "\n"),
    ],
)
def test_damaged_headers_are_refused(old, new, tmp_path):
    path = write(tmp_path / "x.nrrd")
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(FormatError):
        read_volume(path)


@pytest.mark.parametrize("fields", ["spacings: 0 1 1\n", "space: LPS\n" + GRID.replace("3", "0")])
def test_a_grid_that_is_none_is_refused(fields, tmp_path):
    with pytest.raises(GeometryError):
        read_volume(write(tmp_path / "x.nrrd", fields))
