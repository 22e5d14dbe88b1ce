"""TIFF, by tifffile: one image or a stack of pages."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tifffile

from attunet.data.formats.dtypes import storable
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["read_tiff_pixels", "write_tiff"]

ROLES = {"Y": "y", "X": "x", "S": "c", "C": "c"}


def read_tiff_pixels(path: Path) -> Array:
    """Pixels as (C, H, W, pages).

    Raises: FormatError when pages differ in shape or there are more axes than pages and channels.
    """
    with tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise FormatError(
                f"{path} holds {len(file.series)} images of differing shapes, expected one",
                hint="save each image in a file of its own",
            )
        series = file.series[0]
        axes = series.axes
        try:
            pixels = series.asarray()
        except ValueError:  # a compression tifffile has no decoder for; Pillow knows the usual ones
            pixels = _by_pillow(path, series.shape)
    return _ordered(pixels, axes, path)


def write_tiff(volume: Volume, path: Path) -> None:
    """Write grey pages, or pages of C samples per pixel; the affine is not stored."""
    array = np.moveaxis(storable(volume.array), (0, 3), (-1, 0))
    many = volume.channels > 1
    with staged(path) as target:
        tifffile.imwrite(
            target,
            array if many else array[..., 0],
            photometric="rgb" if volume.channels == 3 and array.dtype == np.uint8 else "minisblack",
            planarconfig="contig" if many else None,
            compression="zlib",
        )


def _by_pillow(path: Path, shape: tuple[int, ...]) -> Array:
    return np.stack(list(iio.imiter(path, plugin="pillow"))).reshape(shape)


def _ordered(pixels: Array, axes: str, path: Path) -> Array:
    """(C, H, W, pages) from tifffile's named axes: Y, X, S or C for channels, anything else for pages."""
    keep = [axis for axis, size in enumerate(pixels.shape) if size > 1 or axes[axis] in "YX"]
    pixels = pixels.reshape([pixels.shape[axis] for axis in keep])
    names = "".join(axes[axis] for axis in keep)
    roles = "".join(ROLES.get(name, "k") for name in names)
    if len(set(roles)) != len(roles):
        raise FormatError(
            f"{path} has axes {names} of shape {pixels.shape}, expected pages, rows, columns, channels",
            hint="save each time point in a file of its own",
        )
    for missing in set("cyxk") - set(roles):
        pixels, roles = pixels[..., None], roles + missing
    return pixels.transpose([roles.index(role) for role in "cyxk"])
