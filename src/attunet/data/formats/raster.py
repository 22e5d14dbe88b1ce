"""Pictures: PNG, JPEG, BMP by imageio, TIFF by its own module; no geometry, rows are the first axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from attunet.data.formats.dtypes import readable, storable
from attunet.data.formats.tiff import read_tiff_pixels, write_tiff
from attunet.data.volume import Array, Volume
from attunet.errors import AttunetError, FormatError, first_line
from attunet.files import staged

__all__ = ["read_raster", "read_raster_label", "write_raster"]

TIFF = (".tif", ".tiff")
DEEPEST = {".png": 65535, ".jpg": 255, ".jpeg": 255, ".bmp": 255}
PAGE_CHANNELS = (1, 3)


def read_raster(path: Path) -> Volume:
    """A volume (C, H, W, 1), or (C, H, W, pages) of a TIFF stack, with the identity as affine.

    Palettes become their colours; an alpha channel that is the same everywhere is dropped.
    Raises: FormatError when the file cannot be read.
    """
    return _volume(_without_constant_alpha(_pixels(path, palette="colours")), path)


def read_raster_label(path: Path) -> Volume:
    """A mask as its channels are: palettes stay index values, alpha that is the same everywhere is dropped.

    Raises: FormatError when the file cannot be read.
    """
    return _volume(_without_constant_alpha(_pixels(path, palette="indexes")), path)


def write_raster(volume: Volume, path: Path) -> None:
    """Write one slice of 1 or 3 channels as PNG, JPEG or BMP, any volume as TIFF; the affine is not stored.

    Raises: FormatError when the format cannot hold the values, the channels or more than one slice.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF:
        write_tiff(volume, path)
        return
    pixels = _page(volume, path)
    with staged(path) as target:
        iio.imwrite(target, pixels, extension=suffix)


def _pixels(path: Path, *, palette: str) -> Array:
    """(C, H, W, pages)."""
    try:
        if path.suffix.lower() in TIFF:
            return read_tiff_pixels(path)
        pixels = np.asarray(iio.imread(path, plugin="pillow", index=0, mode=_mode(path, palette)))
    except AttunetError:
        raise
    except Exception as error:  # Pillow and tifffile raise whatever a damaged byte leads to
        raise FormatError(
            f"cannot read {path} as an image: {first_line(error)}",
            hint="the file may be truncated or of another format than its name says: save it again",
        ) from error
    return np.moveaxis(pixels if pixels.ndim == 3 else pixels[..., None], -1, 0)[..., None]


def _mode(path: Path, palette: str) -> str | None:
    """Pillow's pixel mode to read in; None is the file's own."""
    metadata: dict[str, Any] = iio.immeta(path, plugin="pillow", index=0)
    if metadata["mode"] in ("P", "PA"):
        return "P" if palette == "indexes" else "RGBA"
    return "RGB" if metadata["mode"] in ("CMYK", "YCbCr", "LAB", "HSV") else None


def _without_constant_alpha(pixels: Array) -> Array:
    alpha = pixels[-1]
    constant = pixels.shape[0] in (2, 4) and bool((alpha == alpha.flat[0]).all())
    return pixels[:-1] if constant else pixels


def _volume(pixels: Array, path: Path) -> Volume:
    return Volume(readable(pixels, path), np.eye(4))


def _page(volume: Volume, path: Path) -> Array:
    """(H, W) or (H, W, C) in a type that the format holds."""
    suffix = path.suffix.lower()
    array = storable(volume.array)
    if volume.spatial_shape[2] != 1 or volume.channels not in PAGE_CHANNELS:
        raise FormatError(
            f"{suffix} holds one slice of 1 or 3 channels, got shape {array.shape} for {path}",
            hint="write .tiff, .nii.gz or .npy instead",
        )
    highest = DEEPEST[suffix] if volume.channels == 1 else 255
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > highest:
        raise FormatError(
            f"{path} can hold integers 0 to {highest}, got {array.dtype} {array.min()} to {array.max()}",
            hint="write .tiff, .nii.gz or .npy instead",
        )
    page = array[..., 0].astype(np.uint8 if array.max() <= 255 else np.uint16)
    return page[0] if volume.channels == 1 else np.moveaxis(page, 0, -1)
