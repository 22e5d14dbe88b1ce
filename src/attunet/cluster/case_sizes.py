"""How large cases are before they are read: voxels of their headers, and the memory that they need on a worker.

Sizes decide which case starts first, and what is asked of a cluster; the largest cases are read once for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import psutil

from attunet.data.cases import Case
from attunet.data.formats import is_picture
from attunet.data.formats.nifti import nifti_voxels
from attunet.data.inputs import input_bytes
from attunet.documents import open_regular
from attunet.inference.budget import resident_bytes
from attunet.inference.estimate import CaseEstimate, estimate_cases
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

__all__ = ["case_memory", "case_sizes"]

_READERS = 8
_MEASURED, _MOST_TRIES = 2, 5
"""Largest cases whose memory is estimated, and how many are read to find that many that can be."""
_ROOM = 1.1
_BYTES_PER_VOXEL = 2
_BYTES_TO_READ = 64
"""A voxel may take so many bytes of the memory that is free here; cases beyond that are not read, but calculated."""
_NIFTI = (".nii", ".nii.gz")


def case_sizes(cases: Sequence[Case]) -> dict[str, int]:
    """The voxels of each case as the header of its first file says; from the size of the file where no header does.

    A case whose file cannot be opened has one voxel: that it is unusable is found out when it is its turn.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip((case.id for case in cases), pool.map(_voxels, cases), strict=True))


def case_memory(
    segmenter: Segmenter, cases: Sequence[Case], sizes: Mapping[str, int], options: PredictOptions
) -> dict[str, int]:
    """Bytes that a worker needs for each case: those of the largest are estimated as for --dry-run, the others follow.

    Args:
        segmenter: the model, whose engines are run once.
        cases: the cases.
        sizes: their sizes, see `case_sizes`.
        options: options of the predictions.
    Returns: the bytes by name; zeros when none of the largest can be read.
    """
    readable = psutil.virtual_memory().available // _BYTES_TO_READ
    largest = sorted((case for case in cases if sizes[case.id] <= readable), key=lambda case: -sizes[case.id])
    found: list[CaseEstimate] = []
    for estimate in estimate_cases(segmenter, largest[:_MOST_TRIES], options):
        if estimate.error is None:
            found.append(estimate)
        if len(found) == _MEASURED:
            break
    if not found:
        return dict.fromkeys(sizes, 0)
    base = resident_bytes()
    slope = max(max(0, each.peak_bytes - base) / sizes[each.case] for each in found)
    limit = options.max_memory or float("inf")
    return {name: int(min(limit, _ROOM * (base + slope * size))) for name, size in sizes.items()}


def _voxels(case: Case) -> int:
    if case.remote:
        return max(1, input_bytes(case) // _BYTES_PER_VOXEL)
    path = case.images[0]
    try:
        return max(1, _reader(path)(path))
    except Exception:  # of any library that opens a damaged file
        return 1


def _reader(path: Path) -> Callable[[Path], int]:
    if path.name.lower().endswith(_NIFTI):
        return nifti_voxels
    return _picture_voxels if is_picture(path) else _file_voxels


def _picture_voxels(path: Path) -> int:
    from PIL import Image

    from attunet.data.formats.raster import PILLOW_FORMATS

    Image.init()
    with open_regular(path) as stream, Image.open(stream, formats=PILLOW_FORMATS) as picture:
        return prod(picture.size) * getattr(picture, "n_frames", 1)


def _file_voxels(path: Path) -> int:
    """From the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file()) // _BYTES_PER_VOXEL
