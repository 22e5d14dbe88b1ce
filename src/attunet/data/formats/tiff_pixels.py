"""The pixels of a TIFF file: decoded by tifffile, or by Pillow where it keeps the values, and put in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from attunet.data.volume import Array
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["SCALED", "decode_tiff", "inverted"]

AXES = {"Y": "y", "X": "x", "S": "c", "C": "c"}  # tifffile's axis names; any other is pages
SCALED = {2: 85, 4: 17}  # what Pillow multiplies greys of so many bits by
CODEC = "requires the 'imagecodecs' package"
PREMULTIPLIED = 1  # by which Pillow divides the colours
SEPARATE = 2  # samples are stored in planes
WHITE_IS_ZERO, PALETTE = 0, 3
UPRIGHT = 1


def decode_tiff(path: Path, series: tifffile.TiffPageSeries, orientation: int) -> Array:
    """Decode an image.

    Args:
        path: the file.
        series: the image.
        orientation: value of the tag Orientation, by which Pillow would turn the pixels.
    Returns: values (C, H, W, pages) as stored.
    Raises: FormatError when its axes are more than that, or it has a compression that cannot be decoded.
    """
    try:
        pixels = series.asarray()
    except (ValueError, NotImplementedError) as error:
        if CODEC not in str(error) and not isinstance(error, NotImplementedError):
            raise
        pixels = _by_pillow(path, series, orientation)
    return _ordered(pixels, series.axes, path)


def inverted(pixels: Array, page: tifffile.TiffPage) -> Array:
    """Unsigned values the other way round: the highest that the bits can hold becomes 0."""
    return (
        ~pixels if pixels.dtype.kind == "b" else np.asarray(pixels.dtype.type((1 << page.bitspersample) - 1) - pixels)
    )


def _by_pillow(path: Path, series: tifffile.TiffPageSeries, orientation: int) -> Array:
    """Decode a compression that tifffile has no decoder for, where Pillow neither cuts, scales nor multiplies."""
    page = series.keyframe
    bits, samples = page.bitspersample, page.samplesperpixel
    unsupported = FormatError(
        f"{path} has a compression that is not decoded with {bits} bits and {samples} samples",
        hint="pip install 'attunet[codecs]', or save the file without compression",
    )
    if orientation != UPRIGHT or PREMULTIPLIED in page.extrasamples or (bits > 8 and samples > 1):
        raise unsupported
    pages = []
    try:
        with open_regular(path) as stream, Image.open(stream, formats=["TIFF"]) as image:
            for stored in series.pages:
                image.seek(stored.index if stored is not None and isinstance(stored.index, int) else 0)
                pages.append(np.asarray(image.convert("RGB") if image.mode == "YCbCr" else image))
    except UnidentifiedImageError as error:
        raise unsupported from error
    if any(frame.dtype.newbyteorder("=") != page.dtype or frame.size != page.size for frame in pages):
        raise unsupported
    if page.planarconfig == SEPARATE and samples > 1:
        pages = [np.moveaxis(frame, -1, 0) for frame in pages]
    if bits in SCALED and page.photometric != PALETTE:
        pages = [frame // SCALED[bits] for frame in pages]
    if page.photometric == WHITE_IS_ZERO and bits <= 8:
        pages = [inverted(frame, page) for frame in pages]
    return np.stack(pages).reshape(series.shape)


def _ordered(pixels: Array, axes: str, path: Path) -> Array:
    """(C, H, W, pages) from tifffile's named axes."""
    used = [axis for axis, size in enumerate(pixels.shape) if size > 1 or axes[axis] in "YX"]
    pixels = pixels.reshape([pixels.shape[axis] for axis in used])
    names = "".join(axes[axis] for axis in used)
    roles = "".join(AXES.get(name, "k") for name in names)
    if len(set(roles)) != len(roles):
        raise FormatError(
            f"{path} has axes {names} of shape {pixels.shape}, expected pages, rows, columns, channels",
            hint="save each time point in a file of its own",
        )
    for missing in set("cyxk") - set(roles):
        pixels, roles = pixels[..., None], roles + missing
    return pixels.transpose([roles.index(role) for role in "cyxk"])
