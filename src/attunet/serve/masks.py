"""Masks for clients that want another format than NIfTI, and the check of labels that clients send."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attunet.data.alignment import same_grid
from attunet.data.cases import Case, read_case_image
from attunet.data.formats import read_label, write_volume
from attunet.data.formats.isolation import in_own_process
from attunet.data.formats.series import WHOLE, WhatToRead
from attunet.data.volume import Volume
from attunet.errors import DataError, GeometryError

__all__ = ["check_label_file", "mask_as"]

_TO_LPS = np.diag([-1.0, -1.0, 1.0])
LARGEST_BYTE = 255
AS_STORED = ".nii.gz"


def mask_as(mask: Path, suffix: str) -> bytes:
    """A mask of ours in a format that a client asks for.

    Args: the file, NIfTI; .nii.gz, or .nrrd for bytes without compression.
    Returns: the content of the file.
    Raises: DataError for another format, or labels that bytes cannot hold.
    """
    if suffix == AS_STORED:
        return mask.read_bytes()
    if suffix != ".nrrd":
        raise DataError("masks are .nii.gz or .nrrd", hint="ask for one of these as result_extension")
    return _raw_nrrd(read_label(mask))


def check_label_file(path: Path, case: Case, target: Path) -> None:
    """Write a label that a client sent as NIfTI, if it is one, and on the grid of its image.

    Other processes read both, which damaged files may kill.

    Args:
        path: the file.
        case: the case of the image.
        target: the file to write, .nii.gz.
    Raises: FormatError or LabelError when it is no label, GeometryError when it is on another grid.
    """
    label = in_own_process(_read_mask)(path)
    image = in_own_process(_read_image)(case.images[0], WhatToRead(case.key))
    if not same_grid(label, image):
        raise GeometryError(
            f"the label has {label.spatial_shape} voxels and its image {image.spatial_shape}, or they lie elsewhere",
            hint="save it on the grid of the image",
        )
    write_volume(label, target)


def _read_mask(path: Path, _part: WhatToRead = WHOLE) -> Volume:
    return read_label(path)


def _read_image(path: Path, part: WhatToRead = WHOLE) -> Volume:
    volume = read_case_image(Case("image", (path,), None, key=part.key))
    return volume.with_array(np.zeros((1, *volume.spatial_shape), np.uint8))  # only its grid is asked for


def _raw_nrrd(mask: Volume) -> bytes:
    """NRRD of bytes without compression, its slices ascending along the normal, as OHIF reads it without its header.

    Source: http://teem.sourceforge.net/nrrd/format.html.
    """
    array, affine = mask.array[0], mask.affine
    if array.max(initial=0) > LARGEST_BYTE or array.min(initial=0) < 0:
        raise DataError(f"the mask has labels up to {array.max()}, which bytes cannot hold", hint="ask for .nii.gz")
    if np.linalg.det(affine[:3, :3]) < 0:  # the last axis runs against the normal of the first two
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, array.shape[2] - 1], [0, 0, 0, 1.0]])
        array = array[:, :, ::-1]
    directions = " ".join(
        f"({','.join(f'{value:.10g}' for value in column)})" for column in (_TO_LPS @ affine[:3, :3]).T
    )
    origin = ",".join(f"{value:.10g}" for value in _TO_LPS @ affine[:3, 3])
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, array.shape))}\nspace directions: {directions}\n"
        f"kinds: domain domain domain\nencoding: raw\nspace origin: ({origin})\n\n"
    )
    content: bytes = array.astype(np.uint8).tobytes(order="F")
    return header.encode("ascii") + content
