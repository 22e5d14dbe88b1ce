"""`Member`: one trained run inside a segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.inference.engines.engine import Engine
from attunet.inference.outputs import activate
from attunet.inference.windows.running import Windows
from attunet.inference.windows.sliding_window import Stitched, sliding_window

__all__ = ["Member", "Pass", "gate_strides"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """How a volume is gone through.

    Args: the step between windows as a share of the patch; whether to average over mirrored copies, and whether to keep
        the attention; what to call with the windows just done.
    """

    step: float = 0.5
    mirror: bool = True
    attention: bool = False
    advance: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class Member:
    """A plan and the engines of its folds, whose probabilities are averaged on the model grid.

    Args: name, plan and engines; the temperature that divides the logits, 1 when nothing was calibrated; how far above
        its image's minimum a window of a prepared image must reach to be worth running (see `air.py`), None to run all.
    """

    name: str
    plan: Plan
    engines: tuple[Engine, ...]
    temperature: float = 1.0
    air: float | None = None

    def answer(self, image: Floats, how: Pass) -> Stitched:
        """Probabilities (as `logits` of the result) and attention for a prepared image, on the model grid."""
        total = self._run(self.engines[0], image, how)
        for engine in self.engines[1:]:
            one = self._run(engine, image, how)
            np.add(total.logits, one.logits, out=total.logits)
            for gate, alpha in one.attention.items():
                np.add(total.attention[gate], alpha, out=total.attention[gate])
        for array in (total.logits, *total.attention.values()):
            array /= len(self.engines)
        return total

    def blending(self, how: Pass) -> Windows:
        """How its windows are run in such a pass."""
        axes = self.plan.mirror_axes if how.mirror else ()
        return Windows(axes, _exchange(self.plan), how.attention, gate_strides(self.plan), how.advance)

    def _run(self, engine: Engine, image: Floats, how: Pass) -> Stitched:
        blending = self.blending(how)
        stitched = sliding_window(
            image,
            engine,
            self.plan.patch_size,
            classes=len(self.plan.outputs),
            step=how.step,
            mirror_axes=blending.mirror_axes,
            exchange=blending.exchange,
            attention=blending.attention,
            strides=blending.strides,
            advance=blending.advance,
        )
        return Stitched(activate(stitched.logits, self.plan, self.temperature), stitched.attention)


def gate_strides(plan: Plan) -> dict[str, tuple[int, int, int]]:
    """Of each level, the model voxels along each axis that one of its coefficients stands for."""
    finest = (1,) * plan.network.spatial_dims
    totals = np.cumprod([finest, *plan.network.strides], axis=0).tolist()
    return {f"level{level}": (*total, 1)[:3] for level, total in enumerate(totals, start=1)}


def _exchange(plan: Plan) -> dict[int, list[int]]:
    """The left-right axis, and where each output's channel lies in a copy that is mirrored along it."""
    if not plan.mirror_swaps:
        return {}
    partner = {name: other for pair in plan.mirror_swaps for name, other in (pair, pair[::-1])}
    return {plan.left_right: [plan.outputs.index(partner.get(name, name)) for name in plan.outputs]}
