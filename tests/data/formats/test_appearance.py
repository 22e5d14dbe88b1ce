"""Orientation, palettes and transparency: used or left out by what the file says, and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from attunet.data.formats import check_header, read_label, read_volume
from attunet.errors import LabelError

GREY = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
INDEXES = np.random.default_rng(1).integers(0, 5, (7, 9), dtype=np.uint8)
COLOURS = np.random.default_rng(2).integers(0, 256, (5, 3), dtype=np.uint8)


def kinds(path: Path, *, label: bool = False) -> list[str]:
    return [told.kind for told in check_header(path, label=label)]


def with_palette(path: Path, indexes: np.ndarray, palette: np.ndarray, **how: object) -> Path:
    picture = Image.fromarray(indexes, mode="P")
    picture.putpalette(palette.astype(np.uint8).ravel().tolist())
    picture.save(path, **how)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_image_and_mask_are_read_as_they_are_shown(suffix, orientation, tmp_path):
    path = tmp_path / f"x{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    if suffix == ".tif":
        tifffile.imwrite(path, GREY, photometric="minisblack", extratags=[(274, 3, 1, orientation, True)])
    else:
        Image.fromarray(GREY).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    Image.fromarray(GREY).save(tmp_path / "reference.png", exif=exif)
    with Image.open(tmp_path / "reference.png") as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_volume(path).array[0, ..., 0], shown)
    np.testing.assert_array_equal(read_label(path).array[0, ..., 0], shown)
    for label in (False, True):
        assert kinds(path, label=label) == ([] if orientation == 1 else ["orientation tag"])


def test_a_photograph_is_turned_upside_up(tmp_path):
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "x.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "x.jpg") as picture:
        stored = np.asarray(picture)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.jpg").array[..., 0], stored[::-1, ::-1].transpose(2, 0, 1))
    assert "180 degrees" in check_header(tmp_path / "x.jpg")[0].message


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_an_image_is_the_colours_of_its_palette(suffix, tmp_path):
    path = with_palette(tmp_path / f"x{suffix}", INDEXES, COLOURS)
    np.testing.assert_array_equal(read_volume(path).array[..., 0], COLOURS[INDEXES].transpose(2, 0, 1))
    assert kinds(path) == []


@pytest.mark.parametrize(("scale", "dtype"), [(257, np.uint8), (256, np.uint8), (1, np.uint8), (77, np.uint16)])
def test_a_palette_of_sixteen_bits_keeps_its_colours(scale, dtype, tmp_path):
    stored = np.zeros((3, 256), np.uint16)
    stored[:, :5] = COLOURS.T.astype(np.uint16) * scale
    tifffile.imwrite(tmp_path / "x.tif", INDEXES, photometric="palette", colormap=stored)
    image = read_volume(tmp_path / "x.tif")
    expected = COLOURS if scale != 77 else COLOURS.astype(np.uint16) * 77
    assert image.array.dtype == dtype
    np.testing.assert_array_equal(image.array[..., 0], expected[INDEXES].transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_mask_with_a_palette_is_its_indexes_which_is_said(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    if suffix == ".tif":
        colormap = np.zeros((3, 256), np.uint16)
        colormap[:, :5] = COLOURS.T.astype(np.uint16) * 257
        tifffile.imwrite(path, INDEXES, photometric="palette", colormap=colormap)
    else:
        with_palette(path, INDEXES, COLOURS)
    np.testing.assert_array_equal(read_label(path).array[0, ..., 0], INDEXES)
    (told,) = check_header(path, label=True)
    assert told.kind == "palette mask"
    assert f"1 = {tuple(COLOURS[1].tolist())}" in told.message


def test_a_mask_whose_palette_is_its_greys_needs_no_word(tmp_path):
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    assert kinds(with_palette(tmp_path / "x.png", INDEXES, ramp), label=True) == []
    bright = np.minimum(ramp * 60, 255)
    path = with_palette(tmp_path / "bright.png", INDEXES, bright)
    np.testing.assert_array_equal(read_label(path).array[0, ..., 0], INDEXES)
    assert "1 = 60" in check_header(path, label=True)[0].message


@pytest.mark.parametrize("values", [[0, 255], [0, 1, 2], [0, 100, 200], [7]])
def test_a_grey_gif_is_its_greys_however_its_writer_numbered_them(values, tmp_path):
    array = np.random.default_rng(0).choice(values, (7, 9)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "x.gif")
    np.testing.assert_array_equal(read_label(tmp_path / "x.gif").array[0, ..., 0], array)
    image = read_volume(tmp_path / "x.gif")
    np.testing.assert_array_equal(image.array[..., 0], array[None])


def test_a_gif_mask_in_colours_is_refused(tmp_path):
    path = with_palette(tmp_path / "x.gif", INDEXES, COLOURS)
    with pytest.raises(LabelError, match="GIF format numbers anew") as caught:
        read_label(path)
    assert "PNG" in caught.value.hint


def test_a_mask_drawn_in_its_transparency_only_is_refused(tmp_path):
    mask = np.where(GREY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([np.zeros((7, 9, 3), np.uint8), mask])).save(tmp_path / "alpha.png")
    with pytest.raises(LabelError, match="only in its alpha channel"):
        read_label(tmp_path / "alpha.png")
    Image.fromarray(np.dstack([mask] * 4)).save(tmp_path / "both.png")
    np.testing.assert_array_equal(read_label(tmp_path / "both.png").array[0, ..., 0], mask)
    assert kinds(tmp_path / "both.png", label=True) == ["transparency"]


def test_transparent_entries_of_a_palette_are_said_and_no_channel(tmp_path):
    path = with_palette(tmp_path / "x.png", INDEXES, COLOURS, transparency=bytes([0, 255, 255, 255, 255]))
    assert read_volume(path).channels == 3
    assert kinds(path) == ["transparency"]
