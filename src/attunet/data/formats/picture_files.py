"""What is checked before a picture is decoded: that its file is whole, holds one picture, and whether it is lossy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attunet.data.formats.jpeg2000 import Jpeg2000Header, read_jpeg2000_header
from attunet.data.formats.limits import AGAIN
from attunet.data.formats.png import PngHeader, read_png_header
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["PictureFile", "check_picture_file"]

GIF_TRAILER, GIF_EXTENSION, GIF_PICTURE, GIF_PADDING = 0x3B, 0x21, 0x2C, 0x00
GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
COLOUR_TABLE = 0x80
LOSSY_WEBP = b"VP8 "
NETPBM = {b"P2": (b"255", b"65535"), b"P5": (b"255", b"65535"), b"P3": (b"255",), b"P6": (b"255",)}
HEADER = 2**12
FRAMES = "save the slices as pages of a TIFF file or as NIfTI, or each picture in a file of its own"


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """What the file of a picture declares.

    Args:
        frames: number of pictures in it.
        lossy: whether its compression changes values.
        png: header of a PNG file.
        jpeg2000: header of a JPEG 2000 file.
    """

    frames: int = 1
    lossy: bool = False
    png: PngHeader | None = None
    jpeg2000: Jpeg2000Header | None = None


def check_picture_file(path: Path, kind: str) -> PictureFile:
    """Check a picture file without decoding it.

    Args:
        path: the file.
        kind: Pillow's name of its format.
    Returns: what it declares.
    Raises: FormatError when it is truncated or damaged, or an animation.
    """
    file = CHECKS[kind](path) if kind in CHECKS else PictureFile()
    if file.frames > 1:
        raise FormatError(f"{path} contains {file.frames} pictures, expected one", hint=FRAMES)
    return file


def _check_png(path: Path) -> PictureFile:
    header = read_png_header(path)
    return PictureFile(frames=header.frames, png=header)


def _check_jpeg2000(path: Path) -> PictureFile:
    header = read_jpeg2000_header(path)
    return PictureFile(lossy=not header.reversible, jpeg2000=header)


def _check_gif(path: Path) -> PictureFile:
    """Count the pictures of a GIF file, whose blocks must be whole, to the trailer."""
    with open_regular(path) as stream:
        data = stream.read()  # not mapped: the file may become shorter meanwhile
    try:
        return PictureFile(frames=_gif_frames(data, path))
    except IndexError as error:
        raise FormatError(f"{path} is truncated: it ends inside a block", hint=AGAIN) from error


def _gif_frames(data: bytes, path: Path) -> int:
    if data[:6] not in GIF_SIGNATURES:
        raise FormatError(f"{path} is not a GIF file", hint=AGAIN)
    frames, position = 0, 13 + _table_bytes(data[10])
    while (block := data[position]) != GIF_TRAILER:
        if block == GIF_PADDING:
            position += 1
            continue
        if block not in (GIF_EXTENSION, GIF_PICTURE):
            raise FormatError(f"{path} is damaged: {block:#x} is not a kind of block in GIF", hint=AGAIN)
        frames += block == GIF_PICTURE
        position += 11 + _table_bytes(data[position + 9]) if block == GIF_PICTURE else 2
        while length := data[position]:
            position += length + 1
        position += 1
    return frames


def _table_bytes(flags: int) -> int:
    """Bytes of the colour table that the flags of a GIF block announce."""
    return 3 << ((flags & 7) + 1) if flags & COLOUR_TABLE else 0


def _check_webp(path: Path) -> PictureFile:
    """Compare the declared size of a WebP file with the file's, and count its frames."""
    with open_regular(path) as stream:
        data = stream.read()
    size = int.from_bytes(data[4:8], "little") + 8
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or size > len(data):
        raise FormatError(f"{path} is truncated: it declares {size} bytes, it has {len(data)}", hint=AGAIN)
    position, frames, lossy = 12, 0, False
    while position + 8 <= size:
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        frames += kind == b"ANMF"
        lossy = lossy or kind == LOSSY_WEBP
        position += 8 + length + length % 2
    return PictureFile(frames=max(1, frames), lossy=lossy)


def _check_ppm(path: Path) -> PictureFile:
    """Refuse what Pillow changes: values of another maximum, 16 bits in colour, single bits (1 is black)."""
    with open_regular(path) as stream:
        head = re.sub(rb"#[^\n]*\n", b" ", stream.read(HEADER)).split()
    if head[3] not in NETPBM.get(head[0], ()):
        raise FormatError(
            f"{path} is {head[0].decode('latin-1')[:4]} with values to {head[3].decode('latin-1')[:9]}, "
            "expected values to 255, or to 65535 in grey",
            hint="save it as PNG",
        )
    return PictureFile()


def _check_jpeg(_: Path) -> PictureFile:
    return PictureFile(lossy=True)  # Pillow refuses a file without its end


CHECKS: dict[str, Callable[[Path], PictureFile]] = {
    "PNG": _check_png,
    "JPEG2000": _check_jpeg2000,
    "GIF": _check_gif,
    "WEBP": _check_webp,
    "PPM": _check_ppm,
    "JPEG": _check_jpeg,
    "MPO": _check_jpeg,
}
