"""Running windows: cut out, mirrored, through an engine, mirrored back, added with Gaussian weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from attunet.data.resample import resize
from attunet.inference.engines.protocol import Engine
from attunet.inference.windows.canvas import Canvas
from attunet.inference.windows.tiling import Triple

__all__ = ["Windows", "gaussian", "run_windows", "windows_to_fill"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """How windows are run and blended.

    Args: axes to mirror, whose every combination is averaged; for an axis along which left becomes right, the channel
        that each class has in such a copy; whether to stitch the attention too; by gate, the image voxels along each
        axis for one of its coefficients (by default patch / grid, which is right where the network need not pad the
        patch); a function called with the windows just done.
    """

    mirror_axes: tuple[int, ...] = ()
    exchange: Mapping[int, Sequence[int]] = field(default_factory=dict)
    attention: bool = False
    strides: Mapping[str, Triple] = field(default_factory=dict)
    advance: Callable[[int], None] = lambda _: None

    @property
    def copies(self) -> list[tuple[int, ...]]:
        """The axes that are mirrored in each copy of a window, the plain one first."""
        axes = self.mirror_axes
        return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

    def order(self, copy: tuple[int, ...], channels: int) -> list[int]:
        """The channel of a copy's logits for each class."""
        order = list(range(channels))
        for swapped in (exchanged for axis, exchanged in self.exchange.items() if axis in copy):
            order = [order[channel] for channel in swapped]
        return order


def windows_to_fill(engines: Sequence[Engine], how: Windows, batches: int) -> int:
    """How many windows, with their copies, make up so many batches of the engines."""
    return -(-batches * max(engine.batch for engine in engines) // len(how.copies))


@cache
def gaussian(patch: Triple, sigma: float = 1 / 8) -> Floats:
    """Weights (I, J, K) falling off from the window's centre; sigma as a share of the patch, never zero anywhere."""
    axes = [np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / max(size * sigma, 1e-3)) ** 2) for size in patch]
    weight = np.einsum("i,j,k->ijk", *axes)
    return np.asarray(np.maximum(weight / weight.max(), 1e-3), np.float32)


def run_windows(
    engine: Engine, canvas: Canvas, image: Floats, starts: Sequence[Triple], weight: Floats, how: Windows
) -> None:
    """All copies of some windows, added to the canvas in their order."""
    copies = how.copies
    passes = [(start, axes) for start in starts for axes in copies]
    for first in range(0, len(passes), engine.batch):
        batch = passes[first : first + engine.batch]
        _run_batch(engine, canvas, image, batch, weight, how)
        how.advance((first + len(batch)) // len(copies) - first // len(copies))


def _run_batch(
    engine: Engine,
    canvas: Canvas,
    image: Floats,
    batch: Sequence[tuple[Triple, tuple[int, ...]]],
    weight: Floats,
    how: Windows,
) -> None:
    outputs = _outputs(engine, np.stack([_patch(image, start, weight.shape, axes) for start, axes in batch]), how)
    for index, (start, axes) in enumerate(batch):
        for name, array in outputs.items():
            values = np.flip(array[index], _spatial(axes))
            order = how.order(axes, len(values)) if name == "logits" else range(len(values))
            canvas.add(name, values, order, start, weight)


def _patch(image: Floats, start: Triple, patch: tuple[int, ...], axes: tuple[int, ...]) -> Floats:
    """A window of the image, mirrored; beyond the image's edge that is repeated."""
    ends = [low + edge for low, edge in zip(start, patch, strict=True)]
    inside = [slice(max(low, 0), end) for low, end in zip(start, ends, strict=True)]
    window = image[:, *inside]
    beyond = [(max(-low, 0), max(end - size, 0)) for low, end, size in zip(start, ends, image.shape[1:], strict=True)]
    if any(map(any, beyond)):
        window = np.pad(window, [(0, 0), *beyond], mode="edge")
    return np.flip(window, _spatial(axes))


def _outputs(engine: Engine, patches: Floats, how: Windows) -> dict[str, Floats]:
    """Every output wanted of patches (B, C, *patch), on the grid of the patch."""
    i, j, k = patches.shape[2:]
    output = engine(patches[..., 0] if k == 1 else patches)
    wanted = {"logits": output.logits, **(output.attention if how.attention else {})}
    full = {name: array[..., None] if k == 1 else array for name, array in wanted.items()}
    return {name: _grown(array, (i, j, k), how.strides.get(name)) for name, array in full.items()}


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
