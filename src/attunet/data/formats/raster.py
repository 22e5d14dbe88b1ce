"""Pictures without geometry: PNG, JPEG and BMP by imageio, TIFF by tifffile; rows are the first axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile

from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.volume import Array, Volume
from attunet.errors import AttunetError, FormatError, first_line
from attunet.files import staged

__all__ = ["read_picture", "read_picture_label", "read_tiff", "write_picture", "write_tiff"]

HIGHEST_VALUE = {".png": 65535, ".jpg": 255, ".jpeg": 255, ".bmp": 255}  # for one channel; for several, 255
PICTURE_CHANNELS = (1, 3)
TIFF_AXES = {"Y": "y", "X": "x", "S": "c", "C": "c"}  # tifffile's axis names; any other is pages


def read_picture(path: Path) -> Volume:
    """Read a PNG, JPEG or BMP file as a volume (C, H, W, 1) with the identity as affine.

    Palettes become their colours; an alpha channel that is the same everywhere is dropped.
    Raises: FormatError when the file cannot be read.
    """
    return _read_picture(path, palette="colours")


def read_picture_label(path: Path) -> Volume:
    """Read a mask (C, H, W, 1): a palette stays index values, an alpha channel that is the same everywhere is dropped.

    Raises: FormatError when the file cannot be read.
    """
    return _read_picture(path, palette="indexes")


def read_tiff(path: Path) -> Volume:
    """Read a TIFF file, one image or a stack of pages, as a volume (C, H, W, pages) with the identity as affine.

    Raises: FormatError when the file cannot be read, its pages differ in shape, or it has more axes than that.
    """
    try:
        pixels = _tiff_pixels(path)
    except AttunetError:
        raise
    except Exception as error:  # tifffile raises any error on damaged bytes
        raise _unreadable(path, error) from error
    return _volume(pixels, path)


def write_picture(volume: Volume, path: Path) -> None:
    """Write one slice of 1 or 3 channels as PNG, JPEG or BMP; the affine is not stored.

    Raises: FormatError when the format cannot hold the values, the channels or more than one slice.
    """
    pixels = _page(volume, path)
    with staged(path) as target:
        iio.imwrite(target, pixels, extension=path.suffix.lower())


def write_tiff(volume: Volume, path: Path) -> None:
    """Write grey pages, or pages of C samples per pixel; the affine is not stored."""
    array = np.moveaxis(to_storable(volume.array), (0, 3), (-1, 0))
    many = volume.channels > 1
    with staged(path) as target:
        tifffile.imwrite(
            target,
            array if many else array[..., 0],
            photometric="rgb" if volume.channels == 3 and array.dtype == np.uint8 else "minisblack",
            planarconfig="contig" if many else None,
            compression="zlib",
        )


def _read_picture(path: Path, *, palette: str) -> Volume:
    try:
        pixels = np.asarray(iio.imread(path, plugin="pillow", index=0, mode=_pillow_mode(path, palette)))
    except Exception as error:  # Pillow raises any error on damaged bytes
        raise _unreadable(path, error) from error
    return _volume(np.moveaxis(pixels if pixels.ndim == 3 else pixels[..., None], -1, 0)[..., None], path)


def _unreadable(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"cannot read {path} as an image: {first_line(error)}",
        hint="the file may be truncated, or of another format than its suffix says: save it again",
    )


def _pillow_mode(path: Path, palette: str) -> str | None:
    """Pillow's pixel mode to read in; None is the file's own."""
    metadata: dict[str, Any] = iio.immeta(path, plugin="pillow", index=0)
    if metadata["mode"] in ("P", "PA"):
        return "P" if palette == "indexes" else "RGBA"
    return "RGB" if metadata["mode"] in ("CMYK", "YCbCr", "LAB", "HSV") else None


def _volume(pixels: Array, path: Path) -> Volume:
    """A volume of (C, H, W, pages), without an alpha channel that is the same everywhere."""
    alpha = pixels[-1]
    constant = pixels.shape[0] in (2, 4) and bool((alpha == alpha.flat[0]).all())
    return Volume(to_native(pixels[:-1] if constant else pixels, path), np.eye(4))


def _page(volume: Volume, path: Path) -> Array:
    """(H, W) or (H, W, C) in a type that the format holds."""
    suffix = path.suffix.lower()
    array = to_storable(volume.array)
    if volume.spatial_shape[2] != 1 or volume.channels not in PICTURE_CHANNELS:
        raise FormatError(
            f"{suffix} stores only one slice of 1 or 3 channels, got shape {array.shape} for {path}",
            hint="write .tiff, .nii.gz or .npy instead",
        )
    highest = HIGHEST_VALUE[suffix] if volume.channels == 1 else 255
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > highest:
        raise FormatError(
            f"{path} can store integers 0 to {highest}, got {array.dtype} {array.min()} to {array.max()}",
            hint="write .tiff, .nii.gz or .npy instead",
        )
    page = array[..., 0].astype(np.uint8 if array.max() <= 255 else np.uint16)
    return page[0] if volume.channels == 1 else np.moveaxis(page, 0, -1)


def _tiff_pixels(path: Path) -> Array:
    """(C, H, W, pages)."""
    with tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise FormatError(
                f"{path} contains {len(file.series)} images of differing shapes, expected one",
                hint="save each image in a file of its own",
            )
        series = file.series[0]
        axes = series.axes
        try:
            pixels = series.asarray()
        except ValueError:  # compression without a decoder in tifffile; Pillow supports the usual ones
            pixels = np.stack(list(iio.imiter(path, plugin="pillow"))).reshape(series.shape)
    return _ordered(pixels, axes, path)


def _ordered(pixels: Array, axes: str, path: Path) -> Array:
    """(C, H, W, pages) from tifffile's named axes."""
    used = [axis for axis, size in enumerate(pixels.shape) if size > 1 or axes[axis] in "YX"]
    pixels = pixels.reshape([pixels.shape[axis] for axis in used])
    names = "".join(axes[axis] for axis in used)
    roles = "".join(TIFF_AXES.get(name, "k") for name in names)
    if len(set(roles)) != len(roles):
        raise FormatError(
            f"{path} has axes {names} of shape {pixels.shape}, expected pages, rows, columns, channels",
            hint="save each time point in a file of its own",
        )
    for missing in set("cyxk") - set(roles):
        pixels, roles = pixels[..., None], roles + missing
    return pixels.transpose([roles.index(role) for role in "cyxk"])
