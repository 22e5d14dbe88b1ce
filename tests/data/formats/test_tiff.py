"""TIFF: every kind of value as stored, whole stacks only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from attunet.data.formats import check_header, read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (6, 24, 31)).astype(np.uint16)  # pages, rows, columns
PAGES_LAST = np.moveaxis(STACK, 0, -1)[None]


def kinds(path: Path, *, label: bool = False) -> list[str]:
    return [told.kind for told in check_header(path, label=label)]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64]
)
def test_every_number_type_in_both_byte_orders(dtype, byteorder, tmp_path):
    array = RANDOM.integers(0, 100, (7, 9)).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, byteorder=byteorder, photometric="minisblack")
    image = read_volume(tmp_path / "x.tif")
    np.testing.assert_array_equal(image.array[0, ..., 0], array)
    assert image.array.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    assert not image.calibrated


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 4, 5, 7])
def test_channels_are_kept_in_either_order_even_if_the_last_is_constant(channels, planar, tmp_path):
    array = RANDOM.integers(0, 200, (channels, 7, 9)).astype(np.uint8)
    array[-1] = 255
    stored = np.moveaxis(array, 0, -1) if planar == "contig" else array
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="minisblack", planarconfig=planar, extrasamples=[0] * (channels - 1)
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[..., 0], array)


def test_samples_called_alpha_are_left_out_wherever_they_stand(tmp_path):
    array = RANDOM.integers(0, 200, (7, 9, 5)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", extrasamples=[2, 0])
    np.testing.assert_array_equal(
        read_volume(tmp_path / "x.tif").array[..., 0], np.moveaxis(array[..., [0, 1, 2, 4]], -1, 0)
    )
    assert kinds(tmp_path / "x.tif") == ["extra samples", "transparency"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_as_zero_is_turned_round_in_images_only(dtype, tmp_path):
    array = RANDOM.integers(0, 200, (7, 9)).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0, ..., 0], np.iinfo(dtype).max - array)
    np.testing.assert_array_equal(read_label(tmp_path / "x.tif").array[0, ..., 0], array)
    assert kinds(tmp_path / "x.tif") == kinds(tmp_path / "x.tif", label=True) == ["inverted"]


def test_a_mask_of_one_bit_is_1_where_it_is_shown_as_white(tmp_path):
    shown = RANDOM.integers(0, 2, (7, 9)).astype(bool)
    tifffile.imwrite(tmp_path / "white.tif", ~shown, photometric="miniswhite", software="scanner")
    tifffile.imwrite(tmp_path / "black.tif", shown, photometric="minisblack")
    for name in ("white", "black"):
        np.testing.assert_array_equal(read_label(tmp_path / f"{name}.tif").array[0, ..., 0], shown)
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.tif").array[0, ..., 0], shown)


def test_true_is_1_in_masks_of_one_bit_by_tifffile_which_calls_it_black(tmp_path):
    mask = RANDOM.integers(0, 2, (7, 9)).astype(bool)
    tifffile.imwrite(tmp_path / "x.tif", mask)
    np.testing.assert_array_equal(read_label(tmp_path / "x.tif").array[0, ..., 0], mask)


@pytest.mark.parametrize("photometric", ["separated", "cielab"])
def test_other_colours_are_read_as_stored_and_said(photometric, tmp_path):
    channels = {"separated": 4, "cielab": 3}[photometric]
    array = RANDOM.integers(0, 200, (7, 9, channels)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric=photometric)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[..., 0], np.moveaxis(array, -1, 0))
    (told,) = check_header(tmp_path / "x.tif")
    assert photometric in told.message.lower()


def write_with_tifffile(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack")


def write_compressed(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib")


def write_tiled(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack", tile=(16, 16), bigtiff=True)


def write_with_imagej(path: Path) -> None:
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"})


def write_with_ome(path: Path) -> None:
    tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "ZYX"})


def write_with_pillow(path: Path) -> None:
    pages = [Image.fromarray(page) for page in STACK]
    pages[0].save(path, save_all=True, append_images=pages[1:])


WRITERS = [write_with_tifffile, write_compressed, write_tiled, write_with_imagej, write_with_ome, write_with_pillow]


@pytest.mark.parametrize("write", WRITERS)
def test_a_stack_is_read_whole_or_refused(write, tmp_path):
    path = tmp_path / "x.tif"
    write(path)
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_volume(path).array, PAGES_LAST)
    for share in range(1, 40):
        path.write_bytes(whole[: len(whole) * share // 40])
        with pytest.raises(FormatError):
            read_volume(path)


def test_pages_that_metadata_declare_must_be_there(tmp_path):
    declared = '{"shape": [6, 24, 31]}'
    tifffile.imwrite(tmp_path / "shaped.tif", STACK[0], description=declared, metadata=None)
    imagej = "ImageJ=1.53t\nimages=6\nslices=6\n"
    tifffile.imwrite(tmp_path / "imagej.tif", STACK[0], description=imagej, metadata=None)
    write_with_ome(tmp_path / "ome.tif")
    xml = tifffile.tiffcomment(tmp_path / "ome.tif")
    tifffile.imwrite(tmp_path / "ome.tif", STACK[:3], description=xml, metadata=None)
    for name in ("shaped", "imagej", "ome"):
        with pytest.raises(FormatError):
            read_volume(tmp_path / f"{name}.tif")


def test_a_part_of_a_data_set_in_several_files_does_not_read_the_others(tmp_path):
    (tmp_path / "secret").mkdir()
    write_with_ome(tmp_path / "secret" / "other.ome.tif")
    tifffile.imwrite(tmp_path / "x.ome.tif", STACK[:1], ome=True, metadata={"axes": "ZYX"})
    xml = tifffile.tiffcomment(tmp_path / "x.ome.tif").replace('SizeZ="1"', 'SizeZ="6"')
    uuid = '<UUID FileName="secret/other.ome.tif">urn:uuid:00000000-0000-0000-0000-000000000000</UUID>'
    planes = "".join(f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1">{uuid}</TiffData>' for z in range(6))
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    tifffile.tiffcomment(tmp_path / "x.ome.tif", (xml[:start] + planes + xml[end:]).encode())
    with pytest.raises(FormatError, match="metadata declare"):
        read_volume(tmp_path / "x.ome.tif")


def test_reduced_images_are_left_out_and_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(STACK[0], photometric="minisblack")
        file.write(STACK[0, ::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0, ..., 0], STACK[0])
    assert "several pictures" in kinds(tmp_path / "x.tif")


def test_time_points_are_slices_and_said(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, PAGES_LAST)
    assert "time points" in kinds(tmp_path / "x.tif")


@pytest.mark.parametrize(("axes", "channels"), [("ZCYX", 2), ("CZYX", 2)])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_and_slices_of_microscopes(kind, axes, channels, tmp_path):
    array = RANDOM.integers(0, 60000, (channels, 3, 24, 31)).astype(np.uint16)  # C, Z, Y, X
    stored = array if axes == "CZYX" and kind == "ome" else array.transpose(1, 0, 2, 3)
    how = {kind: True, "metadata": {"axes": axes if kind == "ome" else "ZCYX"}}
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="minisblack", **how)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, array.transpose(0, 2, 3, 1))


def test_a_written_spacing_is_read_again(tmp_path):
    volume = Volume(PAGES_LAST, np.diag([0.25e-3, 0.5e-3, 2e-3, 1]), "µm")
    write_volume(volume, tmp_path / "x.ome.tif")
    back = read_volume(tmp_path / "x.ome.tif")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, rtol=1e-6)
    assert back.unit == "µm"


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ({"photometric": "minisblack"}, {"photometric": "miniswhite"}, "colours"),
        ({"extratags": [(274, 3, 1, 1, True)]}, {"extratags": [(274, 3, 1, 6, True)]}, "orientation"),
        (
            {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
            {"photometric": "palette", "colormap": np.ones((3, 256), np.uint16)},
            "palettes",
        ),
    ],
)
def test_pages_that_mean_different_things_are_refused(one, other, name, tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for how in (one, other):
            file.write(STACK[0].astype(np.uint8), metadata=None, **{"photometric": "minisblack", **how})
    with pytest.raises(FormatError, match=f"pages of differing {name}"):
        read_volume(tmp_path / "x.tif")


def test_masks_beside_an_image_are_left_out_and_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(STACK[0], photometric="minisblack")
        file.write(STACK[0] > 9000, photometric="minisblack", subfiletype=4)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0, ..., 0], STACK[0])
    assert "several pictures" in kinds(tmp_path / "x.tif")


def test_a_palette_of_two_colours(tmp_path):
    shown = STACK[0] > 30000
    palette = Image.fromarray(shown.astype(np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    tags = [(320, 3, 6, (10 * 257, 200 * 257, 20 * 257, 100 * 257, 30 * 257, 0), True)]
    tifffile.imwrite(tmp_path / "x.tif", shown, photometric=3, extratags=tags, metadata=None)
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[..., 0], expected)
    np.testing.assert_array_equal(read_label(tmp_path / "x.tif").array[0, ..., 0], shown)


def test_white_as_zero_means_nothing_for_floats(tmp_path):
    array = RANDOM.random((7, 9)).astype(np.float32)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0, ..., 0], array)
    assert kinds(tmp_path / "x.tif") == []
