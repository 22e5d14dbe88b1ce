"""What the gates do while they are trained: figures for each epoch, and a word when one of them does nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from attunet.gates import attention_map_names
from attunet.training.callbacks.history import History
from attunet.training.callbacks.schedule import Schedule
from attunet.training.module import TrainingModule

__all__ = ["GateStatistics", "GateWatch", "gate_statistics"]

_CLOSED, _OPEN = 0.05, 0.95
_EVERY = 5
"""Steps from one that is measured to the next: a passing over few voxels, not worth doing each time."""
_NEARLY_ALL = 0.99
_PASSES = 0.5
_NEARLY_OPEN = 0.9
"""A gate whose coefficients are nearly all above this chooses nothing either: it starts flat at 0.95, and stayed so."""
_TIME_TO_LEARN, _STEPS_TO_LEARN = 0.4, 200
"""Share of the budget, and steps, before which no gate is judged: all of them start open."""


@dataclass(frozen=True)
class GateStatistics:
    """The coefficients of one map over voxels and patches.

    mean and sd (spread); closed and open: shares below 0.05 and above 0.95; largest.
    """

    mean: float
    sd: float
    closed: float
    open: float
    largest: float

    def columns(self, name: str) -> dict[str, float]:
        """As columns of log.csv."""
        found = {"mean": self.mean, "sd": self.sd, "closed": self.closed, "open": self.open}
        return {f"gate_{name}_{key}": round(value, 5) for key, value in found.items()}


def gate_statistics(steps: list[Mapping[str, Tensor]]) -> dict[str, GateStatistics]:
    """The figures of every map, from those of some steps (see `_measured`), all of which count the same."""
    found: dict[str, GateStatistics] = {}
    for gate in steps[0] if steps else ():
        # To the CPU only here: a GPU would have to be waited for after each step.
        figures = torch.stack([step[gate] for step in steps]).double().cpu()
        mean, variance, closed, opened, _ = figures.mean(0)
        variance = variance + figures[:, 0].var(0, correction=0)
        largest = figures[:, 4].amax(0)
        rows = torch.stack([mean, variance.sqrt(), closed, opened, largest], 1).tolist()
        names = attention_map_names(gate, len(rows))
        found |= {name: GateStatistics(*row) for name, row in zip(names, rows, strict=True)}
    return found


class GateWatch(pl.Callback):
    """Measures every fifth step of an epoch, in the first process; tells once of a gate that is dead or always open."""

    def __init__(self, schedule: Schedule, history: History, notice: Callable[[str], None]) -> None:
        self._schedule, self._history, self._notice = schedule, history, notice
        self._steps: list[Mapping[str, Tensor]] = []
        self._told: list[str] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure the step that was taken."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero and batch_idx % _EVERY == 0:
            self._steps.append({name: _measured(alpha) for name, alpha in pl_module.attention.items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the figures to the history, and say what they mean when a gate does nothing."""
        found = gate_statistics(self._steps)
        self._steps = []
        learnt = self._schedule.progress >= _TIME_TO_LEARN and trainer.global_step >= _STEPS_TO_LEARN
        for name, figures in found.items():
            self._history.add_gates(figures.columns(name))
            words = _verdict(name, figures)
            if words and learnt and name not in self._told:
                self._told.append(name)
                self._notice(words)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"told": self._told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._told = list(state_dict["told"])


def _measured(alpha: Tensor) -> Tensor:
    """Mean, variance, shares closed and open, and the maximum of each map of (B, maps, *grid): (5, maps)."""
    values = alpha.float().movedim(1, 0).flatten(1)
    variance, mean = torch.var_mean(values, 1, correction=0)
    closed, opened = (values < _CLOSED).float().mean(1), (values > _OPEN).float().mean(1)
    return torch.stack([mean, variance, closed, opened, values.amax(1)])


def _verdict(name: str, figures: GateStatistics) -> str:
    """What is wrong with a gate in plain words; nothing when it does its work.

    One that opens on a few voxels only may have found a small organ: it is not dead.
    """
    if figures.closed >= _NEARLY_ALL and figures.largest < _PASSES:
        return (
            f"the gate {name} is dead: {figures.closed:.1%} of its coefficients are below {_CLOSED}, so next to "
            "nothing passes, and the network works as if it had no skip connection at that level"
        )
    if figures.open >= _NEARLY_ALL or figures.mean - 2 * figures.sd > _NEARLY_OPEN:
        return (
            f"the gate {name} is always open: its coefficients are {figures.mean:.2f} ± {figures.sd:.2f}, so it "
            "chooses nothing, and the network works as a plain U-Net at that level"
        )
    return ""
