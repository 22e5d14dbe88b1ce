"""NRRD and MetaImage, by SimpleITK, whose coordinates are LPS+; ours are RAS+."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.volume import Affine, Volume
from attunet.errors import FormatError, last_line
from attunet.files import staged

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

__all__ = ["read_itk", "write_itk"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
COMPRESSION_LEVEL = 1


def _itk() -> Any:
    """SimpleITK, imported when needed: the import takes a quarter of a second."""
    import SimpleITK

    return SimpleITK


def read_itk(path: Path) -> Volume:
    """Read a 2-D or 3-D image, vector components as channels; a fourth axis becomes the channels too.

    Raises: FormatError when the file cannot be read or has more axes.
    """
    try:
        image = _itk().ReadImage(str(path))
    except RuntimeError as error:
        raise FormatError(
            f"cannot read {path}: {_reason(error)}",
            hint="the file, or the data file its header names, may be missing or truncated: copy it again",
        ) from error
    components = image.GetNumberOfComponentsPerPixel()
    dimension = image.GetDimension()
    if dimension > 4 or (dimension == 4 and components > 1):
        raise FormatError(
            f"{path} has {dimension} axes of {components} components, expected at most three spatial axes and one "
            "channel axis",
            hint="split it into one file per time point",
        )
    # (..., K, J, I[, C]) transposed is ([C,] I, J, K, ...)
    array = to_native(_itk().GetArrayFromImage(image).T, path)
    if dimension == 2:
        array = array[..., None]
    if dimension == 4:
        array = np.moveaxis(array, -1, 0)
    elif components == 1:
        array = array[None]
    return Volume(array, _affine(image, min(dimension, 3)))


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


def _affine(image: sitk.Image, axes: int) -> Affine:
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:axes, :axes]
    affine = np.eye(4)
    affine[:axes, :axes] = direction * np.asarray(image.GetSpacing())[:axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    return np.asarray(LPS_TO_RAS @ affine)


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
