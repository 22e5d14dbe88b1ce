"""Images in memory, as programs hand them over: arrays, tensors, lists, nibabel and SimpleITK images as volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attunet.data.formats.table import stem_of
from attunet.data.geometry import LPS_TO_RAS, MM_PER_UNIT, length_unit
from attunet.data.volume import Array, Volume
from attunet.errors import DataError

__all__ = ["TAKEN", "volume_in_memory"]

TAKEN = (
    "a file, a Case, a Volume, a numpy array or a list (I, J), (I, J, K) or (C, I, J, K), a torch tensor, or an image "
    "of nibabel or SimpleITK"
)
"""What an image may be."""

_SAFE: dict[str, str] = {"b": "u1", "i": "", "u": "", "f": ""}
"""Kinds of numpy types that are images, and the type that they become; empty for their own."""


def volume_in_memory(image: object, spacing: tuple[float, ...] | None = None) -> tuple[str, Volume]:
    """The name and the volume of an image that is no file; geometry that it carries is kept.

    Args:
        image: see `TAKEN`.
        spacing: voxel size in mm of an image without geometry; None for 1 mm.
    Returns: a name for the case, and the volume.
    Raises: DataError for anything else, and for values that are no real numbers.
    """
    if isinstance(image, Volume):
        return "volume", Volume(_numbers(image.array), image.affine, image.unit, image.calibrated)
    for is_of, read in _LIBRARIES:
        if is_of(image):
            return read(image, spacing)
    if isinstance(image, np.ndarray | list | tuple) or hasattr(image, "__array__"):
        return "array", Volume.from_array(_numbers(_array(image)), spacing or (1.0, 1.0, 1.0))
    raise DataError(f"got {_named(image)}, expected {TAKEN}", hint="convert it to one of these")


def _array(image: Any) -> Array:
    try:
        return np.asarray(image)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{_named(image)} is not an array of numbers: {error}", hint=f"give {TAKEN}") from error


def _numbers(array: Array) -> Array:
    """The array in the machine's byte order, with positive strides, as integers or floats that numpy computes with."""
    if array.dtype.kind not in _SAFE:
        raise DataError(f"the image holds values of type {array.dtype}, expected real numbers", hint=f"give {TAKEN}")
    kind = np.dtype(_SAFE[array.dtype.kind] or array.dtype.newbyteorder("="))
    if kind.kind == "f" and kind.itemsize not in (4, 8):
        kind = np.dtype(np.float32 if kind.itemsize == 2 else np.float64)
    return np.require(np.ascontiguousarray(array) if min(array.strides, default=0) < 0 else array, kind, ["ALIGNED"])


def _is_tensor(image: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "torch" and kind.__name__ == "Tensor" for kind in _kinds(image))


def _tensor(image: Any, spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
    """A tensor of any device and type; a MONAI MetaTensor (C, ...) brings its affine."""
    try:
        plain = image.detach().cpu()
        array = _array(plain.float() if plain.is_floating_point() and plain.element_size() < 4 else plain)
    except (RuntimeError, TypeError) as error:
        raise DataError(f"this tensor cannot become an array: {error}", hint="give a dense tensor") from error
    affine = getattr(image, "affine", None)
    if spacing is None and affine is not None and np.shape(affine) == (4, 4) and array.ndim == 4:
        return "tensor", Volume(_numbers(array), np.asarray(affine, np.float64))
    return "tensor", Volume.from_array(_numbers(array), spacing or (1.0, 1.0, 1.0))


def _is_nibabel(image: object) -> bool:
    return hasattr(image, "dataobj") and hasattr(image, "affine")


def _nibabel(image: Any, _spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
    array = _array(image.dataobj)
    array = array.reshape(*array.shape[:3], *(size for size in array.shape[3:] if size > 1))
    if not 2 <= array.ndim <= 4:
        raise DataError(f"a nibabel image of shape {array.shape}, expected up to four axes", hint="choose one frame")
    array = array.reshape(*array.shape, *(1,) * (3 - array.ndim))
    channels = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    affine = np.eye(4) if image.affine is None else np.array(image.affine, np.float64)
    unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    affine[:3] *= MM_PER_UNIT[length_unit(unit) or "mm"]
    file = image.get_filename() if hasattr(image, "get_filename") else None
    return stem_of(Path(file)) if file else "image", Volume(_numbers(channels), affine)


def _is_simpleitk(image: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "SimpleITK" and kind.__name__ == "Image" for kind in _kinds(image))


def _simpleitk(image: Any, _spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
    """ITK's arrays are (K, J, I, C), its world is LPS."""
    import SimpleITK as sitk  # noqa: N813

    axes = image.GetDimension()
    if axes not in (2, 3):
        raise DataError(f"a SimpleITK image of {axes} axes, expected 2 or 3", hint="extract one frame")
    array = np.array(sitk.GetArrayViewFromImage(image))  # a copy: the view does not keep the image alive
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    array = array.T if axes == 3 else array.T[..., None]
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(image.GetDirection(), (axes, axes)) * np.array(image.GetSpacing())
    affine[:axes, 3] = image.GetOrigin()
    return "image", Volume(_numbers(array), LPS_TO_RAS @ affine)


def _kinds(image: object) -> Iterator[type]:
    return iter(type(image).__mro__)


def _named(image: object) -> str:
    return f"a {type(image).__module__}.{type(image).__qualname__}".replace("builtins.", "")


_Read = Callable[[Any, tuple[float, ...] | None], tuple[str, Volume]]
_LIBRARIES: tuple[tuple[Callable[[object], bool], _Read], ...] = (
    (_is_tensor, _tensor),
    (_is_nibabel, _nibabel),
    (_is_simpleitk, _simpleitk),
)
"""Libraries whose images are known by their type, so that none is imported for this."""
