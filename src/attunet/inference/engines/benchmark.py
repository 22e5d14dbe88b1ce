"""Engines timed against each other on the windows of one image, and how far they agree with a reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.evaluation.overlap import count
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import label_masks
from attunet.inference.windows.tiling import window_starts

__all__ = ["LEAST_DICE", "EngineTiming", "compare_engines", "fastest", "windows_of"]

Floats = npt.NDArray[np.float32]

LEAST_DICE = 0.999
"""Of an engine's masks with the reference's, for the engine to be chosen."""

_WINDOWS = 8


@dataclass(frozen=True)
class EngineTiming:
    """Speed and exactness of one engine.

    Args:
        name: of the engine.
        seconds: per window, of each round.
        logit_error: largest difference of its logits from the reference's.
        dice: mean Dice of the labels in its masks and the reference's.
    """

    name: str
    seconds: tuple[float, ...]
    logit_error: float
    dice: float

    @property
    def typical(self) -> float:
        """The median seconds per window."""
        return median(self.seconds)

    @property
    def exact(self) -> bool:
        """Whether its masks are close enough to the reference's."""
        return self.dice >= LEAST_DICE

    def ratio_to(self, other: EngineTiming) -> tuple[float, float, float]:
        """How many times faster than another it was, round by round: median, lowest and highest."""
        ratios = [theirs / mine for mine, theirs in zip(self.seconds, other.seconds, strict=True)]
        return median(ratios), min(ratios), max(ratios)


def windows_of(volume: Volume, plan: Plan, most: int = _WINDOWS) -> Floats:
    """Windows of an image as input of the plan's networks.

    Args:
        volume: the image.
        plan: of the networks.
        most: windows, evenly picked when there are more.
    Returns: (N, C, *patch).
    Raises: DataError, GeometryError as `prepare`.
    """
    image = prepare(volume, plan.preprocessing).array
    short = [max(0, edge - size) for edge, size in zip(plan.patch_size, image.shape[1:], strict=True)]
    image = np.pad(image, [(0, 0), *((gap // 2, gap - gap // 2) for gap in short)], mode="edge")
    starts = list(product(*window_starts(image.shape[1:], plan.patch_size, 0.5)))
    chosen = [starts[index] for index in np.unique(np.linspace(0, len(starts) - 1, most).round().astype(int))]
    boxes = [tuple(slice(low, low + edge) for low, edge in zip(at, plan.patch_size, strict=True)) for at in chosen]
    windows = np.stack([image[:, *box] for box in boxes])
    return windows[..., 0] if plan.network.spatial_dims == 2 else windows


def compare_engines(
    engines: Mapping[str, Engine],
    windows: Floats,
    plan: Plan,
    *,
    repeat: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> list[EngineTiming]:
    """Time every engine on the windows, in turns, so that what else the machine does falls on all of them.

    Args:
        engines: by name, the reference first.
        windows: (N, C, *patch).
        plan: of the networks.
        repeat: rounds.
        advance: called after each engine's turn.
    Returns: the timing of each engine, in their order.
    """
    logits = {name: _answer(engine, windows) for name, engine in engines.items()}  # nothing is timed cold
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeat):
        for name, engine in engines.items():
            started = time.perf_counter()
            _answer(engine, windows)
            seconds[name].append((time.perf_counter() - started) / len(windows))
            advance()
    reference = next(iter(logits.values()))
    return [
        EngineTiming(
            name,
            tuple(seconds[name]),
            float(np.abs(logits[name] - reference).max()),
            _agreement(reference, logits[name], plan),
        )
        for name in engines
    ]


def fastest(measured: Sequence[EngineTiming]) -> EngineTiming:
    """The fastest of those that are exact; the reference always is."""
    return min((each for each in measured if each.exact), key=lambda each: each.typical)


def _answer(engine: Engine, windows: Floats) -> Floats:
    parts = (windows[first : first + engine.batch] for first in range(0, len(windows), engine.batch))
    return np.concatenate([engine(part).logits for part in parts])


def _agreement(reference: Floats, other: Floats, plan: Plan) -> float:
    """Mean Dice over the labels that either mask holds, all windows together; 1 where neither holds any."""
    pairs = zip(_masks(reference, plan), _masks(other, plan), strict=True)
    scores = [count(expected, given).dice for expected, given in pairs]
    known = [dice for dice in scores if not np.isnan(dice)]
    return float(np.mean(known)) if known else 1.0


def _masks(logits: Floats, plan: Plan) -> list[npt.NDArray[np.bool_]]:
    """Of each foreground label or region, where it is decided for, in all windows: logits decide as probabilities do,
    but for regions, where 0 stands for one half.
    """
    joined = np.moveaxis(logits, 1, 0)
    return label_masks(joined + np.float32(0.5) if plan.regions else joined, plan)
