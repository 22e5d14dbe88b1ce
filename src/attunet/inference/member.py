"""`Member`: one trained run inside a segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import activate
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.running import Windows
from attunet.inference.windows.sliding_window import Stitched, sliding_window

__all__ = ["Member"]

Floats = npt.NDArray[np.float32]


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

    def answer(self, image: Floats, options: PredictOptions) -> Stitched:
        """Probabilities (as `logits` of the result) and attention for a prepared image, on the model grid."""
        total = self._run(self.engines[0], image, options)
        for engine in self.engines[1:]:
            one = self._run(engine, image, options)
            np.add(total.logits, one.logits, out=total.logits)
            for gate, alpha in one.attention.items():
                np.add(total.attention[gate], alpha, out=total.attention[gate])
        for array in (total.logits, *total.attention.values()):
            array /= len(self.engines)
        return total

    def blending(self, options: PredictOptions, on_windows: Callable[[int], None] = lambda _: None) -> Windows:
        """How its windows are run with such options."""
        plan = self.plan
        exchange = {plan.left_right: plan.mirrored_outputs} if plan.mirror_swaps else {}
        axes = plan.mirror_axes if options.mirror else ()
        return Windows(axes, exchange, options.attention, plan.level_strides, on_windows)

    def _run(self, engine: Engine, image: Floats, options: PredictOptions) -> Stitched:
        blending = self.blending(options)
        stitched = sliding_window(
            image,
            engine,
            self.plan.patch_size,
            classes=len(self.plan.outputs),
            step=options.step_size,
            mirror_axes=blending.mirror_axes,
            exchange=blending.exchange,
            attention=blending.attention,
            strides=blending.strides,
            advance=blending.advance,
        )
        return Stitched(activate(stitched.logits, self.plan, self.temperature), stitched.attention)
