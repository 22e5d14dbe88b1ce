"""A network over a volume larger than its patch: overlapping windows, Gaussian weights, mirrored copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, combinations, product

import numpy as np
import numpy.typing as npt

from attunet.data.resample import resize
from attunet.inference.engines import Engine

__all__ = ["Stitched", "count_windows", "gaussian", "sliding_window", "window_starts"]

Floats = npt.NDArray[np.float32]
Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Stitched:
    """Logits (classes, I, J, K) and, when asked for, attention by gate (maps, I, J, K) on the model grid."""

    logits: Floats
    attention: dict[str, Floats]


def sliding_window(
    image: Floats,
    engine: Engine,
    patch: Triple,
    *,
    classes: int,
    step: float = 0.5,
    mirror_axes: tuple[int, ...] = (),
    exchange: Mapping[int, Sequence[int]] | None = None,
    attention: bool = False,
    strides: Mapping[str, Triple] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Stitched:
    """Run the engine over (C, I, J, K) and blend the windows with Gaussian weights.

    Args: the patch in voxels (a depth of 1 means a 2-D network fed slice by slice); the number of classes; the step
        between windows as a share of the patch; axes to mirror, whose every combination is averaged; for an axis
        along which left becomes right, the channel that each class has in such a copy; whether to stitch the attention
        too; by gate, the image voxels along each axis for one of its coefficients (by default patch / grid, which is
        right where the network need not pad the patch); a function called with the windows just done.
    """
    padded, inside = _pad(image, patch)
    weight = gaussian(patch)
    total = np.zeros(padded.shape[1:], np.float32)
    logits = np.zeros((classes, *padded.shape[1:]), np.float32)
    maps: dict[str, Floats] = {}
    run = partial(_run, engine, patch, strides or {}, attention)
    flips = _mirrorings(mirror_axes)
    starts = product(*window_starts(padded.shape[1:], patch, step))
    passes = [(_box(start, patch), axes) for start in starts for axes in flips]
    for first in range(0, len(passes), engine.batch):
        batch = passes[first : first + engine.batch]
        for (box, axes), output in zip(batch, run(padded, batch), strict=True):
            for channels in (order for axis, order in (exchange or {}).items() if axis in axes):
                output["logits"] = output["logits"][list(channels)]
            logits[:, *box] += output["logits"] * weight
            for name in output.keys() - {"logits"}:
                target = maps.setdefault(name, np.zeros((len(output[name]), *total.shape), np.float32))
                target[:, *box] += output[name] * weight
            if not axes:
                total[box] += weight
        advance((first + len(batch)) // len(flips) - first // len(flips))
    total *= len(flips)
    for array in (logits, *maps.values()):
        array /= total
    return Stitched(logits[:, *inside], {name: maps[name][:, *inside] for name in sorted(maps)})


def count_windows(shape: Triple, patch: Triple, step: float = 0.5) -> int:
    """How many windows cover a volume of this shape."""
    covered = tuple(max(size, edge) for size, edge in zip(shape, patch, strict=True))
    return int(np.prod([len(starts) for starts in window_starts(covered, patch, step)]))


def window_starts(shape: tuple[int, ...], patch: Triple, step: float) -> tuple[list[int], ...]:
    """First voxel of each window along each axis: evenly spread, at most `step` patches apart, ending at the edge."""
    return tuple(_starts(size, edge, step) for size, edge in zip(shape, patch, strict=True))


@cache
def gaussian(patch: Triple, sigma: float = 1 / 8) -> Floats:
    """Weights (I, J, K) falling off from the window's centre; sigma as a share of the patch, never zero anywhere."""
    axes = [np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / max(size * sigma, 1e-3)) ** 2) for size in patch]
    weight = np.einsum("i,j,k->ijk", *axes)
    return np.asarray(np.maximum(weight / weight.max(), 1e-3), np.float32)


def _starts(size: int, edge: int, step: float) -> list[int]:
    if size <= edge:
        return [0]
    count = int(np.ceil((size - edge) / max(1.0, edge * step))) + 1
    return [round(position) for position in np.linspace(0, size - edge, count)]


def _pad(image: Floats, patch: Triple) -> tuple[Floats, tuple[slice, ...]]:
    """The image grown to at least one patch by repeating its edge, and where it lies in that."""
    before = [max(0, edge - size) // 2 for size, edge in zip(image.shape[1:], patch, strict=True)]
    after = [max(0, edge - size) - b for size, edge, b in zip(image.shape[1:], patch, before, strict=True)]
    inside = tuple(slice(b, b + size) for b, size in zip(before, image.shape[1:], strict=True))
    if not any(before) and not any(after):
        return image, inside
    return np.pad(image, [(0, 0), *zip(before, after, strict=True)], mode="edge"), inside


def _mirrorings(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))


def _box(start: tuple[int, ...], patch: Triple) -> Box:
    i, j, k = (slice(low, low + size) for low, size in zip(start, patch, strict=True))
    return i, j, k


def _run(
    engine: Engine,
    patch: Triple,
    strides: Mapping[str, Triple],
    attention: bool,
    image: Floats,
    passes: Sequence[tuple[Box, tuple[int, ...]]],
) -> list[dict[str, Floats]]:
    """Windows of the image, each mirrored and mirrored back: every output as (channels, *patch)."""
    flat = patch[2] == 1
    patches = np.stack([np.flip(image[:, *box], _spatial(axes)) for box, axes in passes])
    output = engine(patches[..., 0] if flat else patches)
    wanted = {"logits": output.logits, **(output.attention if attention else {})}
    full = {name: array[..., None] if flat else array for name, array in wanted.items()}
    grown = {name: _grown(array, patch, strides.get(name)) for name, array in full.items()}
    return [
        {name: np.flip(array[index], _spatial(axes)) for name, array in grown.items()}
        for index, (_, axes) in enumerate(passes)
    ]


def _grown(array: Floats, patch: Triple, stride: Triple | None) -> Floats:
    """An output (B, maps, *level grid) on the grid of the patch, as the network itself resizes.

    The network pads a patch that its strides do not divide, so that the last coefficients reach beyond the patch.
    """
    if array.shape[2:] == patch:
        return array
    covered = patch
    if stride and all(-(-n // s) == size for n, s, size in zip(patch, stride, array.shape[2:], strict=True)):
        i, j, k = (size * s for size, s in zip(array.shape[2:], stride, strict=True))
        covered = i, j, k
    i, j, k = patch
    return resize(array, covered)[:, :, :i, :j, :k]


def _spatial(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a volume in an array (C, I, J, K)."""
    return tuple(axis + 1 for axis in axes)
