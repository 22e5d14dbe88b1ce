"""Pairs of a header (.hdr) and voxels (.img), which are only read: NIfTI, and Analyze 7.5 with SPM's additions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attunet.data.dataset import Problem
from attunet.data.formats.limits import MAX_DEFLATE_RATIO, check_size
from attunet.data.formats.series import Series, header_series
from attunet.data.formats.text_headers import unit_warning
from attunet.data.formats.voxels import to_native
from attunet.data.geometry import MM_PER_UNIT, length_unit
from attunet.data.volume import Volume
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["check_pair", "header_path", "pair_series", "read_pair"]

HEADERS = {".img": (".hdr",), ".img.gz": (".hdr.gz", ".hdr")}
VOXELS = {".hdr": (".img", ".img.gz"), ".hdr.gz": (".img.gz",)}
NIFTI = b"ni1\0"
MAGIC_AT = 344
HEADER_BYTES = 348


def read_pair(path: Path) -> Volume:
    """Read the image that a header and a file of voxels make up; `path` is either of them.

    Analyze 7.5 has no orientation: its rows run from right to left (radiological order), as nibabel and SPM read it,
    and the origin is that of SPM, or else the centre. A matrix that SPM keeps in a .mat file of the same name is used.
    A fourth axis becomes the channels.
    Raises: FormatError when one of the two is missing or their sizes differ, GeometryError when the affine cannot be
        inverted; whatever nibabel raises on damaged bytes.
    """
    image = _load(path)
    shape = tuple(map(int, image.shape))
    if len([size for size in shape[3:] if size > 1]) > 1:
        raise FormatError(
            f"{path} has shape {shape}, expected three spatial axes and at most one channel axis",
            hint="split it into one file per time point",
        )
    voxels = Path(image.file_map["image"].filename)
    with open_regular(voxels) as stream:
        stored = stream.seek(0, 2)
    ratio = MAX_DEFLATE_RATIO if voxels.suffix.lower() == ".gz" else 1
    offset = 0 if ratio > 1 else int(image.dataobj.offset)
    check_size(voxels, shape, image.get_data_dtype().itemsize, stored=stored - offset, ratio=ratio)
    array = to_native(np.asanyarray(image.dataobj), path)
    spatial = (*shape, 1, 1)[:3]
    channels = np.moveaxis(array.reshape(*spatial, -1), -1, 0)
    return Volume(channels, _in_mm(image), _unit(image))


def check_pair(path: Path) -> Iterator[Problem]:
    """What a pair leaves open: the orientation and, without SPM's origin, the position. Raises: as `read_pair`."""
    image = _load(path)
    if _is_nifti(header_path(path)):
        yield from unit_warning([_unit(image)], path)
        return
    if Path(image.file_map["mat"].filename).is_file():
        return  # SPM's matrix says everything
    header = image.header
    known = bool(np.any(header["origin"][:3]))
    origin = "the origin is that of SPM" if known else "the origin is taken as the centre of the image"
    yield _warning(
        "orientation unknown",
        f"{path.name} is Analyze 7.5 without orientation: its rows are taken to run from right to left, and {origin}",
    )


def pair_series(path: Path) -> Series | None:
    """The series in a pair whose fourth axis is time. Raises: as `read_pair`."""
    return header_series(_load(path).header)


def header_path(path: Path) -> Path:
    """The header of a pair, from either of its files. Raises: FormatError when it is missing."""
    return path if _ending(path) in VOXELS else _partner(path, HEADERS[_ending(path)])


def _load(path: Path) -> Any:
    """The image with its voxels unread; its file map names the two files as they are on disk."""
    from nibabel import Nifti1Pair, Spm99AnalyzeImage

    header = header_path(path)
    voxels = path if _ending(path) in HEADERS else _partner(path, VOXELS[_ending(path)])
    kind = Nifti1Pair if _is_nifti(header) else Spm99AnalyzeImage
    files = kind.make_file_map({"header": str(header), "image": str(voxels)})
    matrix = voxels.with_name(f"{voxels.name[: -len(_ending(voxels))]}.mat")
    if kind is Spm99AnalyzeImage:
        files["mat"].filename = str(matrix)  # which may be missing
    return kind.from_file_map(files, mmap=False)  # a mapped file that becomes shorter would end the process


def _partner(path: Path, endings: tuple[str, ...]) -> Path:
    stem = path.name[: -len(_ending(path))].casefold()
    names = {f"{stem}{ending}" for ending in endings}
    found = sorted(file for file in path.parent.iterdir() if file.name.casefold() in names)
    if not found:
        raise FormatError(
            f"{path} is one of a pair of files, and {path.name[: -len(_ending(path))]}{endings[0]} is missing",
            hint="put header and voxels into one folder, under one name",
        )
    return found[0]


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next(ending for ending in (".img.gz", ".hdr.gz", ".img", ".hdr") if name.endswith(ending))


def _bytes(header: Path) -> bytes:
    from isal import igzip

    with open_regular(header) as file, igzip.open(file, "rb") if _ending(header) == ".hdr.gz" else file as stream:
        return bytes(stream.read(HEADER_BYTES))


def _is_nifti(header: Path) -> bool:
    return _bytes(header)[MAGIC_AT:] == NIFTI


def _unit(image: Any) -> str:
    """The unit of length that a NIfTI header declares; mm in Analyze, or where it is unknown."""
    get = getattr(image.header, "get_xyzt_units", None)
    return (length_unit(get()[0]) or "mm") if get is not None else "mm"


def _in_mm(image: Any) -> Any:
    scale = MM_PER_UNIT[_unit(image)]
    return np.diag([scale, scale, scale, 1.0]) @ image.affine


def _warning(kind: str, message: str) -> Problem:
    remedy = "nothing if this is right; otherwise write it as .nii.gz with its matrix"
    return Problem("", kind, message, remedy, "warning")
