"""Pictures without geometry, read by Pillow: PNG, JPEG, BMP, GIF, WebP, Netpbm, JPEG 2000; rows are the first axis."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from attunet.data.dataset import Problem
from attunet.data.formats.appearance import (
    alpha_notice,
    check_mask_alpha,
    notice,
    orientation_notice,
    palette_colours,
    palette_labels,
    palette_notice,
    turned,
    used_colours,
)
from attunet.data.formats.jpeg2000 import read_jpeg2000
from attunet.data.formats.limits import check_size
from attunet.data.formats.picture_files import PictureFile, check_picture_file
from attunet.data.formats.png import read_deep_png
from attunet.data.formats.tiff import (
    check_tiff,
    check_tiff_label,
    read_tiff,
    read_tiff_alpha,
    read_tiff_label,
    read_tiff_palette,
)
from attunet.data.formats.tiff_pixels import SCALED
from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.volume import Array, Volume
from attunet.documents import open_regular
from attunet.errors import FormatError
from attunet.files import staged

__all__ = [
    "check_picture",
    "check_picture_label",
    "read_picture",
    "read_picture_alpha",
    "read_picture_label",
    "read_picture_palette",
    "write_picture",
]

PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM", "TIFF")
KINDS = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".webp": ("WEBP",),
    ".jp2": ("JPEG2000",),
    ".j2k": ("JPEG2000",),
    ".jpx": ("JPEG2000",),
    ".pgm": ("PPM",),
    ".ppm": ("PPM",),
}
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
PALETTE = ("P", "PA")
LOSSY_SUFFIXES = (".jpg", ".jpeg")  # masks with these are reported whatever they contain
CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")  # modes that are read as RGB
HIGHEST_VALUE = {".png": 65535, ".jpg": 255, ".jpeg": 255, ".bmp": 255}  # for one channel; for several, 255
PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """A decoded picture, as it is shown.

    Args:
        pixels: values (C, H, W) as stored, without transparency; indexes (1, H, W) where there is a palette.
        kind: Pillow's name of the format.
        palette: colours (N, 3).
        alpha: transparency (H, W).
    """

    pixels: Array
    kind: str
    palette: Array | None
    alpha: Array | None

    @property
    def colours(self) -> Array:
        """Values (C, H, W), those of the palette where there is one."""
        if self.palette is None:
            return self.pixels
        return palette_colours(self.pixels[0], self.palette, grey=self.kind == "GIF")


def read_picture(path: Path) -> Volume:
    """Read a picture as a volume (C, H, W, 1) with the identity as affine, turned as it is shown.

    Palettes become their colours; what the file calls alpha is left out.
    Raises: FormatError when the file is truncated, damaged or holds several pictures.
    """
    with _opened(path) as (image, file):
        if image.format == "TIFF":
            return read_tiff(path)
        return _volume(_decoded(image, file, path).colours, path)


def read_picture_alpha(path: Path) -> Volume:
    """Read a picture as `read_picture` does, with its transparency as the last channel. Raises: as it."""
    with _opened(path) as (image, file):
        if image.format == "TIFF":
            return read_tiff_alpha(path)
        picture = _decoded(image, file, path)
    shown = picture.colours
    return _volume(shown if picture.alpha is None else np.concatenate([shown, picture.alpha[None]]), path)


def read_picture_label(path: Path) -> Volume:
    """Read a mask (C, H, W, 1), turned as it is shown; of a palette, the indexes count (see `palette_labels`).

    Raises: as `read_picture`, and LabelError when only its transparency varies.
    """
    with _opened(path) as (image, file):
        if image.format == "TIFF":
            return read_tiff_label(path)
        picture = _decoded(image, file, path)
    if picture.alpha is not None:
        check_mask_alpha(picture.pixels, picture.alpha, path)
    if picture.palette is None:
        return _volume(picture.pixels, path)
    return _volume(palette_labels(picture.pixels[0], picture.palette, path, picture.kind), path)


def check_picture(path: Path) -> Iterator[Problem]:
    """What `read_picture` turns, converts or leaves out. Raises: as it."""
    with _opened(path) as (image, file):
        if image.format == "TIFF":
            yield from check_tiff(path)
            return
        yield from _header_notices(image, path)
        if image.has_transparency_data:
            alpha = _decoded(image, file, path).alpha
            yield from () if alpha is None else alpha_notice(alpha, path)


def check_picture_label(path: Path) -> Iterator[Problem]:
    """What `read_picture_label` turns, decides or leaves out. Raises: as it."""
    with _opened(path) as (image, file):
        if image.format == "TIFF":
            yield from check_tiff_label(path)
            return
        yield from _header_notices(image, path)
        if file.lossy and path.suffix.lower() not in LOSSY_SUFFIXES:
            yield Problem(
                "",
                "lossy label",
                f"{path.name} is compressed with loss, which changes values when it is saved",
                "save the mask as .png from its source",
            )
        if image.has_transparency_data or image.mode in PALETTE:
            picture = _decoded(image, file, path)
            yield from () if picture.alpha is None else alpha_notice(picture.alpha, path)
            if picture.palette is not None:
                yield from palette_notice(picture.pixels[0], picture.palette, path, picture.kind)


def read_picture_palette(path: Path) -> dict[int, tuple[int, ...]]:
    """The colours of the indexes in a mask with a palette; empty where its values are its greys. Raises: as above."""
    with _opened(path) as (image, file):
        if image.mode not in PALETTE or image.format == "GIF":
            return read_tiff_palette(path) if image.format == "TIFF" else {}
        picture = _decoded(image, file, path)
    return {} if picture.palette is None else used_colours(picture.pixels[0], picture.palette)


def write_picture(volume: Volume, path: Path) -> None:
    """Write one slice of 1 or 3 channels as PNG, JPEG or BMP; the affine is not stored.

    Raises: FormatError when the format cannot hold the values, the channels or more than one slice.
    """
    content = io.BytesIO()  # into a file, Pillow writes half of a picture for a whole one when the disk is full
    Image.fromarray(_page(volume, path)).save(content, format=WRITTEN[path.suffix.lower()])
    with staged(path) as target:
        target.write_bytes(content.getvalue())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, PictureFile]]:
    """A picture whose file has been checked, and which is not decoded yet."""
    Image.init()  # registers every format, of which only those in PILLOW_FORMATS are tried
    with open_regular(path) as stream:  # not the path: Pillow maps plain pixels of a named file
        try:
            image = Image.open(stream, formats=PILLOW_FORMATS)
        except Image.DecompressionBombError as error:
            raise FormatError(f"cannot read {path}: {error}", hint="cut it into tiles, or save it as TIFF") from error
        with image:
            yield image, check_picture_file(path, image.format or "")


def _decoded(image: Image.Image, file: PictureFile, path: Path) -> _Decoded:
    check_size(
        path, (image.height, image.width, len(image.getbands())), 1, stored=path.stat().st_size, ratio=float("inf")
    )
    palette = None
    if file.png is not None and file.png.depth == 16 and file.png.samples > 1:
        pixels = np.moveaxis(read_deep_png(path, file.png), -1, 0)
        opacity = {len(pixels) - 1} if file.png.samples % 2 == 0 else set()
    elif file.jpeg2000 is not None:
        pixels, opacity = read_jpeg2000(path, file.jpeg2000, image), set(file.jpeg2000.alpha)
    else:
        shown = image.convert("RGB") if image.mode in CONVERTED else image
        pixels = np.moveaxis(np.atleast_3d(np.asarray(shown)), -1, 0)
        opacity = {len(pixels) - 1} if "A" in shown.getbands() else set()
        if file.png is not None and image.mode == "L":
            pixels = pixels // SCALED.get(file.png.depth, 1)
    if image.mode in PALETTE:
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    orientation = _orientation(image)
    kept = [index for index in range(len(pixels)) if index not in opacity]
    alpha = pixels[min(opacity)] if opacity else _keyed_alpha(image, pixels)
    return _Decoded(
        pixels=turned(pixels[kept] if opacity else pixels, orientation),
        kind=image.format or "",
        palette=palette,
        alpha=None if alpha is None else turned(alpha, orientation),
    )


def _keyed_alpha(image: Image.Image, pixels: Array) -> Array | None:
    """Transparency (H, W) of a picture that declares a transparent value, or one for each entry of its palette."""
    key = image.info.get("transparency")
    if key is None:
        return None
    if isinstance(key, bytes):
        table = np.full(256, 255, np.uint8)
        table[: len(key)] = np.frombuffer(key, np.uint8)
        return np.asarray(table[pixels[0]])
    values = np.reshape(key, (-1, 1, 1))
    return np.where((pixels == values).all(axis=0), 0, 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """The value of the tag Orientation; 1, upright, where the EXIF data is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises any error on damaged EXIF data, which is no part of the picture
        return 1


def _header_notices(image: Image.Image, path: Path) -> Iterator[Problem]:
    """What can be said before decoding: another format than the suffix says, turning, conversion, further pictures."""
    kind = image.format or ""
    if kind not in KINDS.get(path.suffix.lower(), (kind,)):
        yield notice("file format", f"{path.name} is a {kind} file", "give it the suffix of its format")
    yield from orientation_notice(_orientation(image), path)
    if image.mode in CONVERTED:
        yield notice("colours", f"{path.name} has {image.mode} colours, read as RGB", "nothing if all images are RGB")
    if kind == "MPO" and (count := getattr(image, "n_frames", 1)) > 1:
        yield notice(
            "several pictures", f"{path.name} contains {count} pictures, the first of which is read", "nothing if it is"
        )


def _volume(pixels: Array, path: Path) -> Volume:
    """A volume from (C, H, W)."""
    return Volume(to_native(np.ascontiguousarray(pixels)[..., None], path), np.eye(4), calibrated=False)


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
    return page[0] if volume.channels == 1 else np.ascontiguousarray(np.moveaxis(page, 0, -1))
