"""Image files in and out: reading and writing by a file's suffix, in the formats of `table`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats.dicom import CONVERT, is_dicom, series_in
from attunet.data.formats.series import Series, WhatToRead, pick_frame
from attunet.data.formats.stored import files_outside
from attunet.data.formats.table import (
    FORMATS,
    SUFFIXES,
    WRITABLE_SUFFIXES,
    ImageFormat,
    float_suffix,
    format_of,
    is_companion,
    is_image,
    mask_suffix,
    stem_of,
    suffix_of,
)
from attunet.data.formats.voxels import to_image, to_label
from attunet.data.volume import Volume
from attunet.documents import reading
from attunet.errors import AttunetError, FormatError, first_line

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageFormat",
    "check_header",
    "files_outside",
    "float_suffix",
    "format_of",
    "is_companion",
    "is_image",
    "mask_suffix",
    "read_label",
    "read_palette",
    "read_volume",
    "series_of",
    "stem_of",
    "suffix_of",
    "write_volume",
]


def read_volume(path: Path, *, key: str | None = None, frame: int | None = None, alpha: bool = False) -> Volume:
    """Read an image file.

    Args:
        path: the file.
        key: name of the array in a file that holds several; None for its only one. Other formats need none.
        frame: index in time, from 0, of a series; None: all times are channels, where the format has no other axis.
        alpha: whether what a picture calls alpha is its last channel, as before; otherwise it is left out.
    Returns: the image.
    Raises: FormatError when the file is missing, damaged, of an unknown format or without this key or frame,
        GeometryError when its affine cannot be inverted.
    """
    entry = format_of(_checked_suffix(path))
    return to_image(_read(path, (entry.read_alpha if alpha else None) or entry.read, WhatToRead(key, frame)))


def read_label(path: Path, *, key: str | None = None, frame: int | None = None) -> Volume:
    """Read a mask file as a volume of one channel of integers, values as in the file.

    Args:
        path: the file.
        key: as in `read_volume`.
        frame: as in `read_volume`; a mask without times is that of every frame.
    Returns: the mask.
    Raises: as `read_volume`, and LabelError when the values are not whole numbers of one channel.
    """
    entry = format_of(_checked_suffix(path))
    return to_label(_read(path, entry.read_label or entry.read, WhatToRead(key, frame, optional=True)), path)


def check_header(path: Path, *, label: bool = False) -> tuple[Problem, ...]:
    """Warnings about what the reader of a file converts, chooses or leaves out, such as units; none if unreadable.

    Only the header is read, and pixels where they decide: palettes of masks, transparency. Inspecting a data set and
    predicting report them with the case; `label` is for masks.
    """
    suffix = suffix_of(path)
    entry = None if suffix is None else format_of(suffix)
    check = None if entry is None else (entry.check_label if label else None) or entry.check_header
    try:
        return () if check is None else tuple(check(path))
    except Exception:  # decoders raise any error on damaged bytes
        return ()  # reading the file reports them


def read_palette(path: Path) -> dict[int, tuple[int, ...]]:
    """The colours of the indexes in a mask with a palette; empty for any other file, and where it is unreadable."""
    suffix = suffix_of(path)
    read = None if suffix is None else format_of(suffix).read_palette
    try:
        return {} if read is None else read(path)
    except Exception:  # decoders raise any error on damaged bytes
        return {}  # reading the mask reports them


def series_of(path: Path) -> Series | None:
    """The times of a file whose header speaks for them; None for other images, and for files that cannot be read."""
    suffix = suffix_of(path)
    series = None if suffix is None else format_of(suffix).series
    try:
        return None if series is None else series(path)
    except Exception:  # reading the file reports what is wrong with it
        return None


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume in the format of the path's suffix; the file appears whole or not at all.

    Raises: FormatError when the suffix is unknown or only read, the folder is missing or the format cannot hold the
        volume.
    """
    suffix = suffix_of(path)
    write = None if suffix is None else format_of(suffix).write
    if write is None:
        kind = "unknown suffix" if suffix is None else f"{suffix} files are only read"
        raise FormatError(f"cannot write {path}: {kind}", hint=f"use one of {', '.join(WRITABLE_SUFFIXES)}")
    write(volume, path)


def _read(path: Path, read: Callable[[Path], Volume], part: WhatToRead) -> Volume:
    read_part = format_of(suffix_of(path) or "").read_part
    if read_part is not None:
        return _guarded(lambda path: read_part(path, part), path)
    return pick_frame(_guarded(read, path), part, path)


def _guarded(read: Callable[[Path], Volume], path: Path) -> Volume:
    """Read a file; whatever a decoder raises about damaged bytes is one FormatError."""
    try:
        return read(path)
    except AttunetError:
        raise
    except MemoryError as error:
        raise FormatError(
            f"{path} does not fit into memory", hint="crop or downsample it, or use a machine with more memory"
        ) from error
    except Exception as error:  # decoders raise any error on damaged bytes
        raise FormatError(
            f"cannot read {path} as {format_of(suffix_of(path) or '').name}: {first_line(error)[:300]}",
            hint="the file may be truncated, or of another format than its suffix says: copy or export it again",
        ) from error


def _checked_suffix(path: Path) -> str:
    """The suffix of a file that is there and not empty; each usual mistake has its own message."""
    with reading(path, hint="check the path"):
        return _suffix_if_there(path)


def _suffix_if_there(path: Path) -> str:
    if path.is_dir() and not is_image(path):
        dicom = series_in(path) > 0
        kind = "a DICOM series, which is not read yet" if dicom else "a folder"
        raise FormatError(f"{path} is {kind}, expected an image file", hint=CONVERT if dicom else "pass a file in it")
    if not path.is_file() and not is_image(path):
        if path.exists():
            raise FormatError(f"{path} is a pipe, socket or device", hint="copy its content into a file, and pass that")
        raise FormatError(f"there is no file {path}", hint="check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes)", hint="copy the file again")
    suffix = suffix_of(path)
    if suffix is None and is_dicom(path):
        raise FormatError(f"{path} is a DICOM file, which is not read yet", hint=CONVERT)
    if suffix is None:
        raise FormatError(f"{path} has an unknown format", hint=f"expected one of {', '.join(SUFFIXES)}")
    return suffix
