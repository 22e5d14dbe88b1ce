"""Parts of an image taken away, in an order: what is put in their place, and orders that mean nothing."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attunet.data.resample import resize
from attunet.data.volume import Array
from attunet.explanation.scoring.ranking import order_keys

__all__ = ["blobs", "blurred", "mixed", "voxel_order"]

Floats = npt.NDArray[np.float32]
Order = npt.NDArray[np.intp]

_BLUR = 1 / 8
_COARSE = 32


def blurred(image: Floats) -> Floats:
    """An image (C, I, J, K) in which nothing can be told any more: a Gaussian, sigma an eighth of each axis.

    A constant in its place would draw edges such as no image has, and the network would answer to those.
    """
    i, j, k = (min(size, _COARSE) for size in image.shape[1:])
    # 32 samples along an axis carry such a blur, at a small part of the price.
    coarse = resize(image, (i, j, k), antialias=True)
    sigma = [0.0, *(size * _BLUR if size > 1 else 0.0 for size in (i, j, k))]
    i, j, k = image.shape[1:]
    return np.asarray(resize(ndimage.gaussian_filter(coarse, sigma, mode="reflect"), (i, j, k)), np.float32)


def blobs(like: Floats, random: np.random.Generator) -> Floats:
    """A random field (I, J, K) from 0 up, about as coarse as the map `like`: in the order of its values, blobs.

    White noise blurred by a Gaussian, whose sigma along each axis gives neighbours the correlation they have in the
    map. Single voxels in random order would look like noise, not like a part of the image that is missing.
    """
    sigma = [_sigma(like, axis) for axis in range(3)]
    noise = random.standard_normal(like.shape, np.float32)
    # "wrap" keeps the spread alike everywhere; other borders would gather the extremes there
    field = np.asarray(ndimage.gaussian_filter(noise, sigma, mode="wrap"), np.float32)
    field -= field.min()
    return field


def voxel_order(alpha: Floats, ties: Floats) -> Order:
    """Flat voxel indices of a map (I, J, K) from 0 up, its highest value first; equal ones by another map's.

    With `blobs` for ties, a constant map has the blobs' order.
    """
    # Keys, because stitching makes equal coefficients differ in their last digits, window by window.
    return np.lexsort((-ties.ravel(), -order_keys(np.ascontiguousarray(alpha)).ravel()))


def mixed(image: Floats, other: Floats, order: Order, share: float) -> Floats:
    """The image (C, I, J, K) with the first share of an order's voxels taken from the other image."""
    top: Array = np.zeros(order.size, bool)
    top[order[: round(share * order.size)]] = True
    return np.where(top.reshape(image.shape[1:]), other, image)


def _sigma(field: Floats, axis: int) -> float:
    """In voxels: of the Gaussian that correlates the neighbours of blurred noise as the field's are.

    That correlation is exp(-1 / (4 sigma^2)); between half a voxel and the sigma of `blurred`.
    """
    size = int(field.shape[axis])
    if size == 1:
        return 0.0
    most = max(0.5, size * _BLUR)
    step = float(np.square(np.diff(field, axis=axis), dtype=np.float64).mean())
    correlation = 1 - step / (2 * float(field.var(dtype=np.float64))) if step > 0 else 1.0
    if correlation >= 1:
        return most
    return min(most, max(0.5, sqrt(-1 / (4 * log(correlation))))) if correlation > 0 else 0.5
