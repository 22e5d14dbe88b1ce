"""Pixels of TIFF files that tifffile cannot decode: exactly as stored by Pillow, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from attunet.data.formats import read_label, read_volume
from attunet.errors import FormatError

RANDOM = np.random.default_rng(0)
WITHOUT_CODEC = "<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"


def compressed(path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch, **how: object) -> Path:
    """Write with a compression, which tifffile can no longer decode, as without imagecodecs."""
    tifffile.imwrite(path, array, compression="zlib", metadata=None, **{"photometric": "minisblack", **how})
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", without_codec)
    return path


@pytest.mark.parametrize(
    ("dtype", "shape", "how"),
    [
        (bool, (7, 9), {}),
        (np.uint8, (7, 9), {}),
        (np.uint8, (7, 9), {"photometric": "miniswhite"}),
        (np.uint8, (7, 9), {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}),
        (np.uint8, (7, 9, 3), {"photometric": "rgb"}),
        (np.uint8, (3, 7, 9), {"photometric": "rgb", "planarconfig": "separate"}),
        (np.uint16, (7, 9), {}),
        (np.uint16, (7, 9), {"byteorder": ">"}),
        (np.uint16, (5, 7, 9), {}),
        (np.int32, (7, 9), {}),
        (np.float32, (7, 9), {}),
    ],
)
def test_compressions_without_a_decoder_are_read_by_pillow_as_stored(dtype, shape, how, tmp_path, monkeypatch):
    array = (RANDOM.random(shape) * (2 if dtype is bool else 200)).astype(dtype)
    read = read_label if dtype is not np.float32 else read_volume
    read = read_volume if len(shape) == 3 else read
    back = read(compressed(tmp_path / "x.tif", array, monkeypatch, **how)).array
    rows_first = {(7, 9, 3): (2, 0, 1), (3, 7, 9): (0, 1, 2), (5, 7, 9): (1, 2, 0)}.get(shape)
    expected = array[None, ..., None] if rows_first is None else array.transpose(rows_first)
    expected = expected[..., None] if shape[-1] == 3 or shape[0] == 3 else expected
    np.testing.assert_array_equal(back, expected if shape[0] != 5 else expected[None])


@pytest.mark.parametrize(
    ("dtype", "shape", "how"),
    [
        (np.uint16, (7, 9, 3), {"photometric": "rgb"}),
        (np.uint8, (7, 9, 4), {"photometric": "rgb", "extrasamples": [1]}),
        (np.uint8, (7, 9, 5), {"planarconfig": "contig", "extrasamples": [0] * 4}),
        (np.float64, (7, 9), {}),
        (np.uint32, (7, 9), {}),
        (np.uint8, (7, 9), {"extratags": [(274, 3, 1, 6, True)]}),
    ],
)
def test_what_pillow_would_cut_divide_or_turn_is_refused(dtype, shape, how, tmp_path, monkeypatch):
    array = (RANDOM.random(shape) * 200).astype(dtype)
    with pytest.raises(FormatError, match="compression that is not decoded") as caught:
        read_volume(compressed(tmp_path / "x.tif", array, monkeypatch, **how))
    assert "attunet[codecs]" in caught.value.hint


def without_codec(_: tifffile.TiffPageSeries) -> None:
    raise ValueError(WITHOUT_CODEC)


def test_more_axes_than_a_volume_has_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((2, 3, 7, 9), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(FormatError, match="has axes TZYX") as caught:
        read_volume(tmp_path / "x.tif")
    assert "each time point" in caught.value.hint
