"""PNG, JPEG, BMP and TIFF."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from attunet.data.formats import check_header, read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError, LabelError

GREY = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def with_alpha(alpha: np.ndarray) -> np.ndarray:
    return np.dstack([RGB, alpha])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_grey_and_colour_are_read_rows_first(suffix, tmp_path):
    Image.fromarray(GREY).save(tmp_path / f"grey{suffix}")
    Image.fromarray(RGB).save(tmp_path / f"rgb{suffix}")
    grey, rgb = read_volume(tmp_path / f"grey{suffix}"), read_volume(tmp_path / f"rgb{suffix}")
    np.testing.assert_array_equal(grey.array, GREY[None, ..., None])
    np.testing.assert_array_equal(rgb.array, RGB.transpose(2, 0, 1)[..., None])
    np.testing.assert_array_equal(rgb.affine, np.eye(4))


def test_netpbm_is_read_whole_or_not_at_all(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.ppm")
    np.testing.assert_array_equal(read_volume(tmp_path / "rgb.ppm").array, RGB.transpose(2, 0, 1)[..., None])
    grey = GREY * np.uint16(250)
    (tmp_path / "grey.pgm").write_bytes(b"P5\n# 7 rows\n9 7\n65535\n" + grey.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "grey.pgm").array[0, ..., 0], grey)
    Image.fromarray(GREY).save(tmp_path / "mask.pgm")
    np.testing.assert_array_equal(read_label(tmp_path / "mask.pgm").array[0, ..., 0], GREY)


@pytest.mark.parametrize(
    "content", [b"P5 3 2 3\n\0\1\2\3\0\1", b"P4 8 1\n\x0f", b"P6 1 1 65535\n123456", b"P5 3 2 255\n\0"]
)
def test_netpbm_that_would_lose_values_is_refused(content, tmp_path):
    (tmp_path / "x.pgm").write_bytes(content)
    with pytest.raises(FormatError):
        read_label(tmp_path / "x.pgm")


def test_jpeg_is_read(tmp_path):
    Image.fromarray(np.full((7, 9, 3), 100, np.uint8)).save(tmp_path / "x.jpg")
    assert read_volume(tmp_path / "x.jpg").array.shape == (3, 7, 9, 1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_left_out_because_the_file_says_so_not_because_it_is_constant(suffix, tmp_path):
    how = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    for name, alpha in (("constant", np.full_like(GREY, 255)), ("varying", GREY)):
        path = tmp_path / f"{name}{suffix}"
        Image.fromarray(with_alpha(alpha)).save(path, **how)
        np.testing.assert_array_equal(read_volume(path).array[..., 0], RGB.transpose(2, 0, 1))
        assert [told.kind for told in check_header(path)] == (["transparency"] if name == "varying" else [])


def test_sixteen_bits_survive(tmp_path):
    array = GREY.astype(np.uint16) * 257
    for name in ("x.png", "x.tif"):
        write_volume(Volume.from_array(array), tmp_path / name)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array[0, ..., 0], array)


def test_a_palette_is_colours_in_an_image_and_indexes_in_a_mask(tmp_path):
    picture = Image.fromarray((GREY % 3).astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 250, 0])
    picture.save(tmp_path / "x.png")
    image = read_volume(tmp_path / "x.png")
    assert image.channels == 3
    np.testing.assert_array_equal(image.array[0, ..., 0] == 200, GREY % 3 == 1)
    np.testing.assert_array_equal(read_label(tmp_path / "x.png").array[0, ..., 0], GREY % 3)


def test_a_grey_mask_saved_as_colour_collapses(tmp_path):
    mask = np.where(GREY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([mask] * 3 + [np.full_like(mask, 255)])).save(tmp_path / "rgba.png")
    for name in ("rgb.png", "rgba.png"):
        np.testing.assert_array_equal(read_label(tmp_path / name).array[0, ..., 0], mask)
    Image.fromarray(RGB).save(tmp_path / "colours.png")
    with pytest.raises(LabelError, match="3 channels"):
        read_label(tmp_path / "colours.png")


def test_a_one_bit_mask_is_zero_and_one(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "x.png")
    label = read_label(tmp_path / "x.png")
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array[0, ..., 0], GREY > 100)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("pages", [1, 5])
def test_tiff_holds_any_volume(dtype, channels, pages, tmp_path):
    array = np.random.default_rng(0).integers(0, 200, (channels, 7, 9, pages)).astype(dtype)
    write_volume(Volume(array, np.eye(4)), tmp_path / "x.tif")
    back = read_volume(tmp_path / "x.tif")
    assert back.array.dtype == dtype
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_the_usual_compressions_are_read(compression, tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:], compression=compression)
    expected = np.stack([GREY, 255 - GREY], axis=-1)[None]
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, expected)


def test_pages_of_differing_shapes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(GREY)
        file.write(GREY[:4])
    with pytest.raises(FormatError, match="differing shapes"):
        read_volume(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp", ".jp2", ".pgm"])
def test_damaged_and_truncated_files_are_refused(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"this is no picture at all")
    with pytest.raises(FormatError, match="cannot read"):
        read_volume(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for size in (*(len(whole) * share // 20 for share in range(1, 20)), len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_volume(path)


def test_what_png_cannot_hold_is_refused(tmp_path):
    for array in (np.ones((2, 3, 4), np.uint8), np.full((2, 3), 0.5, np.float32), np.full((2, 3), 70000)):
        with pytest.raises(FormatError):
            write_volume(Volume.from_array(array), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
