"""TIFF files: one image or a stack of pages, with the spacing that OME and ImageJ store; rows are the first axis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from attunet.data.dataset import Problem
from attunet.data.formats.appearance import (
    alpha_notice,
    check_mask_alpha,
    eight_bit_colours,
    notice,
    orientation_notice,
    palette_colours,
    palette_notice,
    turned,
    used_colours,
)
from attunet.data.formats.limits import AGAIN
from attunet.data.formats.tiff_directories import REDUCED_OR_MASK, check_directories
from attunet.data.formats.tiff_pixels import decode_tiff, inverted
from attunet.data.formats.tiff_spacing import ome_metadata, read_spacing
from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError
from attunet.files import staged

__all__ = [
    "check_tiff",
    "check_tiff_label",
    "read_tiff",
    "read_tiff_alpha",
    "read_tiff_label",
    "read_tiff_palette",
    "write_tiff",
]

TIME = "T"
WHITE_IS_ZERO, RGB, PALETTE, YCBCR = 0, 2, 3, 6
PLAIN = (WHITE_IS_ZERO, 1, RGB, PALETTE)  # colour spaces that need no mention: greys, RGB
BLACK_IS_TRUE = "tifffile"  # the software whose files of Booleans show True as black
DECODED_TO_RGB = (6, 7, 33007, 34892, 34934)  # compressions of the JPEG family
OPACITY = (1, 2)  # kinds of extra samples that are transparency
ORIENTATION = "Orientation"
SIDEWAYS = 5  # from this orientation on, rows become columns


@dataclass(frozen=True)
class _Tiff:
    """An open file of one image.

    Args:
        path: the file.
        file: tifffile's view of it.
        series: the image.
    """

    path: Path
    file: tifffile.TiffFile
    series: tifffile.TiffPageSeries

    @property
    def page(self) -> tifffile.TiffPage:
        """The page whose tags hold for all."""
        return self.series.keyframe

    @property
    def orientation(self) -> int:
        """The value of the tag Orientation."""
        return int(self.page.tags.valueof(ORIENTATION, default=1))

    @property
    def palette(self) -> Array | None:
        """The colours (N, 3) for which the values stand; None where they are values."""
        if self.page.photometric != PALETTE or self.page.colormap is None:
            return None
        return eight_bit_colours(np.asarray(self.page.colormap).T)

    @property
    def opacity(self) -> list[int]:
        """The samples of a pixel that the file calls alpha."""
        first = self.page.samplesperpixel - len(self.page.extrasamples)
        return [first + index for index, kind in enumerate(self.page.extrasamples) if kind in OPACITY]

    def decoded(self) -> tuple[Array, Array | None]:
        """Values (C, H, W, pages) as stored and turned as shown, without transparency; and the transparency."""
        ordered = decode_tiff(self.path, self.series, self.orientation).transpose(0, 3, 1, 2)
        shown = turned(ordered, self.orientation).transpose(0, 2, 3, 1)
        if not self.opacity or len(shown) != self.page.samplesperpixel:
            return shown, None
        kept = [index for index in range(len(shown)) if index not in self.opacity]
        return shown[kept], shown[self.opacity[0]]

    def volume(self, pixels: Array) -> Volume:
        """A volume of (C, H, W, pages) with the spacing of the file, 1 mm where it has none."""
        declared = read_spacing(self.file, self.path, stack=pixels.shape[3] > 1)
        rows, columns, slices = declared.spacing or (1.0, 1.0, 1.0)
        if self.orientation >= SIDEWAYS:
            rows, columns = columns, rows
        array = to_native(np.ascontiguousarray(pixels), self.path)
        known = declared.spacing is not None
        return Volume(array, np.diag([rows, columns, slices, 1.0]), declared.unit, calibrated=known)


def read_tiff(path: Path) -> Volume:
    """Read a TIFF file, one image or a stack of pages, as a volume (C, H, W, pages), turned as it is shown.

    The affine is the spacing that OME or ImageJ metadata declare, otherwise the identity. Palettes become their
    colours, 0 is black even where the file stores it as white, and samples that the file calls alpha are left out.
    Raises: FormatError when the file is truncated or damaged, its pages differ in shape, or it has more axes than that.
    """
    with _opened(path) as tiff:
        pixels, _ = tiff.decoded()
        if tiff.palette is not None:
            pixels = to_native(pixels, path)
            pages = [palette_colours(page, tiff.palette) for page in np.moveaxis(pixels[0], -1, 0)]
            return tiff.volume(np.stack(pages, axis=-1))
        return tiff.volume(inverted(pixels, tiff.page) if _is_inverted(tiff.page) else pixels)


def read_tiff_alpha(path: Path) -> Volume:
    """Read a TIFF file as `read_tiff` does, with its transparency as the last channel. Raises: as it."""
    image = read_tiff(path)
    with _opened(path) as tiff:
        alpha = tiff.decoded()[1] if tiff.opacity else None
    return image if alpha is None else image.with_array(np.concatenate([image.array, alpha[None]]))


def read_tiff_label(path: Path) -> Volume:
    """Read a mask as `read_tiff` does an image, but with the indexes of a palette and with values as stored.

    Only in masks of one bit, 0 becomes the value that is shown as black; but tifffile (and scikit-image) stores True
    as 1 and calls it black, whatever it means.
    Raises: as `read_tiff`, and LabelError when only its transparency varies.
    """
    with _opened(path) as tiff:
        pixels, alpha = tiff.decoded()
        if alpha is not None:
            check_mask_alpha(pixels[..., 0], alpha[..., 0], path)
        return tiff.volume(inverted(pixels, tiff.page) if _is_inverted_mask(tiff.page) else pixels)


def check_tiff(path: Path) -> Iterator[Problem]:
    """What `read_tiff` turns, converts, assumes or leaves out. Raises: as it."""
    with _opened(path) as tiff:
        yield from _notices(tiff)
        if _is_inverted(tiff.page):
            yield notice("inverted", f"{path.name} stores white as 0, and is read with 0 as black", "nothing")
        if tiff.opacity:
            _, alpha = tiff.decoded()
            yield from () if alpha is None else alpha_notice(alpha, path)


def check_tiff_label(path: Path) -> Iterator[Problem]:
    """What `read_tiff_label` turns, decides or leaves out. Raises: as it."""
    with _opened(path) as tiff:
        yield from _notices(tiff)
        if _is_inverted(tiff.page):
            how = "with 0 as black" if _is_inverted_mask(tiff.page) else "as stored"
            message = f"{path.name} stores white as 0; its values are read {how}"
            yield notice("inverted", message, "check that the right voxels are labelled")
        pixels, alpha = tiff.decoded() if tiff.opacity or tiff.palette is not None else (None, None)
        if alpha is not None:
            yield from alpha_notice(alpha, path)
        if tiff.palette is not None and pixels is not None:
            yield from palette_notice(to_native(pixels[0], path), tiff.palette, path, "TIFF")


def read_tiff_palette(path: Path) -> dict[int, tuple[int, ...]]:
    """The colours of the indexes in a mask with a palette; empty where it has none. Raises: as `read_tiff`."""
    with _opened(path) as tiff:
        palette = tiff.palette
        return {} if palette is None else used_colours(to_native(tiff.decoded()[0], path), palette)


def write_tiff(volume: Volume, path: Path) -> None:
    """Write grey pages, or pages of C samples per pixel; a known spacing as OME metadata, but no orientation."""
    array = np.moveaxis(to_storable(volume.array), (0, 3), (-1, 0))
    many = volume.channels > 1
    calibrated = volume.spacing != (1.0, 1.0, 1.0)
    metadata = {"axes": "ZYXS" if many else "ZYX", **ome_metadata(volume.spacing, volume.unit)}
    with staged(path) as target:
        tifffile.imwrite(
            target,
            array if many else array[..., 0],
            photometric="rgb" if volume.channels == 3 and array.dtype == np.uint8 else "minisblack",
            planarconfig="contig" if many else None,
            compression="zlib",
            ome=calibrated,
            metadata=metadata if calibrated else {},
        )


@contextmanager
def _opened(path: Path) -> Iterator[_Tiff]:
    """A file whose directories have been checked, and which holds one image. Files beside it are never read."""
    directories = check_directories(path)
    with tifffile.TiffFile(path, _multifile=False) as file:
        if len(file.pages) != len(directories):
            raise FormatError(
                f"{path} is damaged: {len(file.pages)} of {len(directories)} pages can be read",
                hint=AGAIN,
            )
        images = [series for series in file.series if not int(series.keyframe.subfiletype) & REDUCED_OR_MASK]
        if len(images) != 1:
            raise FormatError(
                f"{path} contains {len(images)} images of differing shapes, expected one",
                hint="save each image in a file of its own",
            )
        _check_whole(file, images[0], path)
        yield _Tiff(path, file, images[0])


def _check_whole(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Make sure that every page that the metadata declare is there; tifffile would read the others only, or zeros."""
    declared = {"ome": file.is_ome, "imagej": file.is_imagej, "shaped": file.is_shaped}
    lost = [kind for kind, is_kind in declared.items() if is_kind]
    if any(page is None for page in series.pages) or (lost and series.kind not in lost):
        raise FormatError(
            f"{path} does not contain all pages that its metadata declare",
            hint="it may be truncated, or part of an image in several files: save the image whole, in one file",
        )


