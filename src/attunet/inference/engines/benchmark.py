"""Timing of engines on the windows of one image, and their agreement with a reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.evaluation.overlap import count
from attunet.inference.coarse_pass import coarse_map
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import label_masks
from attunet.inference.windows.blending import Blending, Feed
from attunet.inference.windows.tiling import Tiling

__all__ = ["LEAST_DICE", "EngineTiming", "compare_engines", "fastest", "windows_of"]

Floats = npt.NDArray[np.float32]

LEAST_DICE = 0.999
"""Least Dice between an engine's masks and the reference's for the engine to be chosen."""

_WINDOWS = 8


@dataclass(frozen=True)
class EngineTiming:
    """Speed and accuracy of one engine.

    Args:
        name: name of the engine.
        seconds: seconds per window in each round.
        logit_error: largest difference between its logits and the reference's.
        dice: mean Dice over the labels between its masks and the reference's.
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
        """The speed ratio to another engine over the rounds: median, lowest and highest."""
        ratios = [theirs / mine for mine, theirs in zip(self.seconds, other.seconds, strict=True)]
        return median(ratios), min(ratios), max(ratios)


def windows_of(volume: Volume, plan: Plan, most: int = _WINDOWS, *, localizers: Sequence[Engine] = ()) -> Floats:
    """Windows of an image as input for the plan's networks.

    Args:
        volume: the image.
        plan: plan of the networks.
        most: largest number of windows, evenly spaced when there are more.
        localizers: of the network's fold in a cascade, whose map the network sees, too.
    Returns: (N, C, *patch), without the last axis for 2-D networks.
    Raises: DataError, GeometryError as `prepare`.
    """
    prepared = prepare(volume, plan.preprocessing)
    starts = list(Tiling.of(prepared.record.model_shape, plan.patch_size, 0.5, (0, 1, 2)))
    chosen = [starts[index] for index in np.unique(np.linspace(0, len(starts) - 1, most).round().astype(int))]
    context = coarse_map(localizers, plan, volume)
    return Feed(prepared.array, plan.patch_size, Blending(), context).windows([(start, ()) for start in chosen])


def compare_engines(
    engines: Mapping[str, Engine],
    windows: Floats,
    plan: Plan,
    *,
    repeat: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> list[EngineTiming]:
    """Time every engine on the windows, in turns, so that other load on the machine affects all of them.

    Args:
        engines: engines by name, the reference first.
        windows: (N, C, *patch).
        plan: plan of the networks.
        repeat: number of rounds.
        advance: called after each engine's turn.
    Returns: the timings in the order of the engines.
    """
    logits = {name: _answer(engine, windows) for name, engine in engines.items()}  # warm up first
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
    """The fastest of the accurate engines; the reference is always accurate."""
    return min((each for each in measured if each.exact), key=lambda each: each.typical)


def _answer(engine: Engine, windows: Floats) -> Floats:
    parts = (windows[first : first + engine.batch] for first in range(0, len(windows), engine.batch))
    return np.concatenate([engine(part).logits for part in parts])


def _agreement(reference: Floats, other: Floats, plan: Plan) -> float:
    """Mean Dice over the labels in either mask, all windows together; 1 if both are empty."""
    pairs = zip(_masks(reference, plan), _masks(other, plan), strict=True)
    scores = [count(expected, given).dice for expected, given in pairs]
    known = [dice for dice in scores if not np.isnan(dice)]
    return float(np.mean(known)) if known else 1.0


def _masks(logits: Floats, plan: Plan) -> list[npt.NDArray[np.bool_]]:
    """The mask of each foreground label or region in all windows, from logits; for regions, a logit above 0."""
    joined = np.moveaxis(logits, 1, 0)
    return label_masks(joined + np.float32(0.5) if plan.regions else joined, plan)
