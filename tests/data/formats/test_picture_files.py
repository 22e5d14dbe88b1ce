"""Files of pictures: one whole picture each; what shrinks them with loss is said of masks."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from attunet.data.formats import check_header, read_label, read_volume
from attunet.errors import FormatError

GREY = np.random.default_rng(0).integers(0, 256, (16, 24), dtype=np.uint8)


@pytest.fixture
def frames() -> list[Image.Image]:
    return [Image.fromarray(GREY), Image.fromarray(255 - GREY), Image.fromarray(GREY // 2)]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_refused_never_read_as_its_first_picture(suffix, frames, tmp_path):
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(FormatError, match="contains 3 pictures") as caught:
        read_volume(tmp_path / f"x{suffix}")
    assert "TIFF" in caught.value.hint
    with pytest.raises(FormatError, match="contains 3 pictures"):
        read_label(tmp_path / f"x{suffix}")


def test_pages_of_a_tiff_file_are_slices(frames, tmp_path):
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0], np.dstack([GREY, 255 - GREY, GREY // 2]))


def test_previews_that_cameras_append_are_said(frames, tmp_path):
    frames[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert read_volume(tmp_path / "x.jpg").array.shape == (1, 16, 24, 1)
    (told,) = check_header(tmp_path / "x.jpg")
    assert "contains 3 pictures, the first of which is read" in told.message


def test_a_file_of_another_format_than_its_suffix_is_said(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.png", format="JPEG")
    assert [told.kind for told in check_header(tmp_path / "x.png")] == ["file format"]
    assert [told.kind for told in check_header(tmp_path / "x.png", label=True)] == ["file format", "lossy label"]
    tifffile.imwrite(tmp_path / "tiff.png", np.stack([GREY] * 3), photometric="minisblack")
    assert read_volume(tmp_path / "tiff.png").array.shape == (1, 16, 24, 3)


@pytest.mark.parametrize(("lossless", "kinds"), [(True, []), (False, ["lossy label"])])
def test_a_webp_mask_is_reported_only_where_it_is_lossy(lossless, kinds, tmp_path):
    mask = np.where(GREY > 100, 1, 0).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "x.webp", lossless=lossless)
    assert [told.kind for told in check_header(tmp_path / "x.webp", label=True)] == kinds
    if lossless:
        np.testing.assert_array_equal(read_label(tmp_path / "x.webp").array[0, ..., 0], mask)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_photographs_in_other_colours_are_rgb(mode, tmp_path):
    rgb = Image.fromarray(np.dstack([GREY // 2, GREY // 3, 200 - GREY // 2]))
    rgb.convert(mode).save(tmp_path / "x.jpg", quality=100, subsampling=0)
    with Image.open(tmp_path / "x.jpg") as picture:
        expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.jpg").array[..., 0], np.moveaxis(expected, -1, 0))
    assert [told.kind for told in check_header(tmp_path / "x.jpg")] == (["colours"] if mode == "CMYK" else [])


def test_bytes_after_the_end_of_a_gif_do_no_harm_but_a_missing_end_does(frames, tmp_path):
    frames[0].save(tmp_path / "x.gif")
    whole = (tmp_path / "x.gif").read_bytes()
    (tmp_path / "x.gif").write_bytes(whole + b"trailing")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.gif").array[0, ..., 0], GREY)
    (tmp_path / "x.gif").write_bytes(whole[:-1])
    with pytest.raises(FormatError, match="truncated"):
        read_volume(tmp_path / "x.gif")
