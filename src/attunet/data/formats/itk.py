"""Writing NRRD and MetaImage, by SimpleITK, whose coordinates are LPS+; ours are RAS+."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attunet.data.formats.voxels import to_storable
from attunet.data.geometry import LPS_TO_RAS
from attunet.data.volume import Volume
from attunet.errors import FormatError, last_line
from attunet.files import staged

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

__all__ = ["write_itk"]

COMPRESSION_LEVEL = 1


def _itk() -> Any:
    """SimpleITK, imported when needed: the import takes a quarter of a second."""
    import SimpleITK

    return SimpleITK


def write_itk(volume: Volume, path: Path) -> None:
    """Write a compressed image, channels as vector components; the grid of a 2-D image is written as 2-D.

    Raises: FormatError when the file cannot be written.
    """
    image = _image(volume)
    try:
        with staged(path) as target:
            _itk().WriteImage(image, str(target), True, COMPRESSION_LEVEL)
    except RuntimeError as error:
        raise FormatError(f"cannot write {path}: {_reason(error)}", hint="check that the disk is not full") from error


def _image(volume: Volume) -> sitk.Image:
    array = to_storable(volume.array)
    lps = LPS_TO_RAS @ volume.affine
    axes = 2 if _is_flat(volume) else 3
    array = array[..., 0] if axes == 2 else array
    stored = array[0].T if volume.channels == 1 else array.T
    image = _itk().GetImageFromArray(np.ascontiguousarray(stored), isVector=volume.channels > 1)
    spacing = np.linalg.norm(lps[:axes, :axes], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:axes, :axes] / spacing).ravel().tolist())
    image.SetOrigin(lps[:axes, 3].tolist())
    return image


def _is_flat(volume: Volume) -> bool:
    """Whether the grid is that of a 2-D image: one slice of 1 mm in the plane z = 0."""
    plane = np.array([0.0, 0.0, 1.0, 0.0])
    affine = volume.affine
    return bool(volume.spatial_shape[2] == 1 and (affine[2] == plane).all() and (affine[:, 2] == plane).all())


def _reason(error: Exception) -> str:
    return last_line(error).removeprefix("ERROR: ")
