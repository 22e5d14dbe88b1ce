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

__all__ = ["Member", "Pass"]

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
        plan = self.plan
        exchange = {plan.left_right: plan.mirrored_outputs} if plan.mirror_swaps else {}
        axes = plan.mirror_axes if how.mirror else ()
        return Windows(axes, exchange, how.attention, plan.level_strides, how.advance)

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
