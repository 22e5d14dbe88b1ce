"""Compressed images: decoded by SimpleITK, each in a file of its own that has nothing but the image.

What SimpleITK would apply to the original (the rescale of some kinds of objects, and not of others) is thereby never
applied, and of many frames only one is decoded. The size that JPEG and JPEG 2000 declare themselves is compared with
the header before the decoder takes memory for it.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from attunet.data.formats.dicom.slices import PixelLayout, StoredSlice
from attunet.data.formats.limits import AGAIN
from attunet.data.volume import Array
from attunet.errors import FormatError

__all__ = ["decompress"]

JPEG = b"\xff\xd8"
JPEG2000 = b"\xff\x4f\xff\x51"
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers of JPEG and JPEG-LS that begin a frame and give its size."""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment behind them."""
START_OF_SCAN, END = 0xDA, 0xD9
CHATTER = b"Unsupported JPEG data precision"
STANDARD_ERROR = 2

_LOCK = Lock()
_STATE: dict[str, int] = {"users": 0, "kept": -1, "file": -1}


class _Declared(NamedTuple):
    """What a compressed image declares: its size, its samples for each pixel, and bits of a sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def decompress(encoded: bytes, one: StoredSlice, scratch: Path) -> Array:
    """The stored values of a compressed image.

    Args:
        encoded: the compressed image.
        one: what its header says.
        scratch: a file that may be overwritten.
    Returns: (rows, columns), or (rows, columns, samples).
    Raises: FormatError when it cannot be decoded, or declares another size than the header.
    """
    _check_codestream(encoded, one)
    layout = one.layout if one.layout.samples > 1 else replace(one.layout, photometric="MONOCHROME2")
    return _decoded(encoded, layout, one.name, scratch)


def _decoded(encoded: bytes, layout: PixelLayout, name: str, scratch: Path) -> Array:
    import SimpleITK as sitk  # noqa: N813

    _write_single(scratch, layout, encoded)
    try:
        with _quiet_decoders() if encoded.startswith(JPEG) else nullcontext():
            decoded: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(scratch)))
    except RuntimeError:
        raise FormatError(f"the pixels of {name} cannot be decoded", hint=AGAIN) from None
    shape = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, layout.samples)
    if decoded.shape not in (shape, (1, *shape)):
        raise FormatError(f"{name} has another size than its header says", hint=AGAIN)
    return decoded.reshape(shape)


def _write_single(path: Path, layout: PixelLayout, encoded: bytes) -> None:
    """Write a file of nothing but one compressed image."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    single = Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = UID(layout.syntax)
    single.file_meta.MediaStorageSOPClassUID = single.SOPClassUID = SecondaryCaptureImageStorage
    single.file_meta.MediaStorageSOPInstanceUID = single.SOPInstanceUID = UID("2.25.1")
    single.Rows, single.Columns, single.SamplesPerPixel = layout.rows, layout.columns, layout.samples
    single.BitsAllocated, single.BitsStored, single.HighBit = layout.allocated, layout.stored, layout.high
    single.PixelRepresentation, single.PhotometricInterpretation = int(layout.signed), layout.photometric
    if layout.samples > 1:
        single.PlanarConfiguration = int(layout.planar)
    single.PixelData = encapsulate([encoded])
    single["PixelData"].VR = "OB"
    single.save_as(path, enforce_file_format=True)


def _check_codestream(encoded: bytes, one: StoredSlice) -> None:
    """Compare the size that a compressed image declares with that of the file's header.

    Raises: FormatError when they differ, or the image is damaged before it says its size.
    """
    if encoded.startswith(JPEG):
        declared = _of_jpeg(encoded)
    elif encoded.startswith(JPEG2000):
        declared = _of_jpeg2000(encoded)
    else:
        return  # RLE declares no size
    if declared is None:
        raise FormatError(f"the compressed pixels of {one.name} are damaged", hint=AGAIN)
    layout = one.layout
    if declared[:3] != (layout.rows, layout.columns, layout.samples) or declared.bits > layout.allocated:
        raise FormatError(
            f"{one.name} is compressed as {declared.columns} x {declared.rows} pixels of {declared.samples} samples of "
            f"{declared.bits} bits, but its header says {layout.columns} x {layout.rows} of {layout.samples} of "
            f"{layout.stored}",
            hint="export it again",
        )


def _of_jpeg(encoded: bytes) -> _Declared | None:
    at = 2
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in ALONE:
            at += 2
        elif marker in FRAMES and at + 10 <= len(encoded):
            bits, rows, columns, samples = struct.unpack(">BHHB", encoded[at + 4 : at + 10])
            return _Declared(rows, columns, samples, bits)
        elif marker in (START_OF_SCAN, END):
            return None
        else:
            at += 2 + max(2, int(struct.unpack(">H", encoded[at + 2 : at + 4])[0]))
    return None


def _of_jpeg2000(encoded: bytes) -> _Declared | None:
    if len(encoded) < 43:
        return None
    right, bottom, left, top = struct.unpack(">4L", encoded[8:24])
    samples, bits = struct.unpack(">HB", encoded[40:43])
    return _Declared(bottom - top, right - left, samples, (bits & 0x7F) + 1)


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """A block within which decoders write nothing about the precision of a JPEG to standard error.

    What else is written there, by any thread, appears when the last such block ends.
    """
    with _LOCK:
        if _STATE["users"] == 0:
            _begin()
        _STATE["users"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _STATE["users"] -= 1
            if _STATE["users"] == 0:
                _end()


def _begin() -> None:
    try:
        kept = os.dup(STANDARD_ERROR)
    except OSError:  # a program without standard error
        return
    with tempfile.TemporaryFile() as file:
        _STATE["kept"], _STATE["file"] = kept, os.dup(file.fileno())
    os.dup2(_STATE["file"], STANDARD_ERROR)


def _end() -> None:
    kept, file = _STATE["kept"], _STATE["file"]
    if kept < 0:
        return
    os.dup2(kept, STANDARD_ERROR)
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as written:
        rest = b"".join(line for line in written if not line.startswith(CHATTER))
    if rest:
        os.write(kept, rest)
    os.close(kept)
    _STATE["kept"], _STATE["file"] = -1, -1
