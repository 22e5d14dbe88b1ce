"""Full-volume validation while training: the predictor itself on whole cases, at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np

from attunet.config import Plan
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.inference.sliding_window import sliding_window
from attunet.inference.torch_engine import TorchEngine
from attunet.nn.weights import save_weights
from attunet.training.history import History
from attunet.training.module import TrainingModule
from attunet.training.paths import FoldPaths
from attunet.training.schedule import Schedule
from attunet.training.store import StoredCase

__all__ = ["FullVolumeValidation"]

_MOST_CASES = 10


class FullVolumeValidation(pl.Callback):
    """Dice per label of the averaged network on up to ten whole validation cases, on the model grid.

    Runs after the first epoch, at the end, and in between as often as its share of the time allows (a share of 1:
    after every epoch); the best weights are written each time they improve.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        plan: Plan,
        fraction: float,
        schedule: Schedule,
        history: History,
        paths: FoldPaths,
    ) -> None:
        step = max(1, -(-len(cases) // _MOST_CASES))
        self._cases = tuple(cases)[::step]
        self._plan = plan
        self._fraction = fraction
        self._schedule = schedule
        self._history = history
        self._paths = paths
        self._spent = 0.0
        self._last = 0.0
        self.best = -1.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate when due."""
        assert isinstance(pl_module, TrainingModule)
        due = self._fraction >= 1 or self._spent + self._last <= self._fraction * self._schedule.elapsed
        if not due and not trainer.should_stop and self._schedule.progress < 1 and trainer.current_epoch > 0:
            return
        started = time.monotonic()
        scores = self.validate(pl_module)
        self._last = time.monotonic() - started
        self._spent += self._last
        known = [score for score in scores.values() if not np.isnan(score)]
        mean = float(np.mean(known)) if known else 0.0  # no label in any case: any weights are as good
        self._history.add_validation(mean, scores)
        if mean >= self.best:
            self.best = mean
            save_weights(pl_module.kept, self._paths.best)

    def validate(self, module: TrainingModule) -> dict[str, float]:
        """Label name to Dice, voxels pooled per case and averaged over the cases in which the label occurs."""
        network = module.kept
        was_training = network.training
        engine = TorchEngine(
            None, network, device=module.device.type, batch=1, low_precision=module.config.precision == "bf16"
        )
        dice = [self._case_dice(case, engine) for case in self._cases]
        network.train(was_training)
        scores = {}
        for index, name in enumerate(self._plan.foreground):
            found = [row[index] for row in dice if not np.isnan(row[index])]
            scores[name] = float(np.mean(found)) if found else float("nan")
        return scores

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best, "spent": self._spent, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self._spent, self._last = state_dict["best"], state_dict["spent"], state_dict["last"]

    def _case_dice(self, case: StoredCase, engine: TorchEngine) -> list[float]:
        label = case.label()[:]
        stitched = sliding_window(case.image()[:], engine, self._plan.patch_size, classes=len(self._plan.labels))
        predicted = stitched.logits.argmax(0)
        known = label != IGNORED
        return [
            _dice((label == index) & known, (predicted == index) & known) for index in range(1, len(self._plan.labels))
        ]


def _dice(reference: Array, predicted: Array) -> float:
    """nan where the label is in neither."""
    total = int(reference.sum()) + int(predicted.sum())
    return 2.0 * int((reference & predicted).sum()) / total if total else float("nan")
