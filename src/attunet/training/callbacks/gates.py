"""Statistics of the gates in each epoch, and a warning when a gate has no effect."""

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

__all__ = ["STEPS_TO_LEARN", "TIME_TO_LEARN", "GateMonitor", "GateStatistics", "gate_statistics"]

_CLOSED, _OPEN = 0.05, 0.95
_EVERY = 5
"""Steps between measurements; measuring every step would cost too much."""
_NEARLY_ALL = 0.99
_PASSES = 0.5
_NEARLY_OPEN = 0.9
"""A gate whose coefficients nearly all exceed this selects nothing: they are still near their initial 0.95."""
TIME_TO_LEARN, STEPS_TO_LEARN = 0.4, 200
"""Share of the budget, and number of steps, before which there are no warnings: all gates start open."""


@dataclass(frozen=True, kw_only=True)
class GateStatistics:
    """Statistics of the coefficients of one map over voxels and patches.

    Args:
        mean: their mean.
        sd: their standard deviation.
        closed: share below 0.05.
        open: share above 0.95.
        largest: the largest of them.
    """

    mean: float
    sd: float
    closed: float
    open: float
    largest: float

    def columns(self, name: str) -> dict[str, float]:
        """The statistics as columns of log.csv."""
        values = {"mean": self.mean, "sd": self.sd, "closed": self.closed, "open": self.open}
        return {f"gate_{name}_{key}": round(value, 5) for key, value in values.items()}


def gate_statistics(steps: list[Mapping[str, Tensor]]) -> dict[str, GateStatistics]:
    """The statistics of every map, from the measurements of some steps (see `_measured`), equally weighted."""
    statistics: dict[str, GateStatistics] = {}
    for gate in steps[0] if steps else ():
        # Moved to the CPU only here: otherwise each step would wait for the GPU.
        measured = torch.stack([step[gate] for step in steps]).double().cpu()
        mean, variance, closed, opened, _ = measured.mean(0)
        variance = variance + measured[:, 0].var(0, correction=0)
        largest = measured[:, 4].amax(0)
        rows = torch.stack([mean, variance.sqrt(), closed, opened, largest], 1).tolist()
        names = attention_map_names(gate, len(rows))
        statistics |= {name: _statistics(row) for name, row in zip(names, rows, strict=True)}
    return statistics


def _statistics(row: list[float]) -> GateStatistics:
    mean, sd, closed, opened, largest = row
    return GateStatistics(mean=mean, sd=sd, closed=closed, open=opened, largest=largest)


class GateMonitor(pl.Callback):
    """Measures every fifth step in the first process, and warns once about each gate that is dead or always open.

    Args:
        schedule: the progress of the training.
        history: receives the statistics of each epoch.
        warn: receives the warnings.
    """

    def __init__(self, schedule: Schedule, history: History, warn: Callable[[str], None]) -> None:
        self._schedule, self._history, self._warn = schedule, history, warn
        self._steps: list[Mapping[str, Tensor]] = []
        self._reported: list[str] = []

    @property
    def state_key(self) -> str:
        """The name in checkpoints, the same as in earlier versions."""
        return "GateWatch"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure this step."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero and batch_idx % _EVERY == 0:
            self._steps.append({name: _measured(alpha) for name, alpha in pl_module.attention.items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the statistics to the history, and warn about gates without effect."""
        statistics = gate_statistics(self._steps)
        self._steps = []
        learnt = self._schedule.progress >= TIME_TO_LEARN and trainer.global_step >= STEPS_TO_LEARN
        for name, measured in statistics.items():
            self._history.add_gates(measured.columns(name))
            warning = _warning(name, measured)
            if warning and learnt and name not in self._reported:
                self._reported.append(name)
                self._warn(warning)

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming."""
        return {"reported": self._reported}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that state; earlier versions called the key `told`."""
        self._reported = list(state_dict["reported"] if "reported" in state_dict else state_dict["told"])


def _measured(alpha: Tensor) -> Tensor:
    """Mean, variance, shares closed and open, and the maximum of each map of (B, maps, *grid): (5, maps)."""
    values = alpha.float().movedim(1, 0).flatten(1)
    variance, mean = torch.var_mean(values, 1, correction=0)
    closed, opened = (values < _CLOSED).float().mean(1), (values > _OPEN).float().mean(1)
    return torch.stack([mean, variance, closed, opened, values.amax(1)])


def _warning(name: str, measured: GateStatistics) -> str:
    """The warning about a gate; empty when there is none.

    A gate that opens only on a few voxels may follow a small organ, so it is not dead.
    """
    if measured.closed >= _NEARLY_ALL and measured.largest < _PASSES:
        return (
            f"the gate {name} is dead: {measured.closed:.1%} of its coefficients are below {_CLOSED}, so almost "
            "nothing passes, and the network works as if it had no skip connection at that level"
        )
    if measured.open >= _NEARLY_ALL or measured.mean - 2 * measured.sd > _NEARLY_OPEN:
        return (
            f"the gate {name} is always open: its coefficients are {measured.mean:.2f} ± {measured.sd:.2f}, so it "
            "selects nothing, and the network works as a plain U-Net at that level"
        )
    return ""