def _notices(tiff: _Tiff) -> Iterator[Problem]:
    """What images and masks have in common: orientation, colours, axes, spacing, further images."""
    path, page = tiff.path, tiff.page
    yield from orientation_notice(tiff.orientation, path)
    yield from read_spacing(tiff.file, path, stack=len(tiff.series.pages) > 1).notices
    if page.photometric not in PLAIN and not (page.photometric == YCBCR and page.compression in DECODED_TO_RGB):
        colours = getattr(page.photometric, "name", str(page.photometric))
        yield notice(
            "colours",
            f"{path.name} has {colours} colours, whose samples are read as stored",
            "nothing if all images are the same; otherwise convert it to grey or RGB",
        )
    unspecified = page.samplesperpixel - 3 - len(tiff.opacity)
    if page.photometric == RGB and unspecified > 0:
        message = f"{path.name} has {unspecified} samples beside RGB that are not called alpha; they are channels"
        yield notice("extra samples", message, "nothing if they are measured; otherwise save it as RGB")
    sizes = dict(zip(tiff.series.axes, tiff.series.shape, strict=True))
    if sizes.get(TIME, 1) > 1:
        message = f"{path.name} is a series of {sizes[TIME]} time points, which are read as slices"
        yield notice("time points", message, "nothing if they are slices; otherwise save each in a file of its own")
    if len(tiff.file.series) > 1 or len(tiff.series.levels) > 1:
        message = f"{path.name} also contains reduced images or masks, which are left out"
        yield notice("several pictures", message, "nothing")


def _is_inverted_mask(page: tifffile.TiffPage) -> bool:
    return _is_inverted(page) and page.bitspersample == 1 and not page.software.startswith(BLACK_IS_TRUE)


def _is_inverted(page: tifffile.TiffPage) -> bool:
    """Whether 0 is white; for floats and signed values, nobody says what black is."""
    return bool(page.photometric == WHITE_IS_ZERO and page.dtype is not None and page.dtype.kind in "bu")
