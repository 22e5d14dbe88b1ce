"""Image files in and out: reading and writing by a file's suffix, in the formats of `table`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats.dicom import (
    DICOM_SUFFIXES,
    NoticeHook,
    choose_series,
    holds_series,
    is_archive,
    is_dicom,
    is_label_object,
    read_label_object,
    read_named_masks,
)
from attunet.data.formats.raster import read_picture
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
from attunet.data.formats.tiff import read_tiff
from attunet.data.formats.voxels import to_image, to_label
from attunet.data.volume import Volume
from attunet.documents import reading
from attunet.errors import AttunetError, FormatError, first_line

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageFormat",
    "NoticeHook",
    "check_header",
    "files_outside",
    "float_suffix",
    "format_at",
    "format_of",
    "holds_named_masks",
    "is_companion",
    "is_dicom_image",
    "is_image",
    "is_picture",
    "mask_suffix",
    "read_label",
    "read_masks",
    "read_palette",
    "read_volume",
    "refers_elsewhere",
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
    entry = _checked_format(path)
    return to_image(_read(path, entry, (entry.read_alpha if alpha else None) or entry.read, WhatToRead(key, frame)))


def read_label(path: Path, *, key: str | None = None, frame: int | None = None, grid: Volume | None = None) -> Volume:
    """Read a mask file as a volume of one channel of integers, values as in the file.

    Args:
        path: the file.
        key: as in `read_volume`, or the name of a segment or ROI.
        frame: as in `read_volume`; a mask without times is that of every frame.
        grid: the image that it belongs to, see `read_masks`.
    Returns: the mask.
    Raises: as `read_volume`, and LabelError when the values are not whole numbers of one channel.
    """
    entry = _checked_format(path)
    if holds_named_masks(path):
        return next(read_named_masks(path, [key], grid))
    return to_label(_read(path, entry, entry.read_label or entry.read, WhatToRead(key, frame, optional=True)), path)


def read_masks(
    path: Path,
    keys: Sequence[str | None],
    *,
    frame: int | None = None,
    grid: Volume | None = None,
    on_notice: NoticeHook = lambda _notice: None,
) -> Iterator[Volume]:
    """Read masks of a file one after the other, as `read_label`; a DICOM object is opened once.

    Args:
        path: the file.
        keys: of each mask, as in `read_label`.
        frame: as in `read_label`.
        grid: the image that the masks belong to, or any volume on its grid, on which segments and ROIs of DICOM are
            placed; other files have a grid of their own. None: unknown.
        on_notice: called with what is odd about a mask.
    Returns: the masks.
    Raises: as `read_label`, and GeometryError for contours without a grid, or elsewhere than on it.
    """
    if holds_named_masks(path):
        yield from read_named_masks(path, keys, grid, on_notice)
    else:
        yield from (read_label(path, key=key, frame=frame) for key in keys)


def holds_named_masks(path: Path) -> bool:
    """Whether a file is a segmentation or a structure set of DICOM, in which masks have names.

    Raises: EngineError when it is DICOM and pydicom is not installed.
    """
    entry = format_at(path) if path.is_file() else None
    return entry is format_of(DICOM_SUFFIXES[0]) and is_label_object(path)


def refers_elsewhere(label: Path, image: Path, key: str | None = None) -> bool:
    """Whether a label names the series of its image, and the image is another one.

    Args:
        label: a file of which `holds_named_masks` is true.
        image: the image.
        key: as in `read_volume`.
    Returns: False for labels that name no series, and for images of other formats than DICOM.
    Raises: FormatError when one cannot be read.
    """
    series = read_label_object(label).series
    of_dicom = format_at(image) is format_of(DICOM_SUFFIXES[0])
    return bool(series) and of_dicom and choose_series(image, key).uid not in series


def check_header(path: Path, *, key: str | None = None, label: bool = False) -> tuple[Problem, ...]:
    """Warnings about what the reader of a file converts, chooses or leaves out, such as units; none if unreadable.

    Only the header is read, and pixels where they decide: palettes of masks, transparency. Inspecting a data set and
    predicting report them with the case.

    Args:
        path: the file.
        key: as in `read_volume`.
        label: whether it is read as a mask.
    Returns: the warnings, without a case.
    """
    try:
        entry = format_at(path)
        if label and holds_named_masks(path):
            return tuple(_told(notice) for notice in read_label_object(path).notices)
        if entry is not None and entry.check_part is not None:
            return tuple(entry.check_part(path, key))
        check = None if entry is None else (entry.check_label if label else None) or entry.check_header
        return () if check is None else tuple(check(path))
    except Exception:  # decoders raise any error on damaged bytes
        return ()  # reading the file reports them


def _told(notice: str) -> Problem:
    return Problem("", "DICOM", notice, "nothing, if this is right", "warning")


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


def format_at(path: Path) -> ImageFormat | None:
    """The format of what lies at a path: by its suffix, or DICOM by its content; None when it is unknown."""
    suffix = suffix_of(path)
    if suffix is not None:
        return format_of(suffix)
    found = holds_series(path) if path.is_dir() else is_archive(path) or is_dicom(path)
    return format_of(DICOM_SUFFIXES[0]) if found else None


def is_dicom_image(path: Path) -> bool:
    """Whether a file, folder or archive is read as DICOM."""
    entry = format_at(path) if path.exists() else None
    return entry is not None and entry.suffixes == DICOM_SUFFIXES


def is_picture(path: Path) -> bool:
    """Whether a file is, by its name, of a format of pictures, which have no position in space."""
    suffix = suffix_of(path)
    return suffix is not None and format_of(suffix).read in (read_picture, read_tiff)


def _read(path: Path, entry: ImageFormat, read: Callable[[Path], Volume], part: WhatToRead) -> Volume:
    read_part = entry.read_part
    if read_part is not None:
        return _guarded(lambda path: read_part(path, part), path, entry)
    return pick_frame(_guarded(read, path, entry), part, path)


def _guarded(read: Callable[[Path], Volume], path: Path, entry: ImageFormat) -> Volume:
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
            f"cannot read {path} as {entry.name}: {first_line(error)[:300]}",
            hint="the file may be truncated, or of another format than its suffix says: copy or export it again",
        ) from error


def _checked_format(path: Path) -> ImageFormat:
    """The format of a file that is there and not empty; each usual mistake has its own message."""
    with reading(path, hint="check the path"):
        return _format_if_there(path)


def _format_if_there(path: Path) -> ImageFormat:
    if not path.exists():
        raise FormatError(f"there is no file {path}", hint="check the path")
    entry = format_at(path)
    if path.is_dir() and not is_image(path) and entry is not format_of(DICOM_SUFFIXES[0]):
        raise FormatError(f"{path} is a folder, expected an image file", hint="pass a file in it")
    if not path.is_file() and not path.is_dir():
        raise FormatError(f"{path} is a pipe, socket or device", hint="copy its content into a file, and pass that")
    if path.is_file() and path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes)", hint="copy the file again")
    if entry is None:
        raise FormatError(f"{path} has an unknown format", hint=f"expected one of {', '.join(SUFFIXES)}")
    return entry
