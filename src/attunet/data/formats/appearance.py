"""How a picture is shown: palette, orientation, transparency. Each is used or left out by what the file says.

Images are the colours of their palette; masks are its indexes or its greys, whichever is the same in every file.
Pixels are turned as viewers turn them, images and masks alike. Transparency is no channel of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from attunet.data.dataset import Problem
from attunet.data.volume import Array
from attunet.errors import LabelError

__all__ = [
    "alpha_notice",
    "check_mask_alpha",
    "eight_bit_colours",
    "notice",
    "orientation_notice",
    "palette_colours",
    "palette_labels",
    "palette_notice",
    "turned",
    "used_colours",
]

SHOWN = 8
SIXTEEN_TO_EIGHT = 257  # 255 * 257 = 65535
FORCED = ("GIF",)  # formats in which every picture has a palette, whose order their writers choose
ORIENTATIONS: dict[int, tuple[str, bool, int]] = {
    2: ("mirrored left to right", True, 0),
    3: ("turned by 180 degrees", False, 2),
    4: ("mirrored top to bottom", True, 2),
    5: ("mirrored along the main diagonal", True, 1),
    6: ("turned by 90 degrees clockwise", False, -1),
    7: ("mirrored along the other diagonal", True, -1),
    8: ("turned by 90 degrees anticlockwise", False, 1),
}
"""EXIF and TIFF orientation: in words, whether columns are reversed first, and quarter turns anticlockwise after it."""


def turned(pixels: Array, orientation: int) -> Array:
    """Pixels (..., H, W) as they are shown, for the value of the tag Orientation; unknown values turn nothing."""
    if orientation not in ORIENTATIONS:
        return pixels
    _, mirrored, quarters = ORIENTATIONS[orientation]
    return np.rot90(pixels[..., ::-1] if mirrored else pixels, quarters, axes=(-2, -1))


def orientation_notice(orientation: int, path: Path) -> Iterator[Problem]:
    """What `turned` did; nothing for pixels that are stored upright."""
    if orientation in ORIENTATIONS:
        yield notice(
            "orientation tag",
            f"{path.name} is {ORIENTATIONS[orientation][0]} to be shown (EXIF or TIFF orientation {orientation}), "
            "and is read as shown",
            "nothing if masks are drawn on the picture as it is shown; otherwise remove the tag from the file",
        )


def alpha_notice(alpha: Array, path: Path) -> Iterator[Problem]:
    """The transparency that is left out; nothing where it is the same everywhere."""
    if alpha.min() != alpha.max():
        yield notice(
            "transparency",
            f"{path.name} has an alpha channel of {alpha.min():g} to {alpha.max():g}, "
            "left out unless a model needs it as a channel",
            "nothing if it only hides parts of the picture; to use it as a channel, save it as TIFF or NPY without "
            "calling it alpha",
        )


def check_mask_alpha(pixels: Array, alpha: Array, path: Path) -> None:
    """Make sure that a mask is drawn in its values, not in its transparency.

    Args:
        pixels: values (C, H, W).
        alpha: transparency (H, W).
        path: the file, for the message.
    Raises: LabelError when only the transparency varies.
    """
    if alpha.min() != alpha.max() and (pixels == pixels[:, :1, :1]).all():
        raise LabelError(
            f"{path} has the same value everywhere, its shape is only in its alpha channel",
            hint="save the mask as one grey channel in which each pixel is the number of its class",
        )


def notice(kind: str, message: str, remedy: str) -> Problem:
    """A warning of a reader, to which its callers add the case.

    Args:
        kind: what it is about, in a word or two.
        message: what was found.
        remedy: what to do about it.
    Returns: the warning.
    """
    return Problem("", kind, message, remedy, "warning")


def eight_bit_colours(palette: Array) -> Array:
    """Colours (N, 3) of 8 bits from the 16 bits of a TIFF file, where nothing is lost; otherwise unchanged.

    Some writers store 8 bits as they are, some in the upper byte, most in both.
    """
    for step in (SIXTEEN_TO_EIGHT, 256, 1):
        if not (palette % step).any() and palette.max() // step <= 255:
            return (palette // step).astype(np.uint8)
    return palette


def palette_colours(indexes: Array, palette: Array, *, grey: bool = False) -> Array:
    """The colours (3, H, W) of a palette picture.

    Args:
        indexes: (H, W).
        palette: (N, 3); an index beyond it is black.
        grey: whether a palette of greys gives one channel (1, H, W), for formats that cannot store greys otherwise.
    Returns: the colours, in the palette's type.
    """
    entries = np.zeros((max(len(palette), int(indexes.max()) + 1), 3), palette.dtype)
    entries[: len(palette)] = palette
    used = entries[np.unique(indexes)]
    colours = np.moveaxis(entries[indexes], -1, 0)
    return colours[:1] if grey and (used == used[:, :1]).all() else colours


def palette_labels(indexes: Array, palette: Array, path: Path, format_name: str) -> Array:
    """The label values (1, H, W) of a palette picture.

    The indexes are the labels, as in Pascal VOC, except in a GIF file: its writer numbers the colours that occur in
    each file, so that only greys are the same number in all of them.

    Args:
        indexes: (H, W).
        palette: colours (N, 3).
        path: the file, for the message.
        format_name: Pillow's name of its format.
    Returns: the values.
    Raises: LabelError for a GIF in colours.
    """
    if format_name not in FORCED:
        return indexes[None]
    values = palette_colours(indexes, palette, grey=True)
    if len(values) > 1:
        raise LabelError(
            f"{path} shows its classes in colours, which the GIF format numbers anew in each file",
            hint="save the mask as PNG, in which each pixel is the number of its class",
        )
    return values


def used_colours(indexes: Array, palette: Array) -> dict[int, tuple[int, ...]]:
    """The colour of each index that occurs."""
    used = np.unique(indexes)
    colours = palette_colours(used[None], palette)[:, 0].T
    return dict(zip(used.tolist(), map(tuple, colours.tolist()), strict=True))


def palette_notice(indexes: Array, palette: Array, path: Path, format_name: str) -> Iterator[Problem]:
    """What `palette_labels` decided.

    Args:
        indexes: (H, W).
        palette: colours (N, 3).
        path: the file, for the message.
        format_name: Pillow's name of its format.
    Returns: a warning, or none where the indexes and the greys of the palette are the same numbers.
    """
    used = used_colours(indexes, palette)
    if all(set(colour) == {index} for index, colour in used.items()):
        return
    shown = ", ".join(
        f"{index} = {colour[0] if len(set(colour)) == 1 else colour}" for index, colour in list(used.items())[:SHOWN]
    )
    taken = "its grey values are" if format_name in FORCED else "its indexes are"
    yield notice(
        "palette mask",
        f"{path.name} has a palette ({shown}{', …' if len(used) > SHOWN else ''}): {taken} taken as labels",
        "nothing if this is right; otherwise save the mask as grey values, each the number of its class",
    )
